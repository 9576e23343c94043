//! Having a test run with all its connections encrypted.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use relais_net::tls::{Dialer, TlsMode, TrustPolicy};

use super::SOON;

thread_local! {
    static ENCRYPTED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test in which each program that this thread starts, and each wire, encrypts all its connections.
pub fn over_tls(test: impl FnOnce()) {
    ENCRYPTED.set(true);
    test();
    ENCRYPTED.set(false);
}

/// Whether this thread's test is such a one.
pub fn is_over_tls() -> bool {
    ENCRYPTED.get()
}

/// A connection to a server that encrypts: what is written to it arrives there, and the other way round.
#[track_caller]
pub fn encrypted(server: SocketAddr) -> TcpStream {
    let far = Dialer::new(TlsMode::Always)
        .unwrap()
        .connect(server, SOON, &TrustPolicy::Anyone, "")
        .unwrap()
        .stream()
        .clone();
    far.set_write_timeout(None).unwrap();
    far.set_read_timeout(None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (inner, _) = listener.accept().unwrap();
    for stream in [&near, &inner] {
        stream.set_nodelay(true).unwrap();
    }
    let (up, down) = (far.clone(), inner.try_clone().unwrap());
    thread::spawn(move || {
        carry(&inner, &*up);
        let _ = up.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        carry(&*far, &down);
        let _ = down.shutdown(Shutdown::Write);
    });
    near
}

fn carry(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(got) = from.read(&mut buffer) {
        if got == 0 || to.write_all(&buffer[..got]).is_err() {
            return;
        }
    }
}
