//! Downloads of every size around the block size, interrupted at every critical byte.
//!
//! The client is killed, the slave is killed, or the connection is cut.

use std::collections::BTreeSet;

use super::{DownloadFixture, GET, GET_ONCE, assert_absent_or_whole, converge};
use crate::harness::{Client, Fault, content};

/// Returns the bytes at which a file of `size` in blocks of `block` is interrupted.
fn points(size: usize, block: usize) -> BTreeSet<u64> {
    let all = [0, 1, block.saturating_sub(1), block, block + 1, size.saturating_sub(1), size];
    all.into_iter().filter(|n| *n <= size).map(|n| n as u64).collect()
}

/// Tests every size and point for one block size; `interrupt` leaves an unfinished get.
fn matrix(block: usize, sizes: &[usize], interrupt: impl Fn(&mut DownloadFixture, &Client, u64)) {
    for &size in sizes {
        let bytes = content(size as u64 + 1, size);
        let mut fixture = DownloadFixture::new(block, &bytes);
        for n in points(size, block) {
            let client = fixture.client();
            interrupt(&mut fixture, &client, n);
            assert_absent_or_whole(&client, &bytes);
            converge(&client, &bytes);
        }
    }
}

fn all_sizes(block: usize) -> Vec<usize> {
    vec![0, 1, block - 1, block, block + 1, 10 * block + 7]
}

fn client_killed(block: usize) {
    matrix(block, &all_sizes(block), |fixture, client, n| {
        let (mut program, _) = fixture.freeze(client, GET, n);
        program.kill();
        fixture.proxy.cut_all();
    });
}

fn slave_killed(block: usize) {
    matrix(block, &[block + 1, 10 * block + 7], |fixture, client, n| {
        let (mut program, _) = fixture.freeze(client, GET_ONCE, n);
        fixture.slave.program.kill();
        fixture.proxy.release();
        let output = Client::finish(&mut program);
        // Bytes in flight still arrive; they may have completed the file.
        assert!(matches!(output.status, 0 | 5), "{output:?}");
        fixture.slave.restart();
        fixture.proxy.set_target(fixture.slave.addr);
    });
}

fn line_cut(block: usize) {
    matrix(block, &all_sizes(block), |fixture, client, n| {
        fixture.proxy.fault_at_content(n, Fault::Cut);
        let output = client.run(GET);
        assert!(matches!(output.status, 0 | 5), "{output:?}");
        fixture.proxy.disarm();
    });
}

macro_rules! blocks {
    ($($name:ident = $size:expr;)*) => {$(
        mod $name {
            #[test]
            fn client_killed() {
                super::client_killed($size);
            }
            #[test]
            fn slave_killed() {
                super::slave_killed($size);
            }
            #[test]
            fn line_cut() {
                super::line_cut($size);
            }
        }
    )*};
}
blocks! {
    blocks_of_9_bytes = 9;
    blocks_of_4_kib = 4096;
    blocks_of_64_kib = 64 << 10;
    blocks_of_1_mib = 1 << 20;
    blocks_of_4_mib = 4 << 20;
}

#[test]
fn cut_after_each_byte_of_the_server() {
    let bytes = content(3, 20);
    let fixture = DownloadFixture::new(9, &bytes);
    for n in 0.. {
        let client = fixture.client();
        fixture.proxy.fault_down(n, Fault::Cut);
        let output = client.run(GET);
        assert!(matches!(output.status, 0 | 3 | 5), "cut behind byte {n}: {output:?}");
        assert_absent_or_whole(&client, &bytes);
        let struck = fixture.proxy.struck();
        fixture.proxy.disarm();
        converge(&client, &bytes);
        if !struck {
            assert!(n > 60, "the server cannot have sent only {n} bytes");
            return;
        }
    }
}

#[test]
fn cut_after_each_byte_of_the_client() {
    let bytes = content(3, 20);
    let fixture = DownloadFixture::new(9, &bytes);
    for n in 0.. {
        let client = fixture.client();
        fixture.proxy.fault_up(n, Fault::Cut);
        let output = client.run(GET);
        assert!(matches!(output.status, 0 | 3 | 5), "cut behind byte {n}: {output:?}");
        assert_absent_or_whole(&client, &bytes);
        let struck = fixture.proxy.struck();
        fixture.proxy.disarm();
        converge(&client, &bytes);
        if !struck {
            assert!(n > 40, "the client cannot have sent only {n} bytes");
            return;
        }
    }
}
