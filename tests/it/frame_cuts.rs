//! Pipelined transfers of small files whose connection is cut after each frame in turn.
//!
//! However the connection ends, the same command resumes on another one, and both folders are
//! equal.

use std::fs;
use std::path::Path;

use crate::harness::{Client, Fault, Proxy, Standalone, content};

/// Most frames that a connection of these transfers may have.
const MOST: u64 = 500;
/// Sizes of the files: empty ones, small ones, and one of several blocks.
const SIZES: [usize; 7] = [0, 1, 3000, 0, 70_000, 12, 5000];

/// Arms a cut after so many frames.
type Arm = fn(&Proxy, u64, Fault);

fn write_files(folder: &Path) {
    for (n, size) in (0..).zip(SIZES) {
        let at = folder.join(format!("t/{}", n % 2));
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join(format!("f{n}")), content(n, size)).unwrap();
    }
}

/// Requires that a folder has exactly the files.
#[track_caller]
fn assert_complete(folder: &Path, what: &str) {
    for (n, size) in (0..).zip(SIZES) {
        let name = format!("t/{}/f{n}", n % 2);
        let found = fs::read(folder.join(&name)).unwrap_or_else(|e| panic!("{what}: {name}: {e}"));
        assert!(found == content(n, size), "{what}: {name} differs");
    }
    let count = |name| fs::read_dir(folder.join(name)).unwrap().count();
    assert_eq!(count("t/0") + count("t/1"), SIZES.len(), "{what}: there are other files");
}

/// Runs a command with a cut after each frame of its first connection, until none is left.
fn cut_after_each_frame(
    slave: &Standalone,
    command: &str,
    arm: Arm,
    check: impl Fn(&Client, &str),
) {
    let proxy = Proxy::to(slave.addr);
    for n in 0.. {
        assert!(n < MOST, "the cut after frame {n} still strikes");
        let client = Client::new(proxy.addr());
        write_files(&client.folder().join("from"));
        arm(&proxy, n, Fault::Cut);
        client.run(&["-c", command]).ok();
        let has_struck = proxy.struck();
        proxy.disarm();
        check(&client, &format!("{command} with a cut after {n} frames"));
        if !has_struck {
            // Log-in, folders, and at least a frame for each file.
            assert!(n > SIZES.len() as u64, "only {n} frames have passed");
            return;
        }
    }
}

#[test]
fn a_batch_of_gets_is_cut_after_each_reply() {
    let slave = Standalone::start(&[], &[]);
    write_files(&slave.root);
    slave.wait_listed("t", true);
    cut_after_each_frame(&slave, "get -r t", Proxy::fault_after_reply, |client, what| {
        assert_complete(&client.folder(), what);
    });
}

/// Puts the files with cuts; they are removed after each put.
fn puts_are_cut(arm: Arm) {
    let slave = Standalone::start(&[], &[]);
    let direct = slave.client();
    cut_after_each_frame(&slave, "put -r from/t", arm, |_, what| {
        assert_complete(&slave.root, what);
        direct.run(&["-c", "rm -r t"]).ok();
    });
}

#[test]
fn a_batch_of_puts_is_cut_after_each_request() {
    puts_are_cut(Proxy::fault_after_request);
}

#[test]
fn a_batch_of_puts_is_cut_after_each_reply() {
    puts_are_cut(Proxy::fault_after_reply);
}
