//! Hostile clients against master and slave: garbage, wrong lengths, silence, forged tickets,
//! floods.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use relais_proto::{ErrorCode, FrameType, Login, Lsn, Reply, Request};

use socket2::{Domain, Socket, Type};

use crate::harness::{
    Cluster, RawClient, SOON, Standalone, encoded, eventually, get, group_memory, hello, polite,
    put, session, sessions, ticket,
};

const LOGIN: Duration = relais_proto::limits::LOGIN_TIME;

fn login() -> Request {
    Request::Login(Login::default())
}

/// Returns first messages that no correct client sends.
fn garbage() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = vec![
        vec![0; 100],
        vec![0xff; 100_000],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"USER anonymous\r\nPASS x\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        encoded(&[login()]),
        encoded(&[get("f")]),
        encoded(&[Request::Ping]),
        encoded(&[hello(), hello()]),
        encoded(&[hello(), get("f")]),
        encoded(&[hello(), Request::Status]),
        crate::harness::FakeServer::encoded(&[Reply::Pong]),
        polite(&hello()),
    ];
    // A greeting with a wrong length, at each edge of 32 bits.
    for len in [0_u32, 1, 4, 64 * 1024, 64 * 1024 + 1, 1 << 31, u32::MAX] {
        let mut frame = encoded(&[hello(), login()]);
        frame[..4].copy_from_slice(&len.to_be_bytes());
        all.push(frame);
    }
    // Every frame type, valid or not, with an empty and a short payload.
    for kind in (0..=255_u8).filter(|k| *k != FrameType::Hello.number()) {
        all.push(vec![0, 0, 0, 0, kind]);
        all.push([&encoded(&[hello()])[..], &[0, 0, 0, 3, kind, 1, 2, 3]].concat());
    }
    all
}

/// Requires that each message is refused or cut, at the latest when the login times out.
fn garbage_is_cut(addr: SocketAddr, still_fine: impl Fn()) {
    let mut open: Vec<RawClient> = Vec::new();
    for bytes in garbage() {
        let mut wire = RawClient::connect(addr);
        wire.raw(&bytes);
        open.push(wire);
    }
    still_fine();
    for mut wire in open {
        wire.closed_within(LOGIN * 3);
    }
    still_fine();
}

#[test]
fn garbage_against_a_slave() {
    let slave = Standalone::start(&[], &[("f", b"1")]);
    garbage_is_cut(slave.addr, || {
        slave.client().get("f");
    });
}

#[test]
fn garbage_against_a_slave_of_a_cluster() {
    let cluster = Cluster::of(1).file("f", b"1").start();
    let client = cluster.client();
    garbage_is_cut(cluster.slaves[0].addr, || {
        client.get("f");
    });
}

#[test]
fn garbage_against_a_master() {
    let cluster = Cluster::of(1).file("f", b"1").start();
    let client = cluster.client();
    garbage_is_cut(cluster.addr, || {
        client.get("f");
    });
}

#[test]
fn cut_after_every_byte_of_a_session() {
    let cluster = Cluster::of(1).file("f", b"some text").start();
    let (good, _) = ticket(cluster.addr);
    let to_slave = encoded(&[
        hello(),
        Request::Ticket { ticket: good, lsn: Lsn::default() },
        get("f"),
        Request::Ping,
    ]);
    let to_master = encoded(&[hello(), login()]);
    for (addr, bytes) in [(cluster.slaves[0].addr, to_slave), (cluster.addr, to_master)] {
        for cut in 0..bytes.len() {
            RawClient::connect(addr).raw(&bytes[..cut]);
        }
    }
    cluster.client().get("f");
}

#[test]
fn a_byte_a_second_does_not_outlive_the_login() {
    let cluster = Cluster::of(1).file("f", b"1").start();
    let bytes = encoded(&[hello(), login()]);
    std::thread::scope(|scope| {
        for addr in [cluster.addr, cluster.slaves[0].addr] {
            let bytes = &bytes;
            scope.spawn(move || {
                let mut wire = RawClient::connect(addr);
                let began = Instant::now();
                // The pace is the subject of the test; a failed write shows the end.
                for byte in bytes {
                    if !wire.raw(&[*byte]) {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(700));
                    assert!(began.elapsed() < LOGIN * 2, "still open after {:?}", began.elapsed());
                }
                wire.closed_within(LOGIN);
            });
        }
    });
}

