//! A line between a client and a server that fails where a test wants it to.
//!
//! It reads the frames that pass, so a fault can be put at an exact byte of
//! content that is fetched or sent, before the answer to a change, or at an
//! exact byte of either direction.

mod way;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use relais_proto::HEADER_LEN;

use self::way::{Direction, Frames, Way};
use super::{SOON, eventually};

/// What happens at the chosen byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Both directions are closed.
    Cut,
    /// Nothing more passes until [`Proxy::release`].
    Stall,
    /// The next byte has its lowest bit turned.
    FlipBit,
}

/// What is armed and counted in one direction.
#[derive(Default)]
struct Lane {
    /// Behind how many bytes of content of one connection, and what.
    content_fault: Option<(u64, Fault)>,
    /// Behind how many bytes of any kind.
    fault: Option<(u64, Fault)>,
    /// Before the next `Committed`.
    answer_fault: Option<Fault>,
    /// Bytes of content that passed, over all connections.
    content: u64,
    /// Bytes a second for each connection.
    rate: Option<u64>,
}

#[derive(Default)]
struct State {
    target: Option<SocketAddr>,
    up: Lane,
    down: Lane,
    /// How many faults have struck.
    struck: u32,
    stalled: bool,
    /// Nothing passes on any connection, old or new.
    frozen: bool,
    refusing: bool,
    /// Both ends of each connection, and whether both its threads still move bytes.
    open: Vec<(TcpStream, Arc<()>)>,
    closed: bool,
}

impl State {
    fn lane(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

#[derive(Default)]
struct Shared(Mutex<State>, Condvar);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Waits until bytes may pass.
    fn wait_thawed(&self) {
        drop(self.1.wait_while(self.lock(), |s| s.frozen && !s.closed).unwrap());
    }

    /// Carries out a fault that has struck; false where the connection is over.
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

/// A listening proxy; it ends with all its connections when dropped.
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// A proxy whose target is told later.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &accepting));
        Self { addr, shared }
    }

    /// A proxy before `target`.
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

    /// Arms a fault behind `n` bytes of content; the first connection that gets there has it.
    pub fn fault_at_content(&self, n: u64, fault: Fault) {
        let mut state = self.shared.lock();
        (state.down.content_fault, state.struck) = (Some((n, fault)), 0);
    }

    /// Arms a fault behind `n` bytes that the server sent.
    pub fn fault_down(&self, n: u64, fault: Fault) {
        let mut state = self.shared.lock();
        (state.down.fault, state.struck) = (Some((n, fault)), 0);
    }

    /// Arms a fault behind `n` bytes that the client sent.
    pub fn fault_up(&self, n: u64, fault: Fault) {
        let mut state = self.shared.lock();
        (state.up.fault, state.struck) = (Some((n, fault)), 0);
    }

    /// Arms a fault behind `n` bytes of content that the client sends; the first connection that gets there has it.
    pub fn fault_at_data(&self, n: u64, fault: Fault) {
        let mut state = self.shared.lock();
        (state.up.content_fault, state.struck) = (Some((n, fault)), 0);
    }

    /// Arms a fault before the next answer that says that a change is made.
    pub fn fault_at_answer(&self, fault: Fault) {
        let mut state = self.shared.lock();
        (state.down.answer_fault, state.struck) = (Some(fault), 0);
    }

    /// Takes back what was armed and has not struck.
    pub fn disarm(&self) {
        let mut state = self.shared.lock();
        for direction in [Direction::Up, Direction::Down] {
            let lane = state.lane(direction);
            (lane.content_fault, lane.fault, lane.answer_fault) = (None, None, None);
        }
    }

    /// Slows what the server sends to `rate` bytes a second; none: at full speed.
    pub fn throttle(&self, rate: Option<u64>) {
        self.shared.lock().down.rate = rate;
    }

    /// Slows what the client sends to `rate` bytes a second; none: at full speed.
    pub fn throttle_up(&self, rate: Option<u64>) {
        self.shared.lock().up.rate = rate;
    }

