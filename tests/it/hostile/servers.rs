//! Hostile servers against the client, and a hostile master against a slave.
//!
//! They send too much, too little, wrong frames, wrong names, redirect loops, or nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use relais_proto::{
    Capabilities, Endpoint, ErrorCode, FrameType, Lsn, PageBuilder, Refusal, Reply, Request,
    ServerRole, SlaveId,
};

use crate::harness::{
    Client, FakeServer, Output, ProgramBuilder, block, header, leftovers, polite,
};

/// Runs a get against a lying server; its only effect must be a clear error.
#[track_caller]
fn get_from_liar(server: &FakeServer, statuses: &[i32]) -> Output {
    let client = Client::new(server.addr);
    let output = client.run(&["--retry", "0", "-c", "get f"]);
    assert!(statuses.contains(&output.status), "{output:?}");
    assert!(!client.folder().join("f").exists(), "{output:?}");
    assert!(!output.stderr.trim().is_empty(), "no error was printed: {output:?}");
    assert_no_escapes(&output);
    output
}

/// Requires that the output has no control characters.
#[track_caller]
fn assert_no_escapes(output: &Output) {
    for text in [&output.stdout, &output.stderr] {
        let bad = text.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(bad, None, "{output:?}");
    }
}

#[test]
fn a_server_that_announces_too_much() {
    for size in [1_u64 << 40, 1 << 60, i64::MAX as u64] {
        let server = FakeServer::standalone(move |_| {
            let mut answer = FakeServer::encoded(&[Reply::ContentHeader(header(size, 0, 4096))]);
            answer.extend(block(&[7; 4096]));
            answer
        });
        // No space, or no data for 5 s: the client neither fills the disk nor hangs.
        get_from_liar(&server, &[1, 3, 5]);
    }
    let server = FakeServer::standalone(|_| {
        let mut frame = FakeServer::encoded(&[Reply::ContentHeader(header(10, 0, 10))]);
        frame[5..13].copy_from_slice(&u64::MAX.to_be_bytes());
        frame
    });
    get_from_liar(&server, &[1, 3, 5]);
}

#[test]
fn a_server_that_sends_wrong_frames() {
    let ten = header(10, 0, 4);
    let end = || FakeServer::encoded(&[Reply::End { digest: relais_proto::Digest([1; 32]) }]);
    let answers: Vec<Vec<u8>> = vec![
        // More, fewer, wrong pieces, no end, a wrong digest, an offset that was not requested.
        [
            FakeServer::encoded(&[Reply::ContentHeader(ten.clone())]),
            block(&[1; 4]),
            block(&[1; 4]),
            block(&[1; 4]),
            end(),
        ]
        .concat(),
        [FakeServer::encoded(&[Reply::ContentHeader(ten.clone())]), block(&[1; 4]), end()].concat(),
        [
            FakeServer::encoded(&[Reply::ContentHeader(ten.clone())]),
            block(&[1; 9]),
            block(&[1; 1]),
            end(),
        ]
        .concat(),
        [FakeServer::encoded(&[Reply::ContentHeader(ten.clone())]), block(&[]), end()].concat(),
        [
            FakeServer::encoded(&[Reply::ContentHeader(ten.clone())]),
            block(&[1; 4]),
            block(&[1; 4]),
            block(&[1; 2]),
            end(),
        ]
        .concat(),
        FakeServer::encoded(&[Reply::ContentHeader(header(10, 5, 4))]),
        FakeServer::encoded(&[Reply::Pong]),
        FakeServer::encoded(&[Reply::Opened {
            slave: SlaveId([1; 16]),
            lsn: Lsn::default(),
            writable: true,
        }]),
        end(),
        vec![0xff; 1000],
        vec![0, 0, 0, 0, 0xee],
        vec![0xff, 0xff, 0xff, 0xff, FrameType::Block.number()],
        FakeServer::encoded(&[Reply::Error(Refusal::new(
            ErrorCode::Storage,
            "the disk is on fire",
        ))]),
    ];
    for answer in answers {
        let server = FakeServer::start(move |request| match request {
            Request::Get(_) => (answer.clone(), true),
            other => (polite(other), false),
        });
        get_from_liar(&server, &[1, 3, 5]);
    }
}

