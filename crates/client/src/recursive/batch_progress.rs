//! The progress of a command over many files, on a terminal only.
//!
//! One bar shows all files, including the progress within large ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget};
use relais_proto::TreePath;

use crate::notices::Notices;
use crate::progress_bar::BarLayout;

/// Delay before the bar appears, so that short commands do not make it flicker.
const BAR_DELAY: Duration = Duration::from_millis(300);
/// Columns of the label without the name, for up to a million files.
const COUNTS: usize = "999999/999999 files ".len();

/// The bar of the whole command, as used by one file.
#[derive(Clone)]
pub struct BatchBar {
    bar: ProgressBar,
    layout: Arc<BarLayout>,
    begun: Instant,
    shown: Arc<AtomicBool>,
    /// Total size of the finished files in bytes.
    base: u64,
}

impl BatchBar {
    fn label(&self, done: u64, files: u64, path: &TreePath) -> String {
        format!("{done}/{files} files {}", self.layout.name(path.as_str()))
    }

    /// Sets the number of transferred bytes of the current file.
    pub fn advanced(&self, notices: &Notices, position: u64) {
        self.bar.set_position(self.base.saturating_add(position));
        if self.begun.elapsed() >= BAR_DELAY && !self.shown.swap(true, Ordering::Relaxed) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(200));
            notices.set_bar(Some(self.bar.clone()));
        }
    }
}

/// Shows the progress of a whole command; the bar is removed on drop.
pub struct BatchProgress {
    notices: Notices,
    part: Option<BatchBar>,
    files: u64,
    done: u64,
}

impl BatchProgress {
    /// Creates the progress for this number of files and bytes.
    pub fn new(notices: &Notices, files: u64, bytes: u64) -> Self {
        let part = notices.on_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::hidden());
            let layout = BarLayout::of_terminal(COUNTS);
            bar.set_style(layout.style());
            BatchBar {
                bar,
                layout: Arc::new(layout),
                begun: Instant::now(),
                shown: Arc::default(),
                base: 0,
            }
        });
        Self { notices: notices.clone(), part, files, done: 0 }
    }

    /// Counts a finished file of this name and size.
    pub fn done(&mut self, path: &TreePath, size: u64) {
        self.done += 1;
        if let Some(part) = &mut self.part {
            part.base = part.base.saturating_add(size);
            part.bar.set_message(part.label(self.done, self.files, path));
            part.advanced(&self.notices, 0);
        }
    }

    /// Starts a large file, which reports its own progress.
    pub fn large(&mut self, path: &TreePath) {
        if let Some(part) = &self.part {
            part.bar.set_message(part.label(self.done, self.files, path));
        }
        self.notices.set_batch_bar(self.part.clone());
    }
}

impl Drop for BatchProgress {
    fn drop(&mut self) {
        self.notices.set_batch_bar(None);
        if let Some(part) = self.part.take() {
            part.bar.finish_and_clear();
            self.notices.set_bar(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_files_move_the_batch_bar() {
        let notices = Notices::collecting();
        let bar = ProgressBar::hidden();
        let layout = Arc::new(BarLayout::of_terminal(COUNTS));
        let part = BatchBar {
            bar: bar.clone(),
            layout,
            begun: Instant::now(),
            shown: Arc::default(),
            base: 0,
        };
        let mut whole =
            BatchProgress { notices: notices.clone(), part: Some(part), files: 2, done: 0 };
        whole.done(&path("a"), 10);
        whole.large(&path("b"));
        notices.batch_bar().unwrap().advanced(&notices, 5);
        assert_eq!(bar.position(), 15);
        whole.done(&path("b"), 7);
        assert_eq!(bar.position(), 17);
        drop(whole);
        assert!(notices.batch_bar().is_none());
    }

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }
}
