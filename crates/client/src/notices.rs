//! Lines on standard error: what happens on the way, apart from the outcome of a command.
//!
//! A progress bar may be standing on the terminal; lines are printed above it. Everything is
//! cleaned before it is shown. A notice that cannot be printed is dropped: where standard
//! error is gone there is nobody to tell.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::ProgressBar;

use crate::recursive::Part;
use crate::sanitize::clean_lines;

/// A server that failed the client, not told to the user yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Its address.
    pub addr: SocketAddr,
    /// Why, in a few words.
    pub why: String,
}

#[derive(Default)]
struct Inner {
    bar: Option<ProgressBar>,
    whole: Option<Part>,
    gone: Option<Gone>,
    collected: Option<Vec<String>>,
}

/// Where notices go; clones share it.
#[derive(Clone, Default)]
pub struct Notices(Arc<Mutex<Inner>>);

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
        Self(Arc::new(Mutex::new(Inner { collected: Some(Vec::new()), ..Inner::default() })))
    }

    /// What was collected.
    #[cfg(test)]
    #[must_use]
    pub fn collected(&self) -> Vec<String> {
        self.inner().collected.clone().unwrap_or_default()
    }

    /// Whether somebody is looking at standard error.
    #[must_use]
    pub fn on_terminal(&self) -> bool {
        self.inner().collected.is_none() && std::io::stderr().is_terminal()
    }

    /// Prints one notice.
    pub fn say(&self, text: &str) {
        let text = clean_lines(text);
        let mut inner = self.inner();
        if let Some(collected) = &mut inner.collected {
            collected.push(text);
            return;
        }
        let print = || {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        };
        match &inner.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Lines go above this bar from here on, or to a bare terminal again.
    pub fn set_bar(&self, bar: Option<ProgressBar>) {
        self.inner().bar = bar;
    }

    /// Files show their progress in this bar of a whole command from here on, or in one of their own again.
    pub fn set_whole(&self, whole: Option<Part>) {
        self.inner().whole = whole;
    }

    /// The bar of the whole command.
    #[must_use]
    pub fn whole(&self) -> Option<Part> {
        self.inner().whole.clone()
    }

    /// A server failed; the first of several in a row is the one to tell of.
    pub fn lost(&self, addr: SocketAddr, why: &str) {
        // The system's number for an error says nothing to the user.
        let why = why.split_once(" (os error ").map_or(why, |(words, _)| words);
        self.inner().gone.get_or_insert_with(|| Gone { addr, why: why.to_owned() });
    }

    /// The server that failed, where it was not told of yet; told by the caller then.
    #[must_use]
    pub fn take_lost(&self) -> Option<Gone> {
        self.inner().gone.take()
    }

    /// Why the server failed that was not told of yet; told by the caller then.
    #[must_use]
    pub fn why_lost(&self) -> String {
        self.take_lost().map_or_else(|| "connection closed".to_owned(), |gone| gone.why)
    }

    /// A panic elsewhere leaves these few fields whole.
    fn inner(&self) -> MutexGuard<'_, Inner> {
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
        notices.lost(first, "connection closed (os error 32)");
        notices.clone().lost(second, "connection refused");
        assert_eq!(
            notices.take_lost(),
            Some(Gone { addr: first, why: "connection closed".into() })
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
