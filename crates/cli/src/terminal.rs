//! The controlling terminal.

use std::fs::File;

/// Whether this process has a controlling terminal, so that SIGHUP means that the terminal is gone.
///
/// Ask at the start: a terminal that hangs up is taken away before its signal is handled.
#[must_use]
pub fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}
