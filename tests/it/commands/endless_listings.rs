//! Endless listings: the client stops at a limit, reports it, and does not exhaust the memory.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use relais_proto::Request;

use super::assert_no_escapes;
use crate::harness::{
    Client, FakeTree, RawClient, SOON, anonymous_memory, eventually, pages, raw_entry,
};

/// Maximum memory of a client for a listing, whatever the server sends.
const MOST: u64 = 3 << 29;

/// Bytes of each name; its last bytes are a counter.
const LENGTH: usize = 255;
const DIGITS: usize = 12;
/// Names in a page.
const NAMES: u64 = 200;

/// A server whose folder `t` has an endless listing.
struct EndlessServer {
    addr: SocketAddr,
    /// Number of names sent.
    sent: Arc<AtomicU64>,
}

impl EndlessServer {
    fn start(kind: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let count = Arc::clone(&count);
                std::thread::spawn(move || serve(RawClient(stream), kind, &count));
            }
        });
        Self { addr, sent }
    }
}

fn serve(mut wire: RawClient, kind: u8, count: &AtomicU64) {
    let tree = FakeTree::new().folder("t");
    while let Ok(Some((frame, payload))) = wire.frame() {
        let Ok(request) = Request::decode(frame, &payload) else { return };
        match &request {
            Request::List { path, .. } if path.as_str() == "t" => {
                return send_endless_names(&mut wire, kind, count);
            }
            other if wire.raw(&tree.answer(other)) => {}
            _ => return,
        }
    }
}

/// Sends names until the client closes: one page in which only the numbers change.
fn send_endless_names(wire: &mut RawClient, kind: u8, count: &AtomicU64) {
    let entry = raw_entry(&[b'n'; LENGTH], kind, 1);
    let mut page = pages(&vec![entry.clone(); usize::try_from(NAMES).unwrap()]);
    let head = page.len() % entry.len();
    for first in (0_u64..).step_by(usize::try_from(NAMES).unwrap()) {
        for (entry, n) in page[head..].chunks_mut(entry.len()).zip(first..) {
            let end = 2 + LENGTH;
            entry[end - DIGITS..end].copy_from_slice(format!("{n:0DIGITS$}").as_bytes());
        }
        if !wire.raw(&page) {
            return;
        }
        count.fetch_add(NAMES, Ordering::SeqCst);
    }
}

#[test]
fn an_endless_listing_ends_with_an_error() {
    // A recursive get, and a pattern that matches all names.
    for (command, kind) in [("get -r t", 0), ("mget t/*", 1)] {
        let server = EndlessServer::start(kind);
        let client = Client::new(server.addr);
        let mut program = client.start(&["--retry", "0", "--json", "-c", command]);
        eventually(Duration::from_secs(90), &format!("the end of {command}"), || {
            let memory = anonymous_memory(program.pid());
            assert!(memory < MOST, "{command} took {memory} bytes of memory for names");
            program.try_status()
        });
        let output = Client::finish(&mut program).fails(1);
        assert_no_escapes(&output);
        assert_eq!(output.json()["error"]["code"], "bad-server", "{output:?}");
        assert!(
            server.sent.load(Ordering::SeqCst) > 100_000,
            "the limit is below a large folder: {output:?}"
        );
    }
}

#[test]
fn ls_prints_an_endless_listing_in_constant_memory() {
    let server = EndlessServer::start(0);
    let client = Client::new(server.addr);
    let mut program = client.setup(&["--retry", "0", "-c", "ls t"]).stdout(Stdio::null()).start();
    eventually(SOON, "many names", || {
        let memory = anonymous_memory(program.pid());
        assert!(memory < 32 << 20, "ls took {memory} bytes of memory");
        (server.sent.load(Ordering::SeqCst) > 300_000).then_some(())
    });
    program.signal(Signal::SIGINT);
    assert_eq!(program.wait(SOON), 130);
}
