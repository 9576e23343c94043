//! What the master remembers for the status page: values of the last hour, and present texts.
//!
//! The login thread updates it once a second. All streams share the texts of a second.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use relais_cluster::ConnectionAddrs;
use relais_proto::SlaveId;

use super::history::History;
use super::live_texts::LiveTexts;
use crate::http::limits::{STREAM_EVERY, STREAMS};
use crate::status::Report;

/// What a stream shows: for a client at a viewpoint, the curves of a slave or of the cluster.
pub(super) type Subject = (ConnectionAddrs, Option<SlaveId>);

/// Histories, and the texts of the present second.
#[derive(Debug, Default)]
pub(in crate::http) struct StatusMonitor {
    state: Mutex<MonitorState>,
    /// Each open stream has a copy, so that they can be counted.
    streams: Arc<()>,
}

#[derive(Debug, Default)]
struct MonitorState {
    history: History,
    /// The time of the last update since the start of the master.
    updated: Option<Duration>,
    /// The number of updates.
    tick: u64,
    /// Texts that were made since the last update.
    texts: Vec<(Subject, Arc<LiveTexts>)>,
}

impl StatusMonitor {
    /// Counts a stream until the result is dropped; none if there are too many.
    pub(super) fn begin_stream(&self) -> Option<Arc<()>> {
        (Arc::strong_count(&self.streams) <= STREAMS).then(|| Arc::clone(&self.streams))
    }

    /// Whether there are streams.
    pub fn has_streams(&self) -> bool {
        Arc::strong_count(&self.streams) > 1
    }

    /// Returns the number of updates so far.
    pub(super) fn tick(&self) -> u64 {
        self.state.lock().tick
    }

    /// Calls `look` with the histories.
    pub(super) fn with_history<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.state.lock().history)
    }

    /// Updates the histories if a second has passed; `report` makes the present report.
    pub(super) fn update(&self, now: Duration, report: impl FnOnce() -> Report) {
        let mut state = self.state.lock();
        if state.updated.is_some_and(|last| now.saturating_sub(last) < STREAM_EVERY) {
            return;
        }
        let report = report();
        state.history.take(now, &report.slaves, report.lsn);
        state.updated = Some(now);
        state.tick += 1;
        state.texts.clear();
    }

    /// Returns the texts for a stream, which `make` makes once for each update.
    pub(super) fn texts(
        &self,
        subject: Subject,
        make: impl FnOnce() -> LiveTexts,
    ) -> Arc<LiveTexts> {
        let known = |state: &MonitorState| {
            let found = state.texts.iter().find(|(other, _)| *other == subject);
            found.map(|(_, texts)| texts.clone())
        };
        if let Some(texts) = known(&self.state.lock()) {
            return texts;
        }
        // Without the lock, which `make` takes for the histories.
        let made = Arc::new(make());
        self.state.lock().texts.push((subject, made.clone()));
        made
    }
}
