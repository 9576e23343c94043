//! Lines on standard error: events during a command, apart from its outcome.
//!
//! If a progress bar is drawn, lines are printed above it. All text is sanitized first. A notice
//! that cannot be printed is dropped: without standard error there is no other channel.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use indicatif::ProgressBar;
use parking_lot::Mutex;

use crate::sanitize::sanitize_lines;

/// Prints one notice; the arguments after the notices are those of `format!`.
macro_rules! say {
    ($notices:expr, $($message:tt)+) => {
        $notices.say(&format!($($message)+))
    };
}

/// A failed server that the user has not been told of yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostServer {
    /// Address of the server.
    pub addr: SocketAddr,
    /// The reason in a few words.
    pub why: String,
}

#[derive(Default)]
struct NoticeState {
    bar: Option<ProgressBar>,
    gone: Option<LostServer>,
    collected: Option<Vec<String>>,
}

/// The destination of notices, by default standard error; clones share it.
#[derive(Clone, Default)]
pub struct Notices(Arc<Mutex<NoticeState>>);

impl Notices {
    /// Whether standard error is a terminal.
    pub fn on_terminal(&self) -> bool {
        self.0.lock().collected.is_none() && std::io::stderr().is_terminal()
    }

    /// Prints one notice.
    pub fn say(&self, text: &str) {
        let text = sanitize_lines(text);
        let mut state = self.0.lock();
        if let Some(collected) = &mut state.collected {
            collected.push(text);
            return;
        }
        let print = || {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        };
        match &state.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Sets the progress bar above which lines are printed; none for a plain terminal.
    pub fn set_bar(&self, bar: Option<ProgressBar>) {
        self.0.lock().bar = bar;
    }

    /// Records a failed server. Of several in a row the first is reported.
    pub fn record_lost(&self, addr: SocketAddr, why: &str) {
        // The system's error number means nothing to the user.
        let why = why.split_once(" (os error ").map_or(why, |(words, _)| words);
        self.0.lock().gone.get_or_insert_with(|| LostServer { addr, why: why.to_owned() });
    }

    /// Takes the failed server; the caller reports it.
    #[must_use]
    pub fn take_lost(&self) -> Option<LostServer> {
        self.0.lock().gone.take()
    }

    /// Tells the user in one line that the server `now` has taken over from a failed one.
    pub fn report_failover(&self, now: SocketAddr) {
        if let Some(LostServer { addr, why }) = self.take_lost() {
            say!(self, "lost {addr} ({why}); continuing with {now}");
        }
    }

    /// Takes the reason of the failure; the caller reports it.
    #[must_use]
    pub fn take_lost_reason(&self) -> String {
        self.take_lost().map_or_else(|| "connection closed".to_owned(), |gone| gone.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Notices {
        /// Creates notices that a test can inspect.
        pub fn collecting() -> Self {
            Self(Arc::new(Mutex::new(NoticeState {
                collected: Some(Vec::new()),
                ..NoticeState::default()
            })))
        }

        /// Returns the collected notices.
        pub fn collected(&self) -> Vec<String> {
            self.0.lock().collected.clone().unwrap_or_default()
        }
    }

    #[test]
    fn first_of_several_lost_servers_is_reported() {
        let notices = Notices::collecting();
        let (first, second) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        notices.record_lost(first, "connection closed (os error 32)");
        notices.clone().record_lost(second, "connection refused");
        assert_eq!(
            notices.take_lost(),
            Some(LostServer { addr: first, why: "connection closed".into() })
        );
        assert_eq!(notices.take_lost(), None);
    }

    #[test]
    fn notices_are_sanitized() {
        let notices = Notices::collecting();
        notices.say("a\u{1b}[2J");
        assert_eq!(notices.collected(), ["a\\u{1b}[2J"]);
    }
}
