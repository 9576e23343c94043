//! Lines on standard error: what happens on the way, apart from the outcome of a command.
//!
//! A progress bar may be standing on the terminal; lines are printed above it. Everything is
//! cleaned before it is shown. A notice that cannot be printed is dropped: where standard
//! error is gone there is nobody to tell.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::ProgressBar;

use crate::recursive::BatchBar;
use crate::sanitize::clean_lines;

/// A server that failed the client, not told to the user yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostServer {
    /// Its address.
    pub addr: SocketAddr,
    /// Why, in a few words.
    pub why: String,
}

#[derive(Default)]
struct NoticeState {
    bar: Option<ProgressBar>,
    batch_bar: Option<BatchBar>,
    gone: Option<LostServer>,
    collected: Option<Vec<String>>,
}

/// Where notices go; clones share it.
#[derive(Clone, Default)]
pub struct Notices(Arc<Mutex<NoticeState>>);

impl Notices {
    /// Notices for standard error.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notices that are kept for a test to look at.
    #[cfg(test)]
    #[must_use]
    pub fn collecting() -> Self {
        Self(Arc::new(Mutex::new(NoticeState {
            collected: Some(Vec::new()),
            ..NoticeState::default()
        })))
    }

    /// What was collected.
    #[cfg(test)]
    #[must_use]
    pub fn collected(&self) -> Vec<String> {
        self.state().collected.clone().unwrap_or_default()
    }

    /// Whether somebody is looking at standard error.
    #[must_use]
    pub fn on_terminal(&self) -> bool {
        self.state().collected.is_none() && std::io::stderr().is_terminal()
    }

    /// Prints one notice.
    pub fn say(&self, text: &str) {
        let text = clean_lines(text);
        let mut state = self.state();
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

    /// Lines go above this bar from here on, or to a bare terminal again.
    pub fn set_bar(&self, bar: Option<ProgressBar>) {
        self.state().bar = bar;
    }

    /// Files show their progress in this bar of a whole command from here on, or in one of their own again.
    pub fn set_batch_bar(&self, batch_bar: Option<BatchBar>) {
        self.state().batch_bar = batch_bar;
    }

    /// The bar of the whole command.
    #[must_use]
    pub fn batch_bar(&self) -> Option<BatchBar> {
        self.state().batch_bar.clone()
    }

    /// A server failed; the first of several in a row is the one to tell of.
    pub fn record_lost(&self, addr: SocketAddr, why: &str) {
        // The system's number for an error says nothing to the user.
        let why = why.split_once(" (os error ").map_or(why, |(words, _)| words);
        self.state().gone.get_or_insert_with(|| LostServer { addr, why: why.to_owned() });
    }

    /// The server that failed, where it was not told of yet; told by the caller then.
    #[must_use]
    pub fn take_lost(&self) -> Option<LostServer> {
        self.state().gone.take()
    }

    /// Why the server failed that was not told of yet; told by the caller then.
    #[must_use]
    pub fn take_lost_reason(&self) -> String {
        self.take_lost().map_or_else(|| "connection closed".to_owned(), |gone| gone.why)
    }

    /// A panic elsewhere leaves these few fields whole.
    fn state(&self) -> MutexGuard<'_, NoticeState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_loss_of_several_is_told_once() {
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
    fn notices_are_cleaned() {
        let notices = Notices::collecting();
        notices.say("a\u{1b}[2J");
        assert_eq!(notices.collected(), ["a\\u{1b}[2J"]);
    }
}
