//! Runs a test with all its connections encrypted.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use relais_net::tls::{Dialer, TlsMode, TrustPolicy};

use super::SOON;

thread_local! {
    static ENCRYPTED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test whose programs and raw clients encrypt all connections.
///
/// The setting belongs to the calling thread.
pub fn over_tls(test: impl FnOnce()) {
    ENCRYPTED.set(true);
    test();
    ENCRYPTED.set(false);
}

/// Returns whether this thread's test encrypts all connections.
pub fn is_over_tls() -> bool {
    ENCRYPTED.get()
}

/// Connects to a server by TLS and returns a clear-text stream that is forwarded to it.
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
        forward(&inner, &*up);
        let _ = up.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        forward(&*far, &down);
        let _ = down.shutdown(Shutdown::Write);
    });
    near
}

fn forward(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(got) = from.read(&mut buffer) {
        if got == 0 || to.write_all(&buffer[..got]).is_err() {
            return;
        }
    }
}
