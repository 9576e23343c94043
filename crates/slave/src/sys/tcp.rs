//! The state of a TCP connection.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// State `TCP_ESTABLISHED` of Linux: neither side has closed its direction.
const ESTABLISHED: u8 = 1;

/// Returns whether neither side of a TCP connection has sent its end or a reset.
///
/// Unlike poll it tells this also after this side has shut down reading: that is not sent.
///
/// # Errors
/// Those of the system call.
pub fn is_established(socket: BorrowedFd<'_>) -> io::Result<bool> {
    // The state is the first byte of `struct tcp_info`, and the kernel fills what fits.
    let mut info = [0_u8; 4];
    let mut len: libc::socklen_t = 4;
    // SAFETY: the descriptor is open, and the kernel writes at most `len` bytes to `info` and one
    // length to `len`; both live as long as the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(info[0] == ESTABLISHED)
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use super::is_established;

    #[test]
    fn end_of_the_peer_is_seen_after_reading_has_ended() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.shutdown(Shutdown::Read).unwrap();
        assert!(is_established(server.as_fd()).unwrap());
        drop(client);
        let since = Instant::now();
        while is_established(server.as_fd()).unwrap() {
            assert!(since.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
