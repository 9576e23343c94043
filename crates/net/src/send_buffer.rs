//! The send buffer of a connection that fills a long line.
//!
//! The kernel adapts the buffer of a connection up to `net.ipv4.tcp_wmem`, usually 4 MiB. What it
//! holds is the most that can be on its way, so at a round trip of 40 ms it carries less than
//! 1 Gbit/s. A program may ask for more, up to twice `net.core.wmem_max`, and the kernel then
//! adapts it no more. So that is of use only where it is more than the kernel gives by itself.

use std::fs;
use std::io;

use socket2::{Domain, Socket, Type};

/// Bytes to ask for: 3 Gbit/s at a round trip of 40 ms.
const WANTED: usize = 16 * 1024 * 1024;
/// Where the kernel has the least, the first and the largest adapted size, in bytes.
const ADAPTED: &str = "/proc/sys/net/ipv4/tcp_wmem";

/// Gives a connection a larger send buffer than an adapted one, if the system allows it.
///
/// # Errors
/// Errors of the system calls. The buffer is then as before.
pub(crate) fn enlarge(socket: &Socket) -> io::Result<()> {
    let Some(adapted) = fs::read_to_string(ADAPTED).ok().and_then(|text| largest(&text)) else {
        return Ok(());
    };
    if granted()? > adapted { socket.set_send_buffer_size(WANTED) } else { Ok(()) }
}

/// Returns the largest adapted size.
fn largest(text: &str) -> Option<usize> {
    text.split_whitespace().nth(2)?.parse().ok()
}

/// Returns how much a socket gets that asks for [`WANTED`].
fn granted() -> io::Result<usize> {
    let probe = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    probe.set_send_buffer_size(WANTED)?;
    probe.send_buffer_size()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_number_is_the_largest_size() {
        assert_eq!(largest("4096\t16384\t4194304\n"), Some(4_194_304));
        assert_eq!(largest("4096\t16384\n"), None);
        assert_eq!(largest("a b c"), None);
    }

    #[test]
    fn enlarge_never_shrinks_the_buffer() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let before = socket.send_buffer_size().unwrap();
        enlarge(&socket).unwrap();
        let adapted = largest(&fs::read_to_string(ADAPTED).unwrap()).unwrap();
        let after = socket.send_buffer_size().unwrap();
        assert!(after == before || after > adapted, "{before}, {after}, {adapted}");
    }
}
