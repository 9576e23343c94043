//! The file with the log-outs that a server knows, so that they hold after a restart.
//!
//! Each line has a part of the table, the number of a ticket, and the time until which it is kept.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use relais_os::write_atomically;
use relais_proto::LogOut;

use crate::ended_tickets::EndedTickets;
use crate::secret_file::{SecretFile, SecretFileError};

/// Longest line in bytes, with its end.
const LINE: u64 = 48;

/// The file; it need not exist.
#[derive(Debug)]
pub struct LogOutFile(SecretFile);

impl LogOutFile {
    /// Names the file.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let cap = EndedTickets::ROWS as u64 * LINE;
        Self(SecretFile { what: "file of log-outs", path, cap })
    }

    /// Reads the log-outs; there are none if there is no file.
    ///
    /// # Errors
    /// The file cannot be used: log-outs would be forgotten.
    pub fn read(&self) -> Result<Vec<LogOut>, SecretFileError> {
        let Some((text, _)) = self.0.read()? else { return Ok(Vec::new()) };
        text.lines()
            .map(|line| parse(line).ok_or_else(|| self.0.malformed("has a malformed line")))
            .collect()
    }

    /// Replaces the file, which is on the disk when this returns.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn write(&self, rows: &[LogOut]) -> io::Result<()> {
        let mut text = String::new();
        for LogOut { part, ticket, until_ms } in rows {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{part} {ticket:016x} {until_ms}");
        }
        write_atomically(&self.0.path, text.as_bytes())
    }
}

fn parse(line: &str) -> Option<LogOut> {
    let mut fields = line.split(' ');
    let mut next = || fields.next();
    let (part, ticket, until_ms) = (next()?, next()?, next()?);
    let row = LogOut {
        part: part.parse().ok()?,
        ticket: u64::from_str_radix(ticket, 16).ok()?,
        until_ms: until_ms.parse().ok()?,
    };
    next().is_none().then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_outs_survive_reopening() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log-outs");
        let file = LogOutFile::new(path.clone());
        assert_eq!(file.read().unwrap(), []);
        let row = |n: usize| LogOut { part: 255, ticket: u64::MAX - n as u64, until_ms: u64::MAX };
        let rows: Vec<LogOut> = (0..EndedTickets::ROWS).map(row).collect();
        for rows in [&rows[..], &rows[..1], &[]] {
            file.write(rows).unwrap();
            assert_eq!(LogOutFile::new(path.clone()).read().unwrap(), rows);
        }
        for text in ["1 2", "1 2 3 4\n", "256 0 1", "x\n"] {
            write_atomically(&path, text.as_bytes()).unwrap();
            let error = file.read().unwrap_err().to_string();
            assert!(error.contains("malformed line"), "{error}");
        }
    }
}
