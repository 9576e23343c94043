//! Peers with another protocol or another cluster key: the peer and the operator get a clear error.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::{Client, Cluster, ProgramBuilder, SOON, Standalone, TestDir};

/// Longer than the login timeout.
const LONGEST: Duration = Duration::from_secs(60);

/// Returns everything that the server sends until it closes the connection.
#[track_caller]
fn answer(server: SocketAddr, said: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(LONGEST)).unwrap();
    stream.write_all(said).unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    heard
}

#[test]
fn foreign_protocols_get_one_readable_line() {
    let cluster = Cluster::of(0).start();
    let slave = Standalone::start(&["--tls", "never"], &[]);
    let silent = TcpStream::connect(cluster.addr).unwrap();
    for server in [cluster.addr, slave.addr] {
        for (said, begins) in [
            (&b"GET / HTTP/1.1\r\nHost: files\r\n\r\n"[..], "HTTP/1.1 400 "),
            (b"USER anonymous\r\n", "421 "),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-Relais "),
        ] {
            let heard = answer(server, said);
            let text = String::from_utf8_lossy(&heard);
            assert!(text.starts_with(begins), "{text:?}");
            assert!(text.contains("This port speaks the Relais protocol"), "{text:?}");
        }
    }
    // A server without TLS answers a handshake with an alert.
    let hello = [0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0];
    assert_eq!(answer(slave.addr, &hello), [0x15, 3, 3, 0, 2, 2, 70]);
    cluster.master.stderr.wait_for(SOON, "the log names one of the peers", |log| {
        log.contains(": connection rejected").then_some(())
    });
    // An FTP client waits for the server to speak first.
    let mut heard = String::new();
    silent.set_read_timeout(Some(LONGEST)).unwrap();
    (&silent).read_to_string(&mut heard).unwrap();
    assert!(heard.starts_with("421 ") && heard.ends_with("\r\n"), "{heard:?}");
}

#[test]
fn a_slave_with_another_key_is_in_the_masters_log() {
    let cluster = Cluster::of(0).start();
    let other = Cluster::of(0).start();
    let dir = &other.dir;
    let mut slave = ProgramBuilder::new("ftpslave", dir.path())
        .args(["0", "--master", &cluster.addr.to_string(), "--root"])
        .args([dir.folder("root"), "--cluster-key".into(), other.key()])
        .start();
    slave.ready();
    let line = cluster.master.stderr.wait_for(SOON, "the master names the slave", |log| {
        log.lines().find(|line| line.contains("without proving the cluster key")).map(str::to_owned)
    });
    assert!(line.contains("127.0.0.1:"), "{line}");
    assert!(line.contains("a slave that claims"), "{line}");
    slave.stderr.wait_for(SOON, "the slave names its key file", |log| {
        log.contains(other.key().to_str().unwrap()).then_some(())
    });
    // The slave retries each second; the log has at most one line a minute about it.
    cluster.master.stderr.wait_for(SOON, "the slave has tried four times", |log| {
        (log.matches("Slave ftpslave").count() >= 4).then_some(())
    });
    assert_eq!(cluster.master.stderr.text().matches("without proving").count(), 1);
    let args = ["status", "--master", &cluster.addr.to_string(), "--cluster-key"];
    let status =
        ProgramBuilder::new("ftpmaster", dir.path()).args(args).args([other.key()]).start();
    let output = Client::finish(&mut { status }).fails(1);
    assert!(output.stderr.contains("the named key is not the master's"), "{output:?}");
}

#[test]
fn status_names_the_option_for_a_master_without_tls() {
    let dir = TestDir::new();
    let state = dir.folder("state");
    let program = |args: &[&str]| {
        ProgramBuilder::new("ftpmaster", dir.path())
            .args(args)
            .args([&"--state".into(), &state])
            .start()
    };
    let mut master = program(&["--listen", "127.0.0.1:0", "--tls", "never"]);
    let addr = master.ready().to_string();
    let mut status = program(&["status", "--master", &addr, "--tls", "always"]);
    let output = Client::finish(&mut status).fails(1);
    assert!(output.stderr.contains("answers") && output.stderr.contains("--tls never"));
}
