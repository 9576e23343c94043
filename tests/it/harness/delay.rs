//! A long line: all that is sent on it arrives some time later, in both
//! directions, and as much as one likes can be under way.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A listening line before a server; it takes no new connection once it was dropped.
pub struct LongLine {
    addr: SocketAddr,
    over: Arc<AtomicBool>,
}

impl LongLine {
    /// A line to `target` on which there and back take `round_trip`.
    pub fn to(target: SocketAddr, round_trip: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(server) = TcpStream::connect(target) else { continue };
                carry(&client, &server, round_trip / 2);
                carry(&server, &client, round_trip / 2);
            }
        });
        Self { addr, over }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for LongLine {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
    }
}

/// One direction: one thread takes what comes, another hands it on when its time has come.
fn carry(from: &TcpStream, to: &TcpStream, later: Duration) {
    let (mut from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let _ = to.set_nodelay(true);
    let (sender, receiver) = channel();
    std::thread::spawn(move || hand_on(&receiver, to));
    std::thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = from.read(&mut buffer).unwrap_or(0);
            if sender.send((Instant::now() + later, buffer[..n].to_vec())).is_err() || n == 0 {
                return;
            }
        }
    });
}

fn hand_on(receiver: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    while let Ok((due, bytes)) = receiver.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if bytes.is_empty() || to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