#[test]
fn bad_frames_inside_a_session_end_that_session_alone() {
    let slave = Standalone::start(&["--workers", "1"], &[("f", b"some text")]);
    let mut good = sessions(slave.addr, 1).remove(0);
    let mut bad: Vec<Vec<u8>> = vec![
        encoded(&[hello()]),
        encoded(&[login()]),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        polite(&Request::Ping),
    ];
    for kind in
        [FrameType::List, FrameType::Stat, FrameType::Hash, FrameType::Get, FrameType::Pieces]
    {
        for len in [0_u32, 1, 65_536] {
            bad.push(
                [&len.to_be_bytes()[..], &[kind.number()], &vec![0xff; len as usize]].concat(),
            );
        }
    }
    // Offsets and lengths at the edges: the answer is an error or the existing bytes.
    for n in [1_u64 << 31, 1 << 32, 1 << 63, u64::MAX] {
        let Request::Get(mut request) = get("f") else { unreachable!() };
        (request.offset, request.length) = (n, u64::MAX - n);
        let mut wire = sessions(slave.addr, 1).remove(0);
        wire.send(&[Request::Get(request)]);
        assert!(matches!(wire.content(), Err(r) if r.code == ErrorCode::BadOffset), "offset {n}");
        wire.ping();
    }
    for bytes in bad {
        let mut wire = sessions(slave.addr, 1).remove(0);
        wire.raw(&bytes);
        wire.0.shutdown(std::net::Shutdown::Write).unwrap();
        wire.closed_within(LOGIN);
        good.ping();
    }
}

