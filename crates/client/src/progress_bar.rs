//! The progress bar of a command, shown on a terminal only.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use relais_proto::TreePath;

use crate::notices::Notices;
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
/// Columns of the label of several files beside the name, for up to a million files.
const COUNTS: usize = "999999/999999 files ".len();

/// The bar of one file, or of all files of a command. Clones show the same bar.
#[derive(Clone)]
pub struct TransferBar(Arc<Bar>);

struct Bar {
    notices: Notices,
    bar: ProgressBar,
    layout: BarLayout,
    /// Whether standard error is a terminal.
    on_terminal: bool,
    /// Number of files; 0 for the bar of one file.
    files: u64,
    /// Number and total size of the finished files.
    done: Mutex<(u64, u64)>,
}

impl TransferBar {
    /// Creates the bar for the transfer of `remote`; nothing is drawn yet.
    pub fn of_file(notices: &Notices, remote: &TreePath) -> Self {
        let new = Self::new(notices, 0, 0);
        new.0.bar.set_message(new.0.layout.name(remote.as_str()));
        new
    }

    /// Creates the bar for this number of files and bytes; nothing is drawn yet.
    pub fn of_files(notices: &Notices, (files, bytes): (u64, u64)) -> Self {
        Self::new(notices, files, bytes)
    }

    fn new(notices: &Notices, files: u64, bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::hidden());
        let columns = usize::from(console::Term::stderr().size().1);
        let layout = BarLayout::new(columns, if files > 0 { COUNTS } else { 0 });
        bar.set_style(layout.style());
        Self(Arc::new(Bar {
            notices: notices.clone(),
            bar,
            layout,
            on_terminal: notices.on_terminal(),
            files,
            done: Mutex::default(),
        }))
    }

    /// Starts a file at `resumed_from` of `size` bytes; a size of 0 is unknown.
    pub fn started(&self, size: u64, resumed_from: u64) {
        if self.0.files == 0 {
            self.0.bar.set_length(size);
            self.0.bar.set_position(resumed_from);
            // Bytes of an earlier run count neither for the rate nor for the remaining time.
            self.0.bar.reset_eta();
        }
    }

    /// Sets the number of transferred bytes of the current file.
    pub fn advanced(&self, position: u64) {
        let Bar { bar, notices, files, .. } = &*self.0;
        bar.set_position(self.0.done.lock().1.saturating_add(position));
        if self.0.on_terminal
            && bar.is_hidden()
            && (*files > 0 || bar.length() != Some(0))
            && bar.elapsed() >= BAR_DELAY
        {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(200));
            notices.set_bar(Some(bar.clone()));
        }
    }

    /// Names the file of several that is transferred now.
    pub fn name(&self, path: &TreePath) {
        let (done, files) = (self.0.done.lock().0, self.0.files);
        let name = self.0.layout.name(path.as_str());
        self.0.bar.set_message(format!("{done}/{files} files {name}"));
    }

    /// Counts a finished file of this name and size.
    pub fn finished(&self, path: &TreePath, size: u64) {
        {
            let mut done = self.0.done.lock();
            *done = (done.0 + 1, done.1.saturating_add(size));
        }
        self.name(path);
        self.advanced(0);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if !self.bar.is_hidden() {
            self.notices.set_bar(None);
        }
    }
}

/// The layout of a progress bar for the terminal's width.
struct BarLayout {
    is_wide: bool,
    /// Longest name, in characters.
    name: usize,
}

impl BarLayout {
    /// Returns the layout for a terminal. The label has `extra` columns beside the name.
    fn new(columns: usize, extra: usize) -> Self {
        let room = columns.saturating_sub(WIDE_REST + extra);
        Self { is_wide: room >= NAME.0, name: room.clamp(NAME.0, NAME.1) }
    }

    /// Returns the style of the bar.
    fn style(&self) -> ProgressStyle {
        let template = if self.is_wide { WIDE } else { NARROW };
        ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ")
    }

    /// Sanitizes a name, and cuts its beginning if it is too long.
    fn name(&self, name: &str) -> String {
        let name = sanitize(name);
        let length = name.chars().count();
        if length <= self.name {
            return name.into_owned();
        }
        format!("...{}", name.chars().skip(length - self.name + 3).collect::<String>())
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

    #[test]
    fn large_files_move_the_bar_of_all_files() {
        let path = |text| TreePath::new(text).unwrap();
        let bar = TransferBar::of_files(&Notices::collecting(), (2, 17));
        bar.finished(&path("a"), 10);
        bar.name(&path("b"));
        let of_large = bar.clone();
        of_large.started(7, 0);
        of_large.advanced(5);
        assert_eq!(bar.0.bar.position(), 15);
        drop(of_large);
        bar.finished(&path("b"), 7);
        assert_eq!((bar.0.bar.position(), bar.0.bar.message()), (17, "2/2 files b".to_owned()));
    }
}
