//! A standalone slave: its pool, the queue, and the refusal when both are full.

use std::time::{Duration, Instant};

use relais_proto::{ErrorCode, Login, Reply, Request};

use crate::harness::{
    Client, Fault, Proxy, RawClient, SOON, Standalone, content, eventually, hello, sessions,
};

const GET: &[&str] = &["--json", "-c", "get f"];

#[test]
fn many_clients_at_once() {
    let bytes = content(1, 1 << 20);
    let slave =
        Standalone::start(&["--workers", "2", "--sessions-per-worker", "8"], &[("f", &bytes)]);
    let clients: Vec<Client> = (0..12).map(|_| slave.client()).collect();
    let mut running: Vec<_> = clients.iter().map(|c| c.start(GET)).collect();
    for (program, client) in running.iter_mut().zip(&clients) {
        Client::finish(program).ok();
        assert!(client.read("f") == bytes);
    }
}

#[test]
fn the_classical_pool_serves_n_at_once_and_queues_the_rest() {
    let bytes = content(2, 100_000);
    let slave = Standalone::start(
        &["--workers", "2", "--sessions-per-worker", "1", "--queue", "10", "--grace", "0"],
        &[("f", &bytes)],
    );
    let clients: Vec<Client> = (0..8).map(|_| slave.client()).collect();
    let mut running: Vec<_> = clients.iter().map(|c| c.start(GET)).collect();
    for (program, client) in running.iter_mut().zip(&clients) {
        Client::finish(program).ok();
        assert!(client.read("f") == bytes);
    }
}

/// Logs in and returns the first reply after the welcome, `Wait` included.
fn knock(slave: &Standalone) -> (RawClient, Reply) {
    let mut wire = RawClient::connect(slave.addr);
    wire.send(&[hello(), Request::Login(Login::default())]);
    assert!(matches!(wire.reply(), Reply::Welcome { .. }));
    let (kind, payload) = wire.frame().unwrap().expect("an answer");
    (wire, Reply::decode(kind, &payload).unwrap())
}

#[test]
fn a_full_pool_queues_then_refuses_then_serves_the_queue() {
    let slave = Standalone::start(
        &["--workers", "2", "--sessions-per-worker", "1", "--queue", "2"],
        &[("f", b"1")],
    );
    let mut open = sessions(slave.addr, 2);
    let queued: Vec<_> = (0..2).map(|_| knock(&slave)).collect();
    assert!(
        queued.iter().all(|(_, reply)| matches!(reply, Reply::Wait(_))),
        "{queued:?}",
        queued = queued.iter().map(|q| &q.1).collect::<Vec<_>>()
    );
    let (_, late) = knock(&slave);
    match late {
        Reply::Error(refusal) => {
            assert_eq!(refusal.code, ErrorCode::Busy, "{refusal:?}");
            assert!(refusal.retry_after > 0, "{refusal:?}");
        }
        other => panic!("{other:?}"),
    }
    open.iter_mut().for_each(RawClient::ping);
    drop(open);
    for (mut wire, _) in queued {
        assert!(matches!(wire.reply(), Reply::Opened { .. }));
        wire.ping();
    }
}

#[test]
fn a_busy_slave_is_tried_again() {
    let slave = Standalone::start(
        &["--workers", "1", "--sessions-per-worker", "1", "--queue", "0"],
        &[("f", b"1")],
    );
    let open = sessions(slave.addr, 1);
    let client = slave.client();
    client.run(&["--retry", "0", "--json", "-c", "get f"]).fails(3);
    let mut waiting = client.start(&["--retry", "60", "--json", "-c", "get f"]);
    drop(open);
    Client::finish(&mut waiting).ok();
}

#[test]
fn a_stalled_reader_does_not_delay_others() {
    let bytes = content(3, 48 << 20);
    let slave = Standalone::start(
        &["--workers", "2", "--sessions-per-worker", "2"],
        &[("f", &bytes), ("small", b"1")],
    );
    let proxy = Proxy::to(slave.addr);
    proxy.fault_at_content(1, Fault::Stall);
    let stopped = Client::new(proxy.addr());
    let _program = stopped.start(GET);
    proxy.wait_struck();
    let began = Instant::now();
    slave.client().get("small");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn the_slot_of_a_vanished_client_is_freed() {
    let slave = Standalone::start(
        &["--workers", "1", "--sessions-per-worker", "1", "--queue", "0"],
        &[("f", b"1")],
    );
    let mut first = sessions(slave.addr, 1);
    first[0].ping();
    drop(first);
    eventually(SOON, "a free slot", || {
        matches!(knock(&slave).1, Reply::Opened { .. }).then_some(())
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let slave =
        Standalone::start(&["--block-size", "9"], &[("a", b"first file"), ("b", b"second")]);
    let mut wire = RawClient::connect(slave.addr);
    let get = crate::harness::get;
    wire.send(&[
        hello(),
        Request::Login(Login::default()),
        get("a"),
        Request::Ping,
        get("b"),
        get("nothing"),
        get("a"),
    ]);
    assert!(matches!(wire.reply(), Reply::Welcome { .. }));
    assert!(matches!(wire.reply(), Reply::Opened { .. }));
    assert_eq!(wire.content().unwrap().1, b"first file");
    assert_eq!(wire.reply(), Reply::Pong);
    assert_eq!(wire.content().unwrap().1, b"second");
    assert!(matches!(wire.content(), Err(r) if r.code == ErrorCode::NotFound));
    assert_eq!(wire.content().unwrap().1, b"first file");
}

#[test]
fn a_header_describes_the_content() {
    let bytes = content(4, 300_000);
    let slave = Standalone::start(&[], &[("f", &bytes)]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    wire.send(&[crate::harness::get("f")]);
    let (header, got) = wire.content().unwrap();
    assert_eq!((header.size, header.offset, header.length), (300_000, 0, 300_000));
    assert!(got == bytes);
}
