//! Reads passwords: from a terminal without echo, from a file or from standard input.
//!
//! It never takes one from an argument or the environment, where other users can read it.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use relais_proto::limits;
use thiserror::Error;

/// The reason why a password was not read.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The source (a file or standard input) cannot be read.
    #[error("{place}: {cause}")]
    #[allow(missing_docs, reason = "the names say everything")]
    Io { place: String, cause: io::Error },
    /// The password is above the cap.
    #[error("{0}: a password has at most {most} bytes", most = limits::PASSWORD)]
    TooLong(String),
    /// The password is empty.
    #[error("{0}: the password is empty")]
    Empty(String),
    /// The two typed passwords differ.
    #[error("the passwords are not the same")]
    Differ,
    /// The user pressed Ctrl-C or Ctrl-D.
    #[error("no password was given")]
    NotGiven,
    /// The process has no terminal.
    #[error("there is no terminal to ask for a password; give one with --password-file")]
    NoTerminal,
}

/// One byte more than a password and its line end, to detect one that is too long.
const READ_CAP: u64 = (limits::PASSWORD + 3) as u64;

/// Reads a password from a file. One line end at the end is not part of it.
///
/// # Errors
/// [`SecretError::Io`], [`SecretError::TooLong`], [`SecretError::Empty`].
pub fn from_file(path: &Path) -> Result<Vec<u8>, SecretError> {
    let mut password = Vec::new();
    let read = File::open(path).and_then(|file| file.take(READ_CAP).read_to_end(&mut password));
    checked(read, password, path.display().to_string())
}

/// Asks for a password at the terminal of this process, without showing it.
///
/// # Errors
/// [`SecretError::NoTerminal`], [`SecretError::NotGiven`], [`SecretError::TooLong`],
/// [`SecretError::Empty`].
pub fn ask(prompt: &str) -> Result<Vec<u8>, SecretError> {
    // Echo is off before the prompt appears, because a program or a paste answers it at once.
    ask_without_echo(prompt, &EchoGuard::begin()?)
}

fn ask_without_echo(prompt: &str, _: &EchoGuard) -> Result<Vec<u8>, SecretError> {
    let typed = rpassword::prompt_password(prompt).map_err(|e| match e.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof => SecretError::NotGiven,
        _ => SecretError::NoTerminal,
    })?;
    checked(Ok(typed.len()), typed.into_bytes(), "the terminal".to_owned())
}

/// Turns off the echo of the terminal while it exists.
struct EchoGuard {
    terminal: File,
    before: Termios,
}

impl EchoGuard {
    fn begin() -> Result<Self, SecretError> {
        let terminal = File::open("/dev/tty").map_err(|_| SecretError::NoTerminal)?;
        let before = tcgetattr(&terminal).map_err(|_| SecretError::NoTerminal)?;
        let mut quiet = before.clone();
        // As while the password is read, so that an early Ctrl-C is read then and ends the prompt.
        quiet
            .local_flags
            .remove(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::ISIG);
        tcsetattr(&terminal, SetArg::TCSANOW, &quiet).map_err(|_| SecretError::NoTerminal)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for EchoGuard {
    fn drop(&mut self) {
        // This fails only if the terminal is gone.
        _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}

/// Reads a new password from `file`, else typed twice, else from the first line of standard input.
///
/// Standard input is used if it is no terminal.
///
/// # Errors
/// As [`from_file`] and [`ask`]; [`SecretError::Differ`].
pub fn new_password(file: Option<&PathBuf>, user: &str) -> Result<Vec<u8>, SecretError> {
    if let Some(file) = file {
        return from_file(file);
    }
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        let mut line = Vec::new();
        let read = stdin.lock().take(READ_CAP).read_until(b'\n', &mut line);
        return checked(read, line, "standard input".to_owned());
    }
    let guard = EchoGuard::begin()?;
    let first = ask_without_echo(&format!("New password of {user}: "), &guard)?;
    if ask_without_echo("Once more: ", &guard)? == first {
        Ok(first)
    } else {
        Err(SecretError::Differ)
    }
}

/// Returns a password that was read from `place`, without its line end.
fn checked(
    read: io::Result<usize>,
    mut password: Vec<u8>,
    place: String,
) -> Result<Vec<u8>, SecretError> {
    if let Err(cause) = read {
        return Err(SecretError::Io { place, cause });
    }
    for end in [b'\n', b'\r'] {
        password.pop_if(|last| *last == end);
    }
    match password.len() {
        0 => Err(SecretError::Empty(place)),
        1..=limits::PASSWORD => Ok(password),
        _ => Err(SecretError::TooLong(place)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_not_part_of_a_password() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("password");
        let long = vec![b'x'; limits::PASSWORD];
        for (bytes, expected) in [
            (&b"secret"[..], Some(&b"secret"[..])),
            (b"secret\n", Some(b"secret")),
            (b"secret\r\n", Some(b"secret")),
            (b" secret \n\n", Some(b" secret \n")),
            (b"two\nlines", Some(b"two\nlines")),
            (b"\xff\0", Some(b"\xff\0")),
            (b"", None),
            (b"\r\n", None),
            (&long, Some(&long)),
            (&[long.as_slice(), b"\r\n"].concat(), Some(&long)),
            (&[long.as_slice(), b"x"].concat(), None),
            (&[long.as_slice(), &long].concat(), None),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(
                from_file(&path).ok().as_deref(),
                expected,
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
        assert!(matches!(from_file(&temp.path().join("none")), Err(SecretError::Io { .. })));
    }
}
