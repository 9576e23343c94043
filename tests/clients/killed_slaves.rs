//! A slave is killed in the middle of a transfer, and the client continues on another slave.

use std::fs;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::harness::{SOON, TestDir, content, eventually, staged_bytes};
use crate::site::{assert_same, cluster, succeed, words};

#[test]
fn a_download_continues_on_another_slave() {
    let whole = content(70, 20_000_000);
    let (mut cluster, ftp) = cluster(2, &[("large.bin", whole.clone())]);
    let local = TestDir::new();
    let urls = ftp.iter().map(|addr| format!("ftp://{addr}/large.bin")).collect::<Vec<_>>();
    let mut client = Command::new("curl")
        .args(["-s", "--limit-rate", "2M", "-o", "got", &urls[0]])
        .current_dir(local.path())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let got = local.path().join("got");
    eventually(SOON, "a part has come", || {
        fs::metadata(&got).is_ok_and(|meta| meta.len() > 1_000_000).then_some(())
    });
    cluster.slaves[0].program.kill();
    assert!(!client.wait().unwrap().success(), "curl reports that the transfer was cut");
    let part = fs::read(&got).unwrap();
    assert!(part.len() < whole.len() && part == whole[..part.len()]);
    succeed("curl", &words(["-sS", "-C", "-", "-o", "got", &urls[1]]), local.path());
    assert_same(&fs::read(&got).unwrap(), &whole, "continued");
}

#[test]
fn a_cut_upload_starts_again_on_another_slave() {
    let old = content(71, 3_000_000);
    let (mut cluster, ftp) = cluster(2, &[("large.bin", old.clone())]);
    let (local, sent) = (TestDir::new(), content(72, 8_000_000));
    fs::write(local.path().join("sent"), &sent).unwrap();
    let urls = ftp.iter().map(|addr| format!("ftp://{addr}/large.bin")).collect::<Vec<_>>();
    let mut client = Command::new("curl")
        .args(["-s", "--limit-rate", "1M", "-T", "sent", &urls[0]])
        .current_dir(local.path())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    eventually(SOON, "a part has come", || {
        (staged_bytes(&cluster.slaves[0].root) > 500_000).then_some(())
    });
    cluster.slaves[0].program.signal_group(Signal::SIGKILL);
    cluster.slaves[0].program.kill();
    assert!(!client.wait().unwrap().success());
    let stored = cluster.slaves[1].root.join("large.bin");
    assert_same(&fs::read(&stored).unwrap(), &old, "the old content stays");
    succeed("curl", &words(["-sS", "-T", "sent", &urls[1]]), local.path());
    assert_same(&fs::read(&stored).unwrap(), &sent, "sent again");
    // The slave that comes back has the new content, and no part of the cut upload.
    cluster.restart_slave(0);
    cluster.wait_in_service(2);
    let first = cluster.slaves[0].root.join("large.bin");
    eventually(SOON, "the first slave has the new content", || {
        (fs::read(&first).ok()? == sent).then_some(())
    });
}
