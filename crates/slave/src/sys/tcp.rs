//! The state of a TCP connection.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// State `TCP_ESTABLISHED` of Linux: neither side has closed its direction.
const ESTABLISHED: u8 = 1;
/// States after the peer's system has acknowledged the end of this side, or the connection was
/// reset: `TCP_FIN_WAIT2`, `TCP_TIME_WAIT` and `TCP_CLOSE`.
const ACKNOWLEDGED: [u8; 3] = [5, 6, 7];

/// Returns whether neither side of a TCP connection has sent its end or a reset.
///
/// Unlike poll it tells this also after this side has shut down reading: that is not sent.
///
/// # Errors
/// Those of the system call.
pub fn is_established(socket: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(state(socket)? == ESTABLISHED)
}

/// Returns whether no byte that this side has sent is unacknowledged, after it has ended sending.
///
/// # Errors
/// Those of the system call.
pub fn is_end_acknowledged(socket: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(ACKNOWLEDGED.contains(&state(socket)?))
}

fn state(socket: BorrowedFd<'_>) -> io::Result<u8> {
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
    Ok(info[0])
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use super::{is_end_acknowledged, is_established};

    #[test]
    fn end_is_acknowledged_once_the_peer_has_all_bytes() {
        use std::io::{Read, Write};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        // More than the client's system takes before the client reads.
        while server.write(&[1; 65_536]).is_ok() {}
        assert!(!is_end_acknowledged(server.as_fd()).unwrap());
        server.shutdown(Shutdown::Write).unwrap();
        assert!(!is_end_acknowledged(server.as_fd()).unwrap());
        client.read_to_end(&mut Vec::new()).unwrap();
        let since = Instant::now();
        while !is_end_acknowledged(server.as_fd()).unwrap() {
            assert!(since.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

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
