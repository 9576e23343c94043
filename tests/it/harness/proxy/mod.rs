//! A proxy between a client and a server that fails on demand.
//!
//! The proxy parses the frames that pass. A fault can strike at an exact byte of fetched or sent
//! content, before the answer to a change, or at an exact byte of either direction.

mod frames;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::Duration;

use relais_proto::HEADER_LEN;

use self::frames::{ByteFilter, Direction, FrameFilter};
use super::{SOON, eventually};

/// The fault at the chosen byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Both directions are closed.
    Cut,
    /// Nothing more passes until [`Proxy::release`].
    Stall,
    /// The lowest bit of the next byte is flipped.
    FlipBit,
}

/// Armed faults and counters of one direction.
#[derive(Default)]
struct DirectionState {
    /// A fault after this many bytes of content of one connection.
    content_fault: Option<(u64, Fault)>,
    /// A fault after this many bytes of any kind.
    fault: Option<(u64, Fault)>,
    /// A fault after this many whole frames of one connection.
    frame_fault: Option<(u64, Fault)>,
    /// A fault before the next `Committed`.
    answer_fault: Option<Fault>,
    /// Bytes of content that passed, on all connections.
    content: u64,
    /// Bytes a second for each connection.
    rate: Option<u64>,
}

#[derive(Default)]
struct ProxyState {
    target: Option<SocketAddr>,
    up: DirectionState,
    down: DirectionState,
    /// Number of faults that have struck.
    struck: u32,
    stalled: bool,
    /// No byte passes on any connection, old or new.
    frozen: bool,
    refusing: bool,
    /// Both ends of each connection, which its two threads hold: the end of both closes it.
    open: Vec<Weak<[TcpStream; 2]>>,
    closed: bool,
}

impl ProxyState {
    fn lane(&mut self, direction: Direction) -> &mut DirectionState {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

#[derive(Default)]
struct ProxyShared(Mutex<ProxyState>, Condvar);

impl ProxyShared {
    fn lock(&self) -> MutexGuard<'_, ProxyState> {
        self.0.lock().unwrap()
    }

    /// Waits until bytes may pass.
    fn wait_thawed(&self) {
        drop(self.1.wait_while(self.lock(), |s| s.frozen && !s.closed).unwrap());
    }

    /// Applies a fault that has struck; `false` if the connection is to be closed.
    fn strike(&self, fault: Fault) -> bool {
        let mut state = self.lock();
        state.struck += 1;
        match fault {
            Fault::Cut => return false,
            Fault::FlipBit => return true,
            Fault::Stall => state.stalled = true,
        }
        drop(self.1.wait_while(state, |s| s.stalled && !s.closed).unwrap());
        true
    }
}

/// A listening proxy; all its connections are closed when it is dropped.
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<ProxyShared>,
}