#[test]
fn an_unknown_request_type_is_unsupported() {
    let slave = Standalone::start(&[], &[("f", b"1")]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    for payload in [0, 1, 8448] {
        let unknown =
            [&u32::to_be_bytes(payload)[..], &[0x2f], &vec![7; payload as usize]].concat();
        // An ignorable frame of the same length has no answer.
        let mut ignorable = unknown.clone();
        ignorable[4] = 0x3f;
        wire.raw(&[&ignorable[..], &unknown, &encoded(&[Request::Ping])].concat());
        assert!(matches!(wire.reply(), Reply::Error(r) if r.code == ErrorCode::Unsupported));
        assert_eq!(wire.reply(), Reply::Pong);
    }
    // Longer than any request, or a type of a link or a server: the stream cannot be parsed
    // further.
    for (kind, payload) in [(0x2f, 8449_u32), (0x3f, 8449), (0x6f, 0), (0xef, 0)] {
        let mut wire = sessions(slave.addr, 1).remove(0);
        wire.raw(&[&payload.to_be_bytes()[..], &[kind]].concat());
        assert!(matches!(wire.reply(), Reply::Error(r) if r.code == ErrorCode::BadRequest));
        wire.closed_within(LOGIN);
    }
}

#[test]
fn an_unexpected_request_ends_the_session() {
    let slave = Standalone::start(&[], &[("f", b"1")]);
    let ticket = Request::Ticket { ticket: Vec::new(), lsn: Lsn::default() };
    let end = Request::PutEnd { digest: relais_proto::Digest([0; 32]) };
    for request in [hello(), login(), ticket, end] {
        let mut wire = sessions(slave.addr, 1).remove(0);
        wire.send(&[request.clone(), Request::Ping]);
        let reply = wire.reply();
        assert!(
            matches!(&reply, Reply::Error(r) if r.code == ErrorCode::BadRequest),
            "{request:?}: {reply:?}"
        );
        wire.closed_within(LOGIN);
    }
}

#[test]
fn a_slow_login_gets_timed_out() {
    let cluster = Cluster::of(1).file("f", b"1").start();
    let mut wires = [cluster.addr, cluster.slaves[0].addr].map(RawClient::connect);
    // Neither sends anything after its greeting.
    wires.iter_mut().for_each(|wire| wire.send(&[hello()]));
    for wire in &mut wires {
        assert!(matches!(wire.reply(), Reply::Welcome { .. }));
        assert!(matches!(wire.reply(), Reply::Error(r) if r.code == ErrorCode::TimedOut));
        wire.closed_within(LOGIN);
    }
}

#[test]
fn an_invalid_upload_offset_is_refused_at_once() {
    let slave = Standalone::start(&[], &[("f", b"1")]);
    for offset in [1, 1 << 20] {
        let mut wire = sessions(slave.addr, 1).remove(0);
        let request = relais_proto::PutRequest { offset, ..put("new", 1 << 20) };
        wire.send(&[Request::Put(request)]);
        // Neither content nor its end was sent.
        assert!(matches!(wire.reply(), Reply::Error(r) if r.code == ErrorCode::BadOffset));
    }
}

#[test]
fn altered_tickets_are_refused() {
    let cluster = Cluster::of(1).file("f", b"1").start();
    let foreign = Cluster::of(1).file("f", b"1").start();
    let (good, _) = ticket(cluster.addr);
    let slave = cluster.slaves[0].addr;
    session(slave, &good).ping();
    let mut bad = vec![
        Vec::new(),
        vec![0; 5000],
        ticket(foreign.addr).0,
        good[..good.len() - 1].to_vec(),
        [&good[..], &[0]].concat(),
    ];
    for i in 0..good.len() {
        let mut altered = good.clone();
        altered[i] ^= 1;
        bad.push(altered);
    }
    for ticket in bad {
        let mut wire = RawClient::connect(slave);
        wire.send(&[hello(), Request::Ticket { ticket, lsn: Lsn::default() }]);
        let refused = loop {
            match wire.reply() {
                Reply::Welcome { .. } => {}
                Reply::Error(refusal) => break refusal,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused.code, ErrorCode::BadTicket, "{refused:?}");
    }
}

#[test]
fn silent_connections_beyond_the_pool_block_no_good_client() {
    let cluster = Cluster::of(1)
        .slave_args(&["--workers", "2", "--sessions-per-worker", "4"])
        .file("f", b"1")
        .start();
    let half = encoded(&[hello()]);
    for addr in [cluster.addr, cluster.slaves[0].addr] {
        let before =
            group_memory(cluster.slaves[0].program.pid()) + group_memory(cluster.master.pid());
        let silent: Vec<RawClient> = (0..160)
            .map(|n| {
                let mut wire = RawClient::connect(addr);
                wire.raw(&half[..n % (half.len() + 1)]);
                wire
            })
            .collect();
        let began = Instant::now();
        cluster.client().get("f");
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "a correct client waited {:?}",
            began.elapsed()
        );
        let after =
            group_memory(cluster.slaves[0].program.pid()) + group_memory(cluster.master.pid());
        assert!(after.saturating_sub(before) < 16 << 20, "memory grew from {before} to {after}");
        drop(silent);
    }
}

/// Opens a silent connection from a local address.
fn silent_from(source: [u8; 4], addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&addr.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

#[test]
fn a_flooding_address_does_not_evict_others() {
    let slave = Standalone::start(&["--workers", "1"], &[("f", b"1")]);
    let mut slow = RawClient::connect(slave.addr);
    let greeting = encoded(&[hello(), login()]);
    let (first, rest) = greeting.split_at(10);
    slow.raw(first);
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    // More than the pool holds, and all later than the slow client.
    let flood: Vec<TcpStream> = (0..800).map(|_| silent_from([127, 0, 0, 9], slave.addr)).collect();
    let evicted =
        || flood.iter().filter(|stream| stream.peek(&mut [0]).is_ok_and(|n| n == 0)).count();
    eventually(SOON, "the flood has filled the pool", || (evicted() >= 200).then_some(()));
    assert!(slow.raw(rest));
    assert!(matches!(slow.reply(), Reply::Welcome { .. }));
    assert!(matches!(slow.reply(), Reply::Opened { .. }));
    slow.send(&[get("f")]);
    assert_eq!(slow.content().unwrap().1, b"1");
}

#[test]
fn announced_lengths_take_no_memory() {
    let cluster = Cluster::of(1).file("f", b"1").start();
    let (good, _) = ticket(cluster.addr);
    for (addr, program) in
        [(cluster.addr, &cluster.master), (cluster.slaves[0].addr, &cluster.slaves[0].program)]
    {
        let before = group_memory(program.pid());
        let open: Vec<RawClient> = (0..300)
            .map(|_| {
                let mut wire = RawClient::connect(addr);
                wire.raw(&[0, 0, 0xff, 0xff, FrameType::Hello.number(), 0]);
                wire
            })
            .collect();
        let in_sessions: Vec<RawClient> = (0..20)
            .map(|_| {
                let mut wire = session(cluster.slaves[0].addr, &good);
                wire.raw(&[0, 0, 0xff, 0xff, FrameType::List.number(), 0]);
                wire
            })
            .collect();
        cluster.client().get("f");
        let after = group_memory(program.pid());
        assert!(after.saturating_sub(before) < 16 << 20, "memory grew from {before} to {after}");
        drop((open, in_sessions));
    }
}

#[test]
fn unread_answers_take_no_memory() {
    let slave =
        Standalone::start(&["--workers", "1"], &[("f", &crate::harness::content(1, 4 << 20))]);
    let before = group_memory(slave.program.pid());
    let mut floods: Vec<RawClient> = sessions(slave.addr, 8);
    let many = encoded(&vec![get("f"); 100]);
    for wire in &mut floods {
        wire.0.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        // The slave stops reading at some point, and then the writes fail. Otherwise each of these
        // is 1 MiB.
        for _ in 0..(1 << 20) / many.len() {
            if !wire.raw(&many) {
                break;
            }
        }
    }
    slave.client().get("f");
    let after = group_memory(slave.program.pid());
    // A block buffer for each session is allowed; buffers for pipelined requests are not.
    assert!(after.saturating_sub(before) < 48 << 20, "memory grew from {before} to {after}");
}
