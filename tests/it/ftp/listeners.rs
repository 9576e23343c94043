//! The listeners of FTP: options, ready lines, addresses.

use std::net::{SocketAddr, TcpListener};

use super::{FtpTestClient, ftp_address, start_ftp};
use crate::cluster::helpers::{operate, report};
use crate::harness::{Cluster, ProgramBuilder, SOON, Standalone, TestDir};

#[test]
fn each_listener_has_a_ready_line() {
    let args = ["--ftp", "127.0.0.1:0", "--ftps", "0"];
    let slave = Standalone::start(&args, &[]);
    let [ftp, ftps] = ["ftp", "ftps"].map(|protocol| ftp_address(&slave.program, protocol));
    let text = slave.program.stdout.text();
    let pid = slave.program.pid();
    let expected = [
        format!("ready role=slave addr={} pid={pid}", slave.addr),
        format!("ready role=slave protocol=ftp addr={ftp} pid={pid}"),
        format!("ready role=slave protocol=ftps addr={ftps} pid={pid}"),
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    assert!(ftp.port() != ftps.port() && ftps.ip().is_loopback());
    FtpTestClient::connect(ftp).expect("QUIT", 221);
}

#[test]
fn without_options_no_ftp_listens() {
    let slave = Standalone::start(&[], &[]);
    assert_eq!(slave.program.stdout.text().lines().count(), 1);
}

#[test]
fn an_ftp_port_in_use_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = TestDir::new();
    let addr = taken.local_addr().unwrap().to_string();
    let mut program = ProgramBuilder::new("ftpslave", dir.path())
        .args(["0", "--standalone", "--root"])
        .args([dir.folder("root")])
        .args(["--ftp", &addr])
        .start();
    assert_eq!(program.wait(SOON), 3);
    assert!(program.stderr.ends_within(SOON));
    assert!(program.stderr.text().contains(&format!("cannot listen on {addr}")));
}

#[test]
fn contradictory_options_are_a_usage_error() {
    let dir = TestDir::new();
    for args in [
        &["--ftps", "0", "--ftp-tls", "off"][..],
        &["--ftp-tls", "offered"],
        &["--ftp-passive", "50000-50010"],
        &["--ftp", "0", "--ftp-passive", "50010-50000"],
        &["--ftp", "localhost:21"],
        &["--ftp", "0", "--ftp-public", "::1"],
        &["--trusted-proxy", "10.0.0.0/33"],
    ] {
        let mut program = ProgramBuilder::new("ftpslave", dir.path())
            .args(["0", "--standalone", "--root"])
            .args([dir.folder("root")])
            .args(args)
            .start();
        assert_eq!(program.wait(SOON), 2, "{args:?}");
    }
}

#[test]
fn every_listener_counts_for_writing_without_accounts() {
    for (ftp, writable) in [("127.0.0.1:0", true), ("0.0.0.0:0", false)] {
        let slave = Standalone::start(&["--ftp", ftp], &[]);
        let addr =
            SocketAddr::new([127, 0, 0, 1].into(), ftp_address(&slave.program, "ftp").port());
        let mut client = FtpTestClient::anonymous(addr);
        client.expect("MKD made", if writable { 257 } else { 550 });
        assert_eq!(slave.root.join("made").exists(), writable);
    }
}

#[test]
fn a_draining_slave_takes_no_ftp_clients() {
    let cluster = Cluster::of(1).slave_args(&["--ftp", "127.0.0.1:0"]).start();
    let addr = ftp_address(&cluster.slaves[0].program, "ftp");
    let mut session = FtpTestClient::anonymous(addr);
    let mut login = FtpTestClient::connect(addr);
    login.expect("USER anonymous", 331);
    let id = report(&cluster, 0)["id"].as_str().unwrap().to_owned();
    operate(&cluster, &["drain", &id]).ok();
    assert_eq!(session.reply().code, 421);
    login.expect("PASS x", 421);
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    let mut greeting = String::new();
    std::io::Read::read_to_string(&mut stream, &mut greeting).unwrap();
    assert!(greeting.starts_with("421 ") && greeting.lines().count() == 1, "{greeting}");
}

#[test]
fn a_slave_that_ends_closes_sessions_and_logins() {
    let (mut slave, addr) = start_ftp(&[], &[]);
    let (mut session, mut login) = (FtpTestClient::anonymous(addr), FtpTestClient::connect(addr));
    assert_eq!(slave.program.stop(nix::sys::signal::Signal::SIGTERM), 0);
    assert!(login.try_reply().is_none());
    assert_eq!(session.try_reply().map(|reply| reply.code), Some(421));
}