impl Proxy {
    /// Starts a proxy whose target is set later.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(ProxyShared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &accepting));
        Self { addr, shared }
    }

    /// Starts a proxy to `target`.
    pub fn to(target: SocketAddr) -> Self {
        let proxy = Self::start();
        proxy.set_target(target);
        proxy
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn set_target(&self, target: SocketAddr) {
        self.shared.lock().target = Some(target);
    }

    /// Arms a fault after `n` bytes of fetched content, on the first connection that gets there.
    pub fn fault_at_content(&self, n: u64, fault: Fault) {
        let mut state = self.shared.lock();
        (state.down.content_fault, state.struck) = (Some((n, fault)), 0);
    }

    /// Arms a fault after `n` bytes from the server.
    pub fn fault_down(&self, n: u64, fault: Fault) {
        let mut state = self.shared.lock();
        (state.down.fault, state.struck) = (Some((n, fault)), 0);
    }

    /// Arms a fault after `n` bytes from the client.
    pub fn fault_up(&self, n: u64, fault: Fault) {
        let mut state = self.shared.lock();
        (state.up.fault, state.struck) = (Some((n, fault)), 0);
    }

    /// Arms a fault after `n` frames from the server, before the next one, on the first connection
    /// that gets there.
    pub fn fault_after_reply(&self, n: u64, fault: Fault) {
        let mut state = self.shared.lock();
        (state.down.frame_fault, state.struck) = (Some((n, fault)), 0);
    }

    /// Arms a fault after `n` frames from the client, as [`Proxy::fault_after_reply`].
    pub fn fault_after_request(&self, n: u64, fault: Fault) {
        let mut state = self.shared.lock();
        (state.up.frame_fault, state.struck) = (Some((n, fault)), 0);
    }

    /// Arms a fault after `n` bytes of uploaded content, on the first connection that gets there.
    pub fn fault_at_data(&self, n: u64, fault: Fault) {
        let mut state = self.shared.lock();
        (state.up.content_fault, state.struck) = (Some((n, fault)), 0);
    }

    /// Arms a fault before the next answer that acknowledges a change.
    pub fn fault_at_answer(&self, fault: Fault) {
        let mut state = self.shared.lock();
        (state.down.answer_fault, state.struck) = (Some(fault), 0);
    }

    /// Disarms all faults that have not struck.
    pub fn disarm(&self) {
        let mut state = self.shared.lock();
        for direction in [Direction::Up, Direction::Down] {
            let lane = state.lane(direction);
            (lane.content_fault, lane.fault, lane.answer_fault) = (None, None, None);
            lane.frame_fault = None;
        }
    }

    /// Limits the server's direction to `rate` bytes a second; `None` means no limit.
    pub fn throttle(&self, rate: Option<u64>) {
        self.shared.lock().down.rate = rate;
    }

    /// Limits the client's direction to `rate` bytes a second; `None` means no limit.
    pub fn throttle_up(&self, rate: Option<u64>) {
        self.shared.lock().up.rate = rate;
    }

    /// Stops all bytes without closing a connection, as a pulled cable would, until
    /// [`Proxy::thaw`].
    pub fn freeze(&self) {
        self.shared.lock().frozen = true;
    }

    /// Resumes frozen and stalled connections.
    pub fn thaw(&self) {
        self.shared.lock().frozen = false;
        self.release();
    }

    /// Sets whether new connections are closed at once.
    pub fn refuse(&self, refusing: bool) {
        self.shared.lock().refusing = refusing;
    }

    /// Returns whether a fault has struck since it was armed and since the last `true`.
    pub fn struck(&self) -> bool {
        std::mem::take(&mut self.shared.lock().struck) > 0
    }

    #[track_caller]
    pub fn wait_struck(&self) {
        eventually(SOON, "the fault has struck", || self.struck().then_some(()));
    }

    /// Resumes stalled connections.
    pub fn release(&self) {
        self.shared.lock().stalled = false;
        self.shared.1.notify_all();
    }

    /// Closes all connections.
    ///
    /// No byte moves or counts on them once this returns, so a fault that is armed next belongs to
    /// the next connection.
    pub fn cut_all(&self) {
        let open: Vec<_> = self.shared.lock().open.drain(..).collect();
        for ends in open.iter().filter_map(Weak::upgrade) {
            ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
        }
        self.release();
        eventually(SOON, "the cut connections have ended", || {
            open.iter().all(|ends| ends.strong_count() == 0).then_some(())
        });
    }

    /// Returns the bytes of fetched content since the counter was last reset.
    pub fn content_bytes(&self) -> u64 {
        self.shared.lock().down.content
    }

    /// Returns the bytes of fetched content and resets the counter.
    pub fn take_content_bytes(&self) -> u64 {
        std::mem::take(&mut self.shared.lock().down.content)
    }

    /// Returns the bytes of uploaded content and resets the counter.
    pub fn take_data_bytes(&self) -> u64 {
        std::mem::take(&mut self.shared.lock().up.content)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.cut_all();
        // Wakes the accepting thread, which then sees `closed`.
        let _ = TcpStream::connect(self.addr);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<ProxyShared>) {
    for client in listener.incoming() {
        let Ok(client) = client else { continue };
        let target = {
            let state = shared.lock();
            if state.closed {
                return;
            }
            if state.refusing { None } else { state.target }
        };
        let Some(server) = target.and_then(|t| TcpStream::connect(t).ok()) else { continue };
        for stream in [&client, &server] {
            let _ = stream.set_nodelay(true);
        }
        let ends = Arc::new([client, server]);
        let mut state = shared.lock();
        state.open.retain(|ends| ends.strong_count() > 0);
        state.open.push(Arc::downgrade(&ends));
        drop(state);
        for (direction, [from, to]) in [(Direction::Up, [0, 1]), (Direction::Down, [1, 0])] {
            let (of, ends) = (Arc::clone(shared), Arc::clone(&ends));
            std::thread::spawn(move || {
                pump(&of, &ends[from], &ends[to], FrameFilter::new(direction));
            });
        }
    }
}

/// Sends bytes; in twenty steps a second if there is a rate limit.
fn send(mut to: &TcpStream, bytes: &[u8], rate: Option<u64>) -> std::io::Result<()> {
    let Some(rate) = rate else { return to.write_all(bytes) };
    let step = usize::try_from(rate / 20).unwrap().max(1);
    bytes.chunks(step).try_for_each(|chunk| {
        std::thread::sleep(Duration::from_secs_f64(chunk.len() as f64 / rate as f64));
        to.write_all(chunk)
    })
}

/// Forwards bytes in one direction until the end, or until a fault closes the connection.
fn pump(shared: &ProxyShared, mut from: &TcpStream, to: &TcpStream, mut filter: impl ByteFilter) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(n) = from.read(&mut buffer) {
        shared.wait_thawed();
        if n == 0 {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
        let mut rest = &buffer[..n];
        loop {
            let mut out = Vec::with_capacity(n + HEADER_LEN);
            let (taken, fault) = filter.pass(shared, rest, &mut out);
            rest = &rest[taken..];
            let rate = filter.rate(shared);
            if send(to, &out, rate).is_err() {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
            match fault {
                None => break,
                Some(fault) if shared.strike(fault) => filter.struck(fault),
                Some(_) => {
                    let _ = from.shutdown(Shutdown::Both);
                    let _ = to.shutdown(Shutdown::Both);
                    return;
                }
            }
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
