//! A pseudo-terminal that runs a program.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, Winsize, openpty};

use super::process::Capture;
use super::{Program, ProgramBuilder};

/// The user's side of a terminal.
pub struct Pty {
    keyboard: File,
    /// Collects the output to the screen.
    pub screen: Capture,
}

impl Pty {
    /// Starts a program at a new terminal; its stderr stays a pipe that the test reads.
    pub fn start(setup: ProgramBuilder) -> (Self, Program) {
        let size = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        // A program of another test must not inherit this terminal.
        for end in [&master, &slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let screen = Capture::of(File::from(master.try_clone().unwrap()));
        let program = setup
            .in_session(Stdio::from(slave.try_clone().unwrap()))
            .stdout(Stdio::from(slave))
            .start();
        (Self { keyboard: File::from(master), screen }, program)
    }

    /// Starts a program with stderr on the screen too, and with colours.
    pub fn start_with_stderr(setup: ProgramBuilder) -> (Self, Program) {
        Self::start(setup.env("TERM", "xterm-256color").under(&[
            "sh",
            "-c",
            r#"exec "$0" "$@" 2>&1"#,
        ]))
    }

    /// Sets the number of columns.
    pub fn resize(&self, columns: u16) {
        let size =
            rustix::termios::Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.keyboard, size).unwrap();
    }

    /// Presses keys. Ctrl-C is `\x03`, Enter is `\r`.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }
}
