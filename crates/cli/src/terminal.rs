//! What SIGHUP means to a server.

use std::fs::{self, File};

/// Number of SIGHUP, the same on every Linux.
const SIGHUP: u32 = 1;

/// Returns whether SIGHUP stops this process, because its terminal hangs up.
///
/// Without a controlling terminal, or if SIGHUP is ignored as under `nohup`, it does not.
///
/// Call it at the start: a terminal that hangs up is taken away before its signal is handled.
#[must_use]
pub fn stops_on_hangup() -> bool {
    let is_ignored =
        fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, SIGHUP));
    !is_ignored && File::open("/dev/tty").is_ok()
}

/// Returns whether a process with this `/proc/PID/status` ignores a signal.
fn ignores(status: &str, signal: u32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let status = |mask| format!("Name:\tx\nSigIgn:\t{mask}\nSigCgt:\tffffffffffffffff\n");
        assert!(ignores(&status("0000000000001001"), SIGHUP));
        assert!(!ignores(&status("0000000000001000"), SIGHUP));
        assert!(ignores(&status("0000000000001000"), 13));
        assert!(!ignores("", SIGHUP));
    }
}
