//! Listings that never end: the client takes in only so much, says so, and is
//! not made to fill the memory of its machine.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use relais_proto::Request;

use super::harmless;
use crate::harness::{
    Client, FakeTree, SOON, Wire, anonymous_memory, eventually, pages, raw_entry,
};

/// Most memory that a client may take for a listing, whatever a server says.
const MOST: u64 = 3 << 29;

/// Bytes of each name; the last of them count.
const LENGTH: usize = 255;
const DIGITS: usize = 12;
/// Names in a page.
const NAMES: u64 = 200;

/// A server whose folder `t` has names for ever.
struct Endless {
    addr: SocketAddr,
    /// Names that it has sent.
    sent: Arc<AtomicU64>,
}

impl Endless {
    fn start(kind: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let count = Arc::clone(&count);
                std::thread::spawn(move || serve(Wire(stream), kind, &count));
            }
        });
        Self { addr, sent }
    }
}

fn serve(mut wire: Wire, kind: u8, count: &AtomicU64) {
    let tree = FakeTree::new().folder("t");
    while let Ok(Some((frame, payload))) = wire.frame() {
        let Ok(request) = Request::decode(frame, &payload) else { return };
        match &request {
            Request::List { path, .. } if path.as_str() == "t" => {
                return names_for_ever(&mut wire, kind, count);
            }
            other if wire.raw(&tree.answer(other)) => {}
            _ => return,
        }
    }
}

/// Sends names until nobody takes them any more: one page, in which only the numbers change.
fn names_for_ever(wire: &mut Wire, kind: u8, count: &AtomicU64) {
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
fn a_listing_without_an_end_has_one() {
    // The walk of a tree, and the pattern that takes all.
    for (command, kind) in [("get -r t", 0), ("mget t/*", 1)] {
        let server = Endless::start(kind);
        let client = Client::new(server.addr);
        let mut program = client.start(&["--retry", "0", "--json", "-c", command]);
        eventually(Duration::from_secs(90), &format!("the end of {command}"), || {
            let memory = anonymous_memory(program.pid());
            assert!(memory < MOST, "{command} took {memory} bytes of memory for names");
            program.try_status()
        });
        let output = Client::finish(&mut program).fails(1);
        harmless(&output);
        assert_eq!(output.json()["error"]["code"], "bad-server", "{output:?}");
        assert!(
            server.sent.load(Ordering::SeqCst) > 100_000,
            "large folders have a place: {output:?}"
        );
    }
}

#[test]
fn ls_shows_what_never_ends_without_keeping_it() {
    let server = Endless::start(0);
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
