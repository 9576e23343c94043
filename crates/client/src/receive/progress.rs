//! What a transfer tells while it runs: the bar, the lines about servers, the save points.

use std::net::SocketAddr;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use relais_proto::TreePath;
use relais_transfer::fetch::{Progress, Resume};

use crate::interrupt::Interrupt;
use crate::notices::Notices;
use crate::sanitize::clean;

/// How the bar looks: rate and time left behind it.
const BAR: &str = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
/// Longest name before the bar, in characters.
const NAME: usize = 30;

/// Keeps a save point.
pub type Save<'a> = dyn FnMut(&Resume) -> Result<(), String> + Send + 'a;

/// Follows one transfer.
pub struct Watch<'a> {
    name: String,
    notices: Notices,
    interrupt: Interrupt,
    save: &'a mut Save<'a>,
    /// Whether the user was told that save points are lost.
    told: bool,
    bar: Option<ProgressBar>,
}

impl<'a> Watch<'a> {
    /// Follows the transfer of `remote`; save points go to `save`.
    pub fn new(remote: &TreePath, notices: Notices, interrupt: Interrupt, save: &'a mut Save<'a>) -> Self {
        Self { name: remote.to_string(), notices, interrupt, save, told: false, bar: None }
    }

    fn label(&self) -> String {
        let name = clean(self.name.trim_start_matches('/'));
        let length = name.chars().count();
        if length <= NAME { name.into_owned() } else { format!("...{}", name.chars().skip(length - NAME + 3).collect::<String>()) }
    }
}

impl Progress for Watch<'_> {
    fn started(&mut self, size: u64, resumed_from: u64) {
        if !self.notices.on_terminal() {
            return;
        }
        self.notices.set_bar(None);
        let bar = ProgressBar::new(size);
        if let Ok(style) = ProgressStyle::with_template(BAR) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(self.label());
        bar.set_position(resumed_from);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(200));
        self.notices.set_bar(Some(bar.clone()));
        self.bar = Some(bar);
    }

    fn advanced(&mut self, good: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(good);
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
        if let Err(why) = (self.save)(state)
            && !std::mem::replace(&mut self.told, true)
        {
            self.notices.say(&format!("{}: the .log cannot be written, so it could not be carried on from here: {why}", self.name));
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