    /// Nothing passes any more on any connection, and none is closed: as when a cable was pulled; until [`Proxy::thaw`].
    pub fn freeze(&self) {
        self.shared.lock().frozen = true;
    }

    /// What is frozen or stalled goes on.
    pub fn thaw(&self) {
        self.shared.lock().frozen = false;
        self.release();
    }

    /// New connections are closed at once.
    pub fn refuse(&self, refusing: bool) {
        self.shared.lock().refusing = refusing;
    }

    /// Whether a fault has struck since it was armed, and since the last call that said so.
    pub fn struck(&self) -> bool {
        std::mem::take(&mut self.shared.lock().struck) > 0
    }

    #[track_caller]
    pub fn wait_struck(&self) {
        eventually(SOON, "the fault in the line", || self.struck().then_some(()));
    }

    /// Lets what was stalled go on.
    pub fn release(&self) {
        self.shared.lock().stalled = false;
        self.shared.1.notify_all();
    }

    /// Closes every connection there is. Nothing moves or counts on them any more when this returns: a fault that is armed next
    /// is for the next connection.
    pub fn cut_all(&self) {
        let open: Vec<_> = self.shared.lock().open.drain(..).collect();
        for (stream, _) in &open {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.release();
        let moving: Vec<_> = open.into_iter().map(|(_, moving)| Arc::downgrade(&moving)).collect();
        eventually(SOON, "the cut connections have ended", || {
            moving.iter().all(|m| m.strong_count() == 0).then_some(())
        });
    }

    /// Bytes of content that have come to the line since they were last taken.
    pub fn content_bytes(&self) -> u64 {
        self.shared.lock().down.content
    }

    /// The same, counted from 0 again afterwards.
    pub fn take_content_bytes(&self) -> u64 {
        std::mem::take(&mut self.shared.lock().down.content)
    }

    /// Bytes of content that clients sent since they were last taken.
    pub fn take_data_bytes(&self) -> u64 {
        std::mem::take(&mut self.shared.lock().up.content)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.cut_all();
        // Wakes the thread that accepts, which then sees that all is over.
        let _ = TcpStream::connect(self.addr);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
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
        let moving = Arc::new(());
        for stream in [&client, &server] {
            let _ = stream.set_nodelay(true);
            shared.lock().open.push((stream.try_clone().unwrap(), Arc::clone(&moving)));
        }
        let (c, s, of) =
            (client.try_clone().unwrap(), server.try_clone().unwrap(), Arc::clone(shared));
        let up = Arc::clone(&moving);
        std::thread::spawn(move || {
            let _moving = up;
            pump(&of, c, s, Frames::new(Direction::Up));
        });
        let of = Arc::clone(shared);
        std::thread::spawn(move || {
            let _moving = moving;
            pump(&of, server, client, Frames::new(Direction::Down));
        });
    }
}

/// Sends bytes, twenty times a second where the line is slow.
fn send(to: &mut TcpStream, bytes: &[u8], rate: Option<u64>) -> std::io::Result<()> {
    let Some(rate) = rate else { return to.write_all(bytes) };
    let step = usize::try_from(rate / 20).unwrap().max(1);
    bytes.chunks(step).try_for_each(|chunk| {
        std::thread::sleep(Duration::from_secs_f64(chunk.len() as f64 / rate as f64));
        to.write_all(chunk)
    })
}

/// Moves bytes one way until the end, or until a fault closes the line.
fn pump(shared: &Shared, mut from: TcpStream, mut to: TcpStream, mut way: impl Way) {
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
            let (taken, fault) = way.pass(shared, rest, &mut out);
            rest = &rest[taken..];
            let rate = way.rate(shared);
            if send(&mut to, &out, rate).is_err() {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
            match fault {
                None => break,
                Some(fault) if shared.strike(fault) => way.struck(fault),
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
