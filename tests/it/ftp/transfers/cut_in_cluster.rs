//! Uploads that are cut at one slave of a cluster, and continued at another one.

use std::io::Write;
use std::net::SocketAddr;

use super::super::{FtpTestClient, ftp_address};
use crate::cluster::helpers::wait_settled;
use crate::harness::{Cluster, SOON, content, eventually};

/// Bytes that were sent before the cut.
const SENT: usize = 300_000;

/// Starts two slaves that serve FTP, with the file `f`.
fn start() -> (Cluster, [SocketAddr; 2]) {
    let builder = Cluster::of(2).slave_args(&["--ftp", "127.0.0.1:0"]);
    let cluster = builder.start();
    let addrs = [0, 1].map(|n| ftp_address(&cluster.slaves[n].program, "ftp"));
    FtpTestClient::anonymous(addrs[0]).put("STOR f", b"old content");
    wait_settled(&cluster);
    (cluster, addrs)
}

fn wait_size(addr: SocketAddr, code: u16, size: Option<usize>) {
    let mut ftp = FtpTestClient::anonymous(addr);
    eventually(SOON, &format!("SIZE is {code} {size:?}"), || {
        let reply = ftp.command("SIZE f");
        let fits = size.is_none_or(|size| reply.text() == size.to_string());
        (reply.code == code && fits).then_some(())
    });
}

/// Runs an upload that is refused before any data.
#[track_caller]
fn refuse(ftp: &mut FtpTestClient, line: &str) {
    let _data = ftp.passive();
    ftp.expect(line, 450);
}

/// Begins an upload at the first slave, and cuts it once the second one knows of it.
fn cut(addrs: [SocketAddr; 2], bytes: &[u8]) {
    let mut ftp = FtpTestClient::anonymous(addrs[0]);
    let mut data = ftp.begin("STOR f");
    data.write_all(&bytes[..SENT]).unwrap();
    eventually(SOON, "the bytes are received", || {
        ftp.command("STAT").text().contains(&format!(" {SENT} bytes")).then_some(())
    });
    wait_size(addrs[1], 550, None);
    ftp.kill();
    drop(data);
    wait_size(addrs[0], 213, Some(SENT));
}

#[test]
fn an_upload_cut_at_one_slave_is_not_joined_at_another() {
    let ((cluster, addrs), bytes) = (start(), content(1, 500_000));
    cut(addrs, &bytes);
    let mut other = FtpTestClient::anonymous(addrs[1]);
    assert!(other.expect("SIZE f", 550).text().contains("another server"));
    refuse(&mut other, "APPE f");
    other.expect("REST 4", 350);
    refuse(&mut other, "STOR f");
    assert_eq!(other.get("RETR f"), b"old content");
    // It continues where it was cut.
    let mut first = FtpTestClient::anonymous(addrs[0]);
    first.put("APPE f", &bytes[SENT..]);
    assert!(first.get("RETR f") == bytes);
    wait_settled(&cluster);
    wait_size(addrs[1], 213, Some(bytes.len()));
    // Or it starts again, and the part at the first slave is discarded.
    cut(addrs, &bytes);
    other.put("STOR f", b"started again");
    wait_size(addrs[0], 213, Some(b"started again".len()));
    first.put("APPE f", b"!");
    assert_eq!(first.get("RETR f"), b"started again!");
}

#[test]
fn a_dead_slave_discards_its_part_after_the_upload_started_again() {
    let ((mut cluster, addrs), bytes) = (start(), content(1, 500_000));
    cut(addrs, &bytes);
    cluster.slaves[0].program.kill();
    let mut other = FtpTestClient::anonymous(addrs[1]);
    other.expect("SIZE f", 550);
    refuse(&mut other, "APPE f");
    other.put("STOR f", b"started again");
    other.expect("SIZE f", 213);
    cluster.restart_slave(0);
    cluster.wait_in_service(2);
    wait_settled(&cluster);
    let addr = ftp_address(&cluster.slaves[0].program, "ftp");
    wait_size(addr, 213, Some(b"started again".len()));
    let mut first = FtpTestClient::anonymous(addr);
    first.put("APPE f", b"!");
    assert_eq!(first.get("RETR f"), b"started again!");
}
