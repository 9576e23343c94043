//! Passwords as people give them to programs: typed unseen at a terminal, or in a file.
//!
//! Never in an argument or in the environment, where others can read them.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use relais_proto::limits;
use thiserror::Error;

/// Why there is no password.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file or standard input cannot be read.
    #[error("{place}: {cause}")]
    Io {
        /// What was to be read.
        place: String,
        /// What the system said.
        cause: io::Error,
    },
    /// It has too many bytes.
    #[error("{0}: a password has at most {most} bytes", most = limits::PASSWORD)]
    TooLong(String),
    /// It has none.
    #[error("{0}: the password is empty")]
    Empty(String),
    /// Two that were typed are not the same.
    #[error("the passwords are not the same")]
    Differ,
    /// The user pressed Ctrl-C or Ctrl-D.
    #[error("no password was given")]
    NotGiven,
    /// Nobody can be asked.
    #[error("there is no terminal to ask for a password; give one with --password-file")]
    NoTerminal,
}

/// What the typed password is of.
const TERMINAL: &str = "the terminal";

/// The password in a file. One line end at its end is not part of it.
///
/// # Errors
/// [`SecretError::Io`], [`SecretError::TooLong`], [`SecretError::Empty`].
pub fn from_file(path: &Path) -> Result<Vec<u8>, SecretError> {
    let place = path.display().to_string();
    let file = File::open(path).map_err(|cause| SecretError::Io { place: place.clone(), cause })?;
    // One more than a password and its line end: enough to tell that it is too long.
    let mut password = Vec::new();
    file.take(most())
        .read_to_end(&mut password)
        .map_err(|cause| SecretError::Io { place: place.clone(), cause })?;
    trimmed(password, place)
}

/// Asks for a password at the terminal of this process, without showing it.
///
/// # Errors
/// [`SecretError::NoTerminal`], [`SecretError::NotGiven`], [`SecretError::TooLong`], [`SecretError::Empty`].
pub fn ask(prompt: &str) -> Result<Vec<u8>, SecretError> {
    // Before the question: it is answered at once by whoever pastes the password, or by a program.
    ask_unseen(prompt, &Unseen::begin()?)
}

fn ask_unseen(prompt: &str, _: &Unseen) -> Result<Vec<u8>, SecretError> {
    let typed = rpassword::prompt_password(prompt).map_err(|e| match e.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof => SecretError::NotGiven,
        _ => SecretError::NoTerminal,
    })?;
    trimmed(typed.into_bytes(), TERMINAL.to_owned())
}

/// The terminal of this process shows nothing of what is typed while this lives.
struct Unseen {
    terminal: File,
    before: Termios,
}

impl Unseen {
    fn begin() -> Result<Self, SecretError> {
        let terminal = File::open("/dev/tty").map_err(|_| SecretError::NoTerminal)?;
        let before = tcgetattr(&terminal).map_err(|_| SecretError::NoTerminal)?;
        let mut unseen = before.clone();
        // As while the password is read: a Ctrl-C that comes now is read then, and ends it.
        unseen
            .local_flags
            .remove(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::ISIG);
        tcsetattr(&terminal, SetArg::TCSANOW, &unseen).map_err(|_| SecretError::NoTerminal)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // It fails where the terminal is gone, and nobody sees it any more then.
        _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}

/// A new password: from `file`, or typed twice, or the first line of standard input where that is no terminal.
///
/// # Errors
/// As the others; [`SecretError::Differ`].
pub fn new_password(file: Option<&PathBuf>, user: &str) -> Result<Vec<u8>, SecretError> {
    if let Some(file) = file {
        return from_file(file);
    }
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        let (place, mut line) = ("standard input".to_owned(), Vec::new());
        let read = stdin.lock().take(most()).read_until(b'\n', &mut line);
        read.map_err(|cause| SecretError::Io { place: place.clone(), cause })?;
        return trimmed(line, place);
    }
    let unseen = Unseen::begin()?;
    let first = ask_unseen(&format!("New password of {user}: "), &unseen)?;
    if ask_unseen("Once more: ", &unseen)? == first { Ok(first) } else { Err(SecretError::Differ) }
}

fn most() -> u64 {
    (limits::PASSWORD + 3) as u64
}

fn trimmed(mut password: Vec<u8>, place: String) -> Result<Vec<u8>, SecretError> {
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
