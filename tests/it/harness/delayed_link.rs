//! A forwarder that delays all bytes, in both directions and without a limit in flight.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A listening forwarder; it accepts no new connection once it is dropped.
pub struct DelayedLink {
    addr: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl DelayedLink {
    /// Starts a forwarder to `target` with this round-trip time.
    pub fn to(target: SocketAddr, round_trip: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(server) = TcpStream::connect(target) else { continue };
                forward(&client, &server, round_trip / 2);
                forward(&server, &client, round_trip / 2);
            }
        });
        Self { addr, stopped }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for DelayedLink {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
    }
}

/// Forwards one direction: one thread reads, another writes after the delay.
fn forward(from: &TcpStream, to: &TcpStream, delay: Duration) {
    let (mut from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let _ = to.set_nodelay(true);
    let (sender, receiver) = channel();
    std::thread::spawn(move || send_when_due(&receiver, to));
    std::thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = from.read(&mut buffer).unwrap_or(0);
            if sender.send((Instant::now() + delay, buffer[..n].to_vec())).is_err() || n == 0 {
                return;
            }
        }
    });
}

fn send_when_due(receiver: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    while let Ok((due, bytes)) = receiver.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if bytes.is_empty() || to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
