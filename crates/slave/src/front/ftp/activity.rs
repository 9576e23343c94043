//! What a session does at the moment, for STAT during a command.

use std::time::Instant;

use relais_ftp::Reply;

/// The command that runs, and how far its transfer is.
#[derive(Debug, Default)]
pub struct Activity {
    /// Verb and path of the command; empty between two commands.
    text: String,
    /// Bytes over the data connection.
    bytes: u64,
    since: Option<Instant>,
}

impl Activity {
    /// Begins a command.
    pub fn begin(&mut self, text: String) {
        *self = Self { text, bytes: 0, since: Some(Instant::now()) };
    }

    /// Ends the command.
    pub fn end(&mut self) {
        *self = Self::default();
    }

    /// Sets the bytes that were sent or received over the data connection.
    pub fn set_bytes(&mut self, bytes: u64) {
        self.bytes = bytes;
    }

    /// Returns the answer to a STAT that comes while the command runs.
    ///
    /// RFC 959 section 4.1.3: the server answers with the status of the operation in progress.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let seconds = self.since.map_or(0, |since| since.elapsed().as_secs());
        let text = format!("{}: {} bytes in {seconds} s", self.text, self.bytes);
        Reply::new(211, text)
    }
}
