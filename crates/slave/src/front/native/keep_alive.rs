//! Sends a `Wait` frame for each second in which an answer takes its time.

use std::io;
use std::time::{Duration, Instant};

use relais_engine::KeepAlive;
use relais_net::Connection;
use relais_proto::{Reply, WaitReason, limits};
use rustix::event::PollFlags;

/// Keeps a connection alive for one answer.
pub struct ConnectionKeepAlive<'a> {
    connection: &'a mut Connection,
    since: Instant,
}

impl<'a> ConnectionKeepAlive<'a> {
    /// Makes a keep-alive for an answer that begins to wait now.
    pub fn new(connection: &'a mut Connection) -> Self {
        Self { connection, since: Instant::now() }
    }
}

impl KeepAlive for ConnectionKeepAlive<'_> {
    fn send_keepalive(&mut self, reason: WaitReason) -> io::Result<()> {
        check_connected(self.connection)?;
        if self.since.elapsed() >= limits::WAIT_EVERY {
            self.connection.queue_reply(&Reply::Wait(reason));
            self.connection.flush()?;
            self.since = Instant::now();
        }
        Ok(())
    }
}

/// Fails if the client can neither send nor receive any more, so that no answer reaches it.
pub fn check_connected(connection: &Connection) -> io::Result<()> {
    // These are reported without being asked for.
    let came = connection.stream().poll(PollFlags::empty(), Some(Duration::ZERO))?;
    if came.intersects(PollFlags::HUP | PollFlags::ERR) {
        return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the client has gone"));
    }
    Ok(())
}
