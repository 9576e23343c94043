//! What the master remembers for the status page: values of the last hour, and present texts.
//!
//! The login thread updates it once a second. All streams share the texts of a second.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use relais_cluster::ConnectionAddrs;
use relais_proto::SlaveId;

use super::cluster_view::ClusterView;
use super::history::History;
use super::live_texts::LiveTexts;
use crate::http::limits::{STREAM_EVERY, STREAMS};
use crate::http::site::HttpSite;

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

    fn due(&self, now: Duration) -> Option<MutexGuard<'_, MonitorState>> {
        let state = self.state.lock();
        let is_due = state.updated.is_none_or(|last| now.saturating_sub(last) >= STREAM_EVERY);
        is_due.then_some(state)
    }

    fn known(&self, subject: Subject) -> Option<Arc<LiveTexts>> {
        let state = self.state.lock();
        state.texts.iter().find(|(other, _)| *other == subject).map(|(_, texts)| texts.clone())
    }
}

impl HttpSite {
    /// Updates the histories if a second has passed. Called often by the login thread.
    pub fn update_status(&self) {
        let now = self.core.uptime();
        if let Some(mut state) = self.monitor.due(now) {
            let here = std::net::IpAddr::from(std::net::Ipv4Addr::LOCALHOST);
            let report = self.core.report(ConnectionAddrs::new(here, here));
            state.history.take(now, &report.slaves, report.lsn);
            state.updated = Some(now);
            state.tick += 1;
            state.texts.clear();
        }
    }

    /// Returns the present texts for a stream.
    pub(super) fn live_texts(&self, subject: Subject) -> Arc<LiveTexts> {
        if let Some(known) = self.monitor.known(subject) {
            return known;
        }
        let (asker, selected) = subject;
        let made = Arc::new(LiveTexts::new(&ClusterView::new(self, asker, selected)));
        self.monitor.state.lock().texts.push((subject, made.clone()));
        made
    }
}