#[test]
fn a_server_that_greets_wrongly() {
    let replies: Vec<Vec<u8>> = vec![
        b"220 Welcome to an FTP server\r\n".to_vec(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        vec![0; 64],
        Vec::new(),
        FakeServer::encoded(&[Reply::Pong]),
        FakeServer::encoded(&[Reply::Error(Refusal::new(
            ErrorCode::BadVersion,
            "we speak 7 to 9",
        ))]),
    ];
    for reply in replies {
        let server = FakeServer::start(move |_| (reply.clone(), true));
        get_from_liar(&server, &[1, 3, 5]);
    }
}

#[test]
fn escapes_in_names_and_messages_do_not_reach_the_terminal() {
    let server = FakeServer::start(|request| {
        let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\r\u{202e}";
        match request {
            Request::Get(_) | Request::Hash(_) | Request::Stat(_) => (
                FakeServer::encoded(&[Reply::Error(Refusal::new(ErrorCode::Storage, evil))]),
                false,
            ),
            Request::Status => {
                let Ok(Reply::StatusReport { slave, lsn, metrics, .. }) = decoded(&polite(request))
                else {
                    unreachable!()
                };
                (
                    FakeServer::encoded(&[Reply::StatusReport {
                        slave,
                        lsn,
                        metrics,
                        last_error: evil.to_owned(),
                    }]),
                    false,
                )
            }
            Request::List { .. } => {
                // A name that our encoder accepts, with one byte changed afterwards.
                let mut page = PageBuilder::new();
                let mut entry = relais_proto::Entry {
                    name: "XXX".to_owned(),
                    kind: relais_proto::Kind::File,
                    mode: relais_proto::Mode::new(0o644),
                    size: 1,
                    mtime: relais_proto::FileTime::default(),
                    version: None,
                };
                page.push(&entry);
                entry.name = "\u{202e}txt.exe".to_owned();
                page.push(&entry);
                let mut bytes = FakeServer::encoded(&[
                    Reply::Entries(page.finish()),
                    Reply::Done { lsn: Lsn::default() },
                ]);
                let at = bytes.windows(3).position(|w| w == b"XXX").unwrap();
                bytes[at] = 0x1b;
                (bytes, false)
            }
            other => (polite(other), false),
        }
    });
    let client = Client::new(server.addr);
    for command in ["get f", "ls", "ls -l", "stat f", "hash f", "status"] {
        for args in
            [&["--retry", "0", "-c", command][..], &["--retry", "0", "--json", "-c", command]]
        {
            let output = client.run(args);
            assert_no_escapes(&output);
        }
    }
}

fn decoded(frame: &[u8]) -> Result<Reply, relais_proto::WireError> {
    let mut payload = Vec::new();
    let kind = crate::harness::frames::read_frame(&mut &frame[..], &mut payload)?.unwrap();
    Reply::decode(kind, &payload)
}

#[test]
fn names_that_lead_out_are_rejected() {
    // The name in an entry is replaced by one that leads out of the folder, of the same length.
    for evil in ["../x", "/etc", "a/bc", "..\0a"] {
        let server = FakeServer::start(move |request| match request {
            Request::List { .. } | Request::Stat(_) => {
                let mut page = PageBuilder::new();
                let entry = relais_proto::Entry {
                    name: "WXYZ".to_owned(),
                    kind: relais_proto::Kind::File,
                    mode: relais_proto::Mode::new(0o644),
                    size: 1,
                    mtime: relais_proto::FileTime::default(),
                    version: None,
                };
                page.push(&entry);
                let mut bytes = FakeServer::encoded(&[
                    Reply::Entries(page.finish()),
                    Reply::Done { lsn: Lsn::default() },
                ]);
                let at = bytes.windows(4).position(|w| w == b"WXYZ").unwrap();
                bytes[at..at + 4].copy_from_slice(evil.as_bytes());
                (bytes, false)
            }
            other => (polite(other), false),
        });
        let client = Client::new(server.addr);
        let output = client.run(&["--retry", "0", "-c", "ls"]);
        assert_ne!(output.status, 0, "{evil}: {output:?}");
        assert!(!output.stdout.contains(evil), "{output:?}");
    }
}

fn welcome(role: ServerRole) -> Reply {
    Reply::Welcome {
        version: 1,
        role,
        cluster: relais_proto::ClusterId([3; 16]),
        capabilities: Capabilities::default(),
        agent: "fake".to_owned(),
    }
}

/// Starts a master that redirects all clients to these addresses.
fn redirecting(to: impl Fn() -> Vec<SocketAddr> + Send + Sync + 'static) -> FakeServer {
    FakeServer::start(move |request| match request {
        Request::Hello(_) => (FakeServer::encoded(&[welcome(ServerRole::Master)]), false),
        _ => {
            let slaves = vec![Endpoint { id: SlaveId([4; 16]), addrs: to() }];
            (
                FakeServer::encoded(&[Reply::Redirect {
                    ticket: vec![1; 40],
                    lsn: Lsn::default(),
                    slaves,
                }]),
                false,
            )
        }
    })
}

#[test]
fn redirects_to_nowhere_in_circles_and_to_itself() {
    let began = Instant::now();
    let port_0 = redirecting(|| vec!["127.0.0.1:0".parse().unwrap()]);
    get_from_liar(&port_0, &[1, 3, 5]);
    let none = redirecting(Vec::new);
    get_from_liar(&none, &[1, 3, 5]);

    // To itself: a master that also acts as the slave, and redirects again.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let itself = listener.local_addr().unwrap();
    let server = FakeServer::on(listener, move |request| match request {
        Request::Hello(_) => (FakeServer::encoded(&[welcome(ServerRole::Master)]), false),
        _ => {
            let slaves = vec![Endpoint { id: SlaveId([4; 16]), addrs: vec![itself] }];
            (
                FakeServer::encoded(&[Reply::Redirect {
                    ticket: vec![1; 40],
                    lsn: Lsn::default(),
                    slaves,
                }]),
                false,
            )
        }
    });
    get_from_liar(&server, &[1, 3, 5]);

    // Two slaves that each redirect to the other as the master.
    let (one, two) = (
        std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
        std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    let (addr1, addr2) = (one.local_addr().unwrap(), two.local_addr().unwrap());
    let sends_to = |addr: SocketAddr| {
        move |request: &Request| match request {
            Request::Hello(_) => (FakeServer::encoded(&[welcome(ServerRole::Slave)]), false),
            _ => (FakeServer::encoded(&[Reply::AskMaster(addr.to_string())]), false),
        }
    };
    let first = FakeServer::on(one, sends_to(addr2));
    let _second = FakeServer::on(two, sends_to(addr1));
    get_from_liar(&first, &[1, 3, 5]);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn a_server_silent_from_the_start_or_later_is_left() {
    let silent = FakeServer::start(|_| (Vec::new(), false));
    let began = Instant::now();
    get_from_liar(&silent, &[1, 3, 5]);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let waits = FakeServer::standalone(|_| {
        FakeServer::encoded(&[Reply::Wait(relais_proto::WaitReason::Hashing)])
    });
    get_from_liar(&waits, &[1, 3, 5]);
}

#[test]
fn a_fake_master_does_not_get_a_slave() {
    let dir = crate::harness::TestDir::new();
    let key = dir.path().join("cluster.key");
    std::fs::write(&key, "12".repeat(32) + "\n").unwrap();
    std::os::unix::fs::PermissionsExt::set_mode(
        &mut std::fs::metadata(&key).unwrap().permissions(),
        0o600,
    );
    // The master answers each frame with garbage of the right type.
    let server = FakeServer::start(|_| {
        let mut bytes = FakeServer::encoded(&[welcome(ServerRole::Master)]);
        relais_proto::encode_frame(&mut bytes, FrameType::LinkChallenge, |to| {
            to.extend_from_slice(&[0; 80])
        });
        (bytes, false)
    });
    let root = dir.folder("root");
    let mut slave = ProgramBuilder::new("ftpslave", dir.path())
        .args([
            "0",
            "--master",
            &server.addr.to_string(),
            "--root",
            root.to_str().unwrap(),
            "--cluster-key",
            key.to_str().unwrap(),
        ])
        .start();
    slave.ready();
    slave.stderr.wait_for(crate::harness::SOON, "the slave logs it", |log| {
        (log.contains("WARN") || log.contains("ERROR")).then_some(())
    });
    assert_eq!(slave.stop(nix::sys::signal::Signal::SIGTERM), 0);
}

#[test]
fn a_lying_server_leaves_no_files() {
    let server = FakeServer::standalone(|_| {
        let mut answer = FakeServer::encoded(&[Reply::ContentHeader(header(10, 0, 10))]);
        answer.extend(block(&[1; 10]));
        answer.extend(FakeServer::encoded(&[Reply::End { digest: relais_proto::Digest([1; 32]) }]));
        answer
    });
    let client = Client::new(server.addr);
    let output = client.run(&["--retry", "0", "-c", "get f"]);
    assert_ne!(output.status, 0, "{output:?}");
    assert!(!leftovers(&client.folder(), &[]).contains(&"f".into()));
}
