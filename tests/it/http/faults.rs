//! Faults below HTTP: races of two slaves, a full disk, killed workers, a stopping slave.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;

use nix::sys::signal::{Signal, kill};

use super::{HttpTestClient, start_http};
use crate::ftp::ftp_address;
use crate::harness::{
    Cluster, SOON, Standalone, TestDir, Volume, content, eventually, process_of, wait_unstaged,
};

#[test]
fn of_several_puts_on_two_slaves_one_makes_the_file() {
    let cluster = Cluster::of(2).slave_args(&["--http", "127.0.0.1:0"]).start();
    let slaves = [0, 1].map(|n| ftp_address(&cluster.slaves[n].program, "http"));
    for round in 0..5 {
        let line = format!("PUT /f{round}");
        let put = |number: usize| {
            let body = format!("content {number}");
            let fields = ["If-None-Match: *"];
            let mut client = HttpTestClient::connect(slaves[number % 2]);
            (client.request(&line, &fields, body.as_bytes()).status, body)
        };
        let answers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6).map(|number| scope.spawn(move || put(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let made: Vec<_> = answers.iter().filter(|(status, _)| *status == 201).collect();
        let refused = answers.iter().filter(|(status, _)| *status == 412).count();
        assert_eq!((made.len(), refused), (1, 5), "{answers:?}");
        for slave in slaves {
            eventually(SOON, "the slave has the file", || {
                let read = HttpTestClient::connect(slave).get(&format!("/f{round}"));
                (read.text() == made[0].1).then_some(())
            });
        }
    }
}

#[test]
fn a_full_disk_publishes_nothing() {
    let volume = Volume::mount("size=24m");
    fs::create_dir(volume.path().join("root")).unwrap();
    let root = volume.inside().join("root");
    let slave = Standalone::start_in(
        TestDir::new(),
        root,
        &["--http", "127.0.0.1:0", "--workers", "1"],
        &volume.under(),
    );
    let addr = ftp_address(&slave.program, "http");
    assert_eq!(HttpTestClient::connect(addr).request("PUT /old", &[], b"old").status, 201);
    // Sizes that are announced, up to absurd ones.
    for size in [40 << 20, u64::from(u32::MAX), 1 << 63, u64::MAX] {
        let mut client = HttpTestClient::connect(addr);
        let head = format!("PUT /new HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n");
        client.send(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes());
        assert_eq!(client.answer(false).status, 507, "{size}");
    }
    // One that is not.
    let mut client = HttpTestClient::connect(addr);
    client.send(b"PUT /new HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = [b"100000\r\n".as_slice(), &content(1, 1 << 20), b"\r\n"].concat();
    let mut stream = client.stream().try_clone().unwrap();
    // The slave answers before it has read everything.
    let _ = (0..40).try_for_each(|_| stream.write_all(&chunk));
    assert_eq!(client.answer(false).status, 507);
    wait_unstaged(&volume.path().join("root"));
    let mut client = HttpTestClient::connect(addr);
    assert_eq!((client.get("/new").status, client.get("/old").body), (404, b"old".to_vec()));
    assert_eq!(client.request("PUT /new", &[], b"small").status, 201);
}

#[test]
fn a_killed_worker_ends_its_connections_alone() {
    let (slave, addr) = start_http(&["--workers", "1"], &[("f", b"content")]);
    let mut kept = HttpTestClient::connect(addr);
    assert_eq!(kept.get("/f").status, 200);
    kill(process_of(&slave.program, "Worker(0)"), Signal::SIGKILL).unwrap();
    assert!(kept.is_closed());
    eventually(SOON, "another worker serves", || (try_get(addr)? == b"content").then_some(()));
}

/// Returns the body of `/f`; none if the connection fails.
fn try_get(addr: SocketAddr) -> Option<Vec<u8>> {
    let stream = std::net::TcpStream::connect(addr).ok()?;
    let mut client = HttpTestClient::over(stream);
    client.stream().write_all(b"GET /f HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    client.try_answer(false).map(|answer| answer.body)
}

#[test]
fn a_stopping_slave_ends_kept_and_half_requests() {
    let (mut slave, addr) = start_http(&["--grace", "1"], &[("f", b"content")]);
    let mut kept = HttpTestClient::connect(addr);
    assert_eq!(kept.get("/f").status, 200);
    let mut half = HttpTestClient::connect(addr);
    half.send(b"GET /f HTTP/1.1\r\nHo");
    let mut body = HttpTestClient::connect(addr);
    body.send(b"PUT /new HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\npart");
    assert_eq!(slave.program.stop(Signal::SIGTERM), 0);
    assert!(kept.is_closed() && half.is_closed() && body.try_answer(false).is_none());
    assert!(!slave.root.join("new").exists());
}
