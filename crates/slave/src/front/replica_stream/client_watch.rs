//! Notices that the client has gone or cancelled while a stream waits for another slave.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use relais_engine::KeepAlive;
use relais_net::Connection;
use relais_proto::{Reply, Request, WaitReason, limits};
use relais_transfer::{Fault, TransferError, exchange};

/// Time between two looks at the client.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The client that waits for a stream.
pub struct ClientWatch<'a>(RefCell<&'a mut dyn KeepAlive>);

impl<'a> ClientWatch<'a> {
    pub fn new(keepalive: &'a mut dyn KeepAlive) -> Self {
        Self(RefCell::new(keepalive))
    }

    /// Whether the client has gone or has cancelled the command.
    pub fn is_gone(&self) -> bool {
        self.0.borrow_mut().send_keepalive(WaitReason::CatchingUp).is_err()
    }

    /// Lets `work` use the keep-alive.
    pub fn during<T>(&self, work: impl FnOnce(&mut dyn KeepAlive) -> T) -> T {
        work(&mut **self.0.borrow_mut())
    }

    /// Waits for `time`.
    ///
    /// # Errors
    /// [`TransferError::Interrupted`] if the client goes.
    pub fn pause(&self, time: Duration) -> Result<(), TransferError> {
        let until = Instant::now() + time;
        loop {
            if self.is_gone() {
                return Err(TransferError::Interrupted);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK_INTERVAL));
        }
    }

    /// Waits until the other slave has sent something.
    ///
    /// # Errors
    /// [`Fault::Lost`] if it is silent; [`TransferError::Interrupted`] if the client goes.
    pub fn wait_for_input(&self, from: &Connection) -> Result<(), Fault> {
        let since = Instant::now();
        while !from.wait_for_input(LOOK_INTERVAL)? {
            if self.is_gone() {
                return Err(TransferError::Interrupted.into());
            }
            if since.elapsed() >= limits::SILENCE {
                return Err(Fault::Lost("it is silent".to_owned()));
            }
        }
        Ok(())
    }

    /// Sends a request and returns its first answer other than a keep-alive.
    ///
    /// # Errors
    /// As [`Self::wait_for_input`]; those of [`exchange::ask`].
    pub fn ask(&self, to: &mut Connection, request: &Request) -> Result<Reply, Fault> {
        to.queue(request);
        to.flush()?;
        self.answer(to)
    }

    /// Reads the next answer other than a keep-alive.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn answer(&self, from: &mut Connection) -> Result<Reply, Fault> {
        let since = Instant::now();
        loop {
            self.wait_for_input(from)?;
            if let Some(reply) = exchange::next_answer(from, since)? {
                return Ok(reply);
            }
        }
    }
}
