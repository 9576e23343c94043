//! Answers in parts: a connection stays in the pool while its handler has more to send.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use relais_net::{LoginHandler, LoginStep, PreAuthListener, PreAuthPool, TlsRule};

const SOON: Duration = Duration::from_secs(10);
/// How long a peer has to take a part.
const PART_TIME: Duration = Duration::from_millis(600);
/// Length of a part: more than the kernel takes of a peer that does not read.
const PART: usize = 16 << 20;

/// Answers each byte with parts, `last` of them, which all connections count.
struct PartsLogin {
    made: Arc<AtomicU32>,
    last: u32,
    part: usize,
}

impl LoginHandler for PartsLogin {
    type Value = ();

    fn input_limit(&self, _: &[u8]) -> usize {
        10
    }

    fn pending_time(&self) -> Duration {
        PART_TIME
    }

    fn on_input(&mut self, input: &mut Vec<u8>) -> Option<LoginStep<()>> {
        input.pop().map(|_| LoginStep::Stream(b"head".to_vec()))
    }

    fn poll_pending(&mut self) -> Option<LoginStep<()>> {
        let made = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        let part = vec![b'x'; self.part];
        Some(if made < self.last { LoginStep::Stream(part) } else { LoginStep::Close(part) })
    }

    fn expire(&mut self, _: &[u8]) -> Vec<u8> {
        Vec::new()
    }
}

struct Room {
    pool: PreAuthPool<PartsLogin>,
    addr: SocketAddr,
    made: Arc<AtomicU32>,
    part: usize,
}

impl Room {
    fn new(part: usize) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let listener = PreAuthListener::new(socket, TlsRule::Explicit(None));
        let pool = PreAuthPool::new(vec![listener], 8).unwrap();
        Self { pool, addr, made: Arc::default(), part }
    }

    fn connect(&self) -> TcpStream {
        let mut client = TcpStream::connect(self.addr).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        client.write_all(b"?").unwrap();
        client
    }

    fn poll(&mut self) {
        let (made, part) = (self.made.clone(), self.part);
        let new_handler = &mut |_| PartsLogin { made: made.clone(), last: 5, part };
        self.pool.poll(true, &[], Some(Duration::from_millis(5)), new_handler).unwrap();
    }
}

#[test]
fn parts_follow_each_other_to_a_peer_that_reads() {
    let mut room = Room::new(PART);
    let mut client = room.connect();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        all
    });
    while !reader.is_finished() {
        room.poll();
    }
    let all = reader.join().unwrap();
    assert_eq!((all.len(), room.made.load(Ordering::Relaxed)), (4 + 5 * PART, 5));
    assert!(all.starts_with(b"headx"));
}

#[test]
fn a_peer_that_does_not_read_has_one_part_and_its_time() {
    let mut room = Room::new(PART);
    let _client = room.connect();
    room.poll();
    let begun = Instant::now();
    while !room.pool.is_empty() {
        assert!(begun.elapsed() < SOON, "the connection was not closed");
        room.poll();
    }
    assert!(begun.elapsed() >= PART_TIME);
    assert_eq!(room.made.load(Ordering::Relaxed), 1, "the second part was made for a full socket");
}

#[test]
fn a_peer_that_leaves_ends_its_stream() {
    let mut room = Room::new(0);
    let client = room.connect();

    room.poll();
    assert_eq!(room.pool.len(), 1);
    drop(client);
    let begun = Instant::now();
    while !room.pool.is_empty() {
        assert!(begun.elapsed() < PART_TIME, "noticed by its time alone");
        room.poll();
    }
}
