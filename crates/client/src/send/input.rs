//! Sending standard input, whose length is unknown.
//!
//! Standard input is read once and not stored. After the first byte it can be neither resumed nor
//! sent to another server.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use relais_proto::{ErrorCode, Expect, TreePath};
use relais_transfer::TransferError;
use relais_transfer::upload::{UploadTarget, put_stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::progress::UploadProgress;
use super::{sent, too_few_copies};
use crate::error::plain;
use crate::interrupt::Interrupt;
use crate::outcome::Sent;
use crate::session::new_id;
use crate::shell::Shell;
use crate::{Failure, Result};

/// How long a read waits before it checks for an interruption.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A file that is read to its end, or until the user interrupts.
struct InterruptibleInput<F> {
    file: F,
    interrupt: Interrupt,
}

impl<F: AsFd> Read for InterruptibleInput<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wait = Timespec::try_from(POLL_INTERVAL).map_err(io::Error::other)?;
        loop {
            if self.interrupt.is_raised() {
                return Err(io::Error::other("interrupted"));
            }
            match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&wait)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return rustix::io::read(&self.file, buffer).map_err(io::Error::from),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl Shell {
    /// Sends standard input to `remote`.
    ///
    /// # Errors
    /// See [`Failure`]; the upload cannot be resumed.
    pub fn send_input(&mut self, remote: &TreePath, expect: Expect) -> Result<Sent> {
        self.send_stream(std::io::stdin(), remote, expect)
    }

    /// Sends the content of `file` to `remote`.
    ///
    /// # Errors
    /// As [`Self::send_input`].
    pub fn send_stream(
        &mut self,
        file: impl AsFd,
        remote: &TreePath,
        expect: Expect,
    ) -> Result<Sent> {
        let begun = Instant::now();
        self.session.connect()?;
        let target = UploadTarget {
            id: new_id()?,
            is_old: false,
            path: remote,
            expect,
            copies: self.copies,
        };
        let mut progress = UploadProgress::without_log(remote, self);
        let mut input = InterruptibleInput { file, interrupt: self.interrupt.clone() };
        let result = put_stream(&mut self.session, &mut input, &target, &mut progress);
        drop(progress);
        let stored = result.map_err(|error| upload_failure(error, remote))?;
        self.session.record_lsn(stored.version);
        Ok(sent(remote.to_string(), "-".to_owned(), begun, stored, Some(0)))
    }
}

/// Converts the error of an upload into a failure for the user.
///
/// The code is never `cut`, because that code promises that the upload can be resumed.
fn upload_failure(error: TransferError, remote: &TreePath) -> Failure {
    let failure = match error {
        TransferError::Refused(refusal) if refusal.code == ErrorCode::TooFewCopies => {
            too_few_copies(&refusal.message)
        }
        TransferError::Local { error, .. } => {
            failure!(Local, "standard input: {}", plain(&error))
        }
        TransferError::Unreachable(why) => failure!(
            Local,
            "the transfer was cut: {why}; \
             standard input cannot be read again, so it cannot be resumed"
        ),
        other => other.into(),
    };
    crate::shell::with_path(remote, failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn input_ends_at_eof_or_interruption() {
        let (reader, mut writer) = io::pipe().unwrap();
        let interrupt = Interrupt::new();
        let mut input = InterruptibleInput { file: reader, interrupt: interrupt.clone() };
        writer.write_all(b"abc").unwrap();
        let mut buffer = [0; 8];
        assert_eq!((input.read(&mut buffer).unwrap(), &buffer[..3]), (3, &b"abc"[..]));
        let raised = std::thread::spawn(move || interrupt.raise());
        assert_eq!(input.read(&mut buffer).unwrap_err().to_string(), "interrupted");
        raised.join().unwrap();
        drop(writer);
        let mut input = InterruptibleInput { interrupt: Interrupt::new(), ..input };
        assert_eq!(input.read(&mut buffer).unwrap(), 0);
    }
}
