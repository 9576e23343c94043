//! The progress bar of one transfer, on a terminal alone.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use relais_proto::TreePath;

use crate::notices::Notices;
use crate::recursive::Part;
use crate::sanitize::clean;

/// How the bar looks: rate and time left behind it.
const BAR: &str = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
/// A transfer that takes less time than this has no bar: it would only flicker.
const BAR_AFTER: Duration = Duration::from_millis(300);
/// Longest name before the bar, in characters.
const NAME: usize = 30;

/// Shows how far a transfer is. Gone when dropped.
pub struct Bar {
    name: String,
    notices: Notices,
    /// The bar of the whole command, where there is one: it moves instead of one of the file's own.
    whole: Option<Part>,
    /// Whether somebody looks at a bar.
    seen: bool,
    begun: Instant,
    bar: Option<ProgressBar>,
    /// Whether the bar is drawn.
    shown: bool,
}

impl Bar {
    /// The bar of the transfer of `remote`. Nothing is drawn yet.
    pub fn new(remote: &TreePath, notices: Notices) -> Self {
        let (name, whole) = (remote.to_string(), notices.whole());
        let seen = whole.is_none() && notices.on_terminal();
        Self { name, notices, whole, seen, begun: Instant::now(), bar: None, shown: false }
    }

    /// The transfer goes on from `resumed_from` of `size` bytes; 0 where that is not known, and no bar either.
    pub fn started(&mut self, size: u64, resumed_from: u64) {
        if self.bar.is_none() && self.seen && size > 0 {
            self.bar = Some(self.make());
        }
        if let Some(bar) = &self.bar {
            bar.set_length(size);
            bar.set_position(resumed_from);
            // What was there before counts neither for the rate nor for the time left.
            bar.reset_eta();
        }
    }

    /// So many bytes are there.
    pub fn advanced(&mut self, position: u64) {
        if let Some(whole) = &self.whole {
            return whole.advanced(&self.notices, position);
        }
        let Some(bar) = &self.bar else { return };
        bar.set_position(position);
        if !self.shown && self.begun.elapsed() >= BAR_AFTER {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(200));
            self.notices.set_bar(Some(bar.clone()));
            self.shown = true;
        }
    }

    fn make(&self) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(BAR) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(self.label());
        bar
    }

    fn label(&self) -> String {
        let name = clean(self.name.trim_start_matches('/'));
        let length = name.chars().count();
        if length <= NAME {
            name.into_owned()
        } else {
            format!("...{}", name.chars().skip(length - NAME + 3).collect::<String>())
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            if self.shown {
                self.notices.set_bar(None);
            }
        }
    }
}
