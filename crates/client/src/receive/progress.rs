//! What a transfer tells while it runs: the bar, the lines about servers, the save points.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use relais_proto::TreePath;
use relais_transfer::fetch::{Progress, Resume};

use super::ledger::Ledger;
use crate::interrupt::Interrupt;
use crate::notices::Notices;
use crate::sanitize::clean;

/// How the bar looks: rate and time left behind it.
const BAR: &str = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
/// A transfer that takes less time than this has no bar: it would only flicker.
const BAR_AFTER: Duration = Duration::from_millis(300);
/// Longest name before the bar, in characters.
const NAME: usize = 30;

/// Follows one transfer.
pub struct Watch<'a> {
    name: String,
    notices: Notices,
    interrupt: Interrupt,
    /// None where the `.log` cannot be used; the user was told.
    ledger: Option<&'a mut Ledger>,
    /// Whether the user was told that save points are lost.
    told: bool,
    /// Whether somebody looks at a bar.
    seen: bool,
    begun: Instant,
    size: u64,
    bar: Option<ProgressBar>,
    /// Whether the bar is drawn.
    shown: bool,
}

impl<'a> Watch<'a> {
    /// Follows the transfer of `remote`; save points go to `ledger`.
    pub fn new(remote: &TreePath, notices: Notices, interrupt: Interrupt, ledger: Option<&'a mut Ledger>) -> Self {
        let (name, seen) = (remote.to_string(), notices.on_terminal());
        Self { name, notices, interrupt, ledger, told: false, seen, begun: Instant::now(), size: 0, bar: None, shown: false }
    }

    /// Begins to measure rate and time left. Nothing is drawn yet.
    fn measure(&mut self, resumed_from: u64) {
        let bar = ProgressBar::with_draw_target(Some(self.size), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(BAR) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(self.label());
        bar.set_position(resumed_from);
        // What was there before counts neither for the rate nor for the time left.
        bar.reset_eta();
        self.bar = Some(bar);
        self.shown = false;
    }

    fn show_bar(&mut self) {
        if let Some(bar) = &self.bar {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(200));
            self.notices.set_bar(Some(bar.clone()));
            self.shown = true;
        }
    }

    fn label(&self) -> String {
        let name = clean(self.name.trim_start_matches('/'));
        let length = name.chars().count();
        if length <= NAME { name.into_owned() } else { format!("...{}", name.chars().skip(length - NAME + 3).collect::<String>()) }
    }
}

impl Progress for Watch<'_> {
    fn started(&mut self, size: u64, resumed_from: u64) {
        self.size = size;
        match &self.bar {
            Some(bar) => {
                bar.set_length(size);
                bar.set_position(resumed_from);
                bar.reset_eta();
            }
            None if self.seen => self.measure(resumed_from),
            None => {}
        }
    }

    fn advanced(&mut self, good: u64) {
        let Some(bar) = &self.bar else { return };
        bar.set_position(good);
        if !self.shown && self.begun.elapsed() >= BAR_AFTER {
            self.show_bar();
        }
    }

    fn moved(&mut self, from: SocketAddr, to: SocketAddr, at: u64) {
        let why = self.notices.take_lost().map_or_else(|| "connection closed".to_owned(), |gone| gone.why);
        self.notices.say(&format!("{from} is gone ({why}); going on at byte {at} from {to}"));
    }

    fn restarted(&mut self, why: &str) {
        self.notices.say(&format!("{}: beginning again: {why}", self.name));
    }

    fn checkpoint(&mut self, state: &Resume) {
        let Some(ledger) = &mut self.ledger else { return };
        if let Err(failure) = ledger.save(state)
            && !std::mem::replace(&mut self.told, true)
        {
            self.notices.say(&format!("{}: cut off now it could not be carried on from here: {failure}", self.name));
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupt.is_raised()
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            self.notices.set_bar(None);
        }
    }
}
