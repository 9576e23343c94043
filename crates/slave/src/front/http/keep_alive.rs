//! Notices that a client has gone while its answer takes its time. HTTP has nothing to send then.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use relais_engine::KeepAlive;
use relais_net::Stream;
use relais_proto::WaitReason;
use rustix::event::PollFlags;

/// Cancels the work for a client whose connection has failed.
///
/// A client that has ended its sending side alone still reads the answer.
pub struct HttpKeepAlive(pub Arc<Stream>);

impl KeepAlive for HttpKeepAlive {
    fn send_keepalive(&mut self, _: WaitReason) -> io::Result<()> {
        let came = self.0.poll(PollFlags::empty(), Some(Duration::ZERO))?;
        if came.intersects(PollFlags::HUP | PollFlags::ERR) && !self.0.has_ended_reading() {
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the client has gone"));
        }
        Ok(())
    }
}

/// Keeps a change that is on its way: nothing cancels it any more.
pub struct ChangeKeepAlive;

impl KeepAlive for ChangeKeepAlive {
    fn send_keepalive(&mut self, _: WaitReason) -> io::Result<()> {
        Ok(())
    }
}
