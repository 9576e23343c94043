//! The progress bar of one transfer, shown on a terminal only.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use relais_proto::TreePath;

use crate::notices::Notices;
use crate::recursive::BatchBar;
use crate::sanitize::sanitize;

/// Template for a terminal wide enough for a bar.
///
/// Apart from bar and label, it takes at most [`WIDE_REST`] columns.
const WIDE: &str = "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
/// Columns of [`WIDE`] without the label, with a bar of ten columns.
const WIDE_REST: usize = 62;
/// Template for a narrow terminal. Apart from the label, it takes at most 26 columns.
const NARROW: &str = "{wide_msg} {percent:>3}% {bytes_per_sec} {eta}";
/// Delay before the bar appears, so that short transfers do not make it flicker.
const BAR_DELAY: Duration = Duration::from_millis(300);
/// Shortest and longest name before the bar, in characters.
const NAME: (usize, usize) = (10, 30);
/// Columns of a terminal that reports no width.
const DEFAULT_COLUMNS: usize = 80;

/// Shows the progress of a transfer; the bar is removed on drop.
pub struct TransferBar {
    name: String,
    notices: Notices,
    /// Bar of the whole command; if present, it replaces the bar of the file.
    batch_bar: Option<BatchBar>,
    /// Whether a bar can be shown at all.
    seen: bool,
    begun: Instant,
    bar: Option<ProgressBar>,
    /// Whether the bar is drawn.
    shown: bool,
}

impl TransferBar {
    /// Creates the bar for the transfer of `remote`; nothing is drawn yet.
    pub fn new(remote: &TreePath, notices: Notices) -> Self {
        let (name, batch_bar) = (remote.to_string(), notices.batch_bar());
        let seen = batch_bar.is_none() && notices.on_terminal();
        Self { name, notices, batch_bar, seen, begun: Instant::now(), bar: None, shown: false }
    }

    /// Starts at `resumed_from` of `size` bytes; a size of 0 is unknown and shows no bar.
    pub fn started(&mut self, size: u64, resumed_from: u64) {
        if self.bar.is_none() && self.seen && size > 0 {
            self.bar = Some(self.make());
        }
        if let Some(bar) = &self.bar {
            bar.set_length(size);
            bar.set_position(resumed_from);
            // Bytes of an earlier run count neither for the rate nor for the remaining time.
            bar.reset_eta();
        }
    }

    /// Sets the number of transferred bytes.
    pub fn advanced(&mut self, position: u64) {
        if let Some(batch_bar) = &self.batch_bar {
            return batch_bar.advanced(&self.notices, position);
        }
        let Some(bar) = &self.bar else { return };
        bar.set_position(position);
        if !self.shown && self.begun.elapsed() >= BAR_DELAY {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(200));
            self.notices.set_bar(Some(bar.clone()));
            self.shown = true;
        }
    }

    fn make(&self) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let layout = BarLayout::of_terminal(0);
        bar.set_style(layout.style());
        bar.set_message(layout.name(self.name.trim_start_matches('/')));
        bar
    }
}

/// The layout of a progress bar for the terminal's width.
pub struct BarLayout {
    is_wide: bool,
    /// Longest name, in characters.
    name: usize,
}

impl BarLayout {
    /// Returns the layout for standard error. The label has `extra` columns beside the name.
    pub fn of_terminal(extra: usize) -> Self {
        let columns = rustix::termios::tcgetwinsize(std::io::stderr())
            .map_or(0, |size| usize::from(size.ws_col));
        Self::new(if columns == 0 { DEFAULT_COLUMNS } else { columns }, extra)
    }

    fn new(columns: usize, extra: usize) -> Self {
        let room = columns.saturating_sub(WIDE_REST + extra);
        Self { is_wide: room >= NAME.0, name: room.clamp(NAME.0, NAME.1) }
    }

    /// Returns the style of the bar.
    pub fn style(&self) -> ProgressStyle {
        let template = if self.is_wide { WIDE } else { NARROW };
        ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ")
    }

    /// Sanitizes a name, and cuts its beginning if it is too long.
    pub fn name(&self, name: &str) -> String {
        let name = sanitize(name);
        let length = name.chars().count();
        if length <= self.name {
            return name.into_owned();
        }
        format!("...{}", name.chars().skip(length - self.name + 3).collect::<String>())
    }
}

impl Drop for TransferBar {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            if self.shown {
                self.notices.set_bar(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shortened_to_fit() {
        let long = "x".repeat(40);
        for (columns, extra, is_wide, name) in
            [(200, 0, true, 30), (80, 0, true, 18), (80, 20, false, 10), (40, 0, false, 10)]
        {
            let layout = BarLayout::new(columns, extra);
            assert_eq!((layout.is_wide, layout.name(&long).len()), (is_wide, name), "{columns}");
        }
        assert_eq!(BarLayout::new(80, 0).name("a\u{202e}b"), "a\\u{202e}b");
    }
}
