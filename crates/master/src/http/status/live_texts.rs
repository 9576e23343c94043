//! The texts of the page that change, by the names that its elements have.
//!
//! The page is made from them too, so a live text is what a new page would show. A message never
//! has markup: the script sets texts and paths.

use std::collections::BTreeMap;

use relais_proto::pluralize;
use serde::Serialize;

use super::cells::{cells, until};
use super::cluster_view::{ClusterView, SlaveView};
use super::event_item::EventItem;
use crate::status::{NO_SERVICE, headlines, remarks};

/// Texts and curves, by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LiveTexts {
    /// Identifies the slaves and their states: the page is loaded again when it changes.
    pub layout: String,
    pub texts: BTreeMap<String, String>,
    pub curves: BTreeMap<&'static str, String>,
}

/// What a stream sends: what has changed since its last message.
#[derive(Debug, Serialize)]
pub(super) struct LiveMessage<'a> {
    layout: &'a str,
    texts: BTreeMap<&'a str, &'a str>,
    curves: BTreeMap<&'a str, &'a str>,
    pub events: &'a [EventItem],
}

impl LiveTexts {
    /// Makes the texts of a view.
    pub fn new(cluster: &ClusterView) -> Self {
        let mut texts = BTreeMap::from([("cluster".to_owned(), cluster_text(cluster))]);
        for slave in &cluster.slaves {
            for cell in cells(slave) {
                texts.insert(cell_key(slave, cell.name), cell.text);
                texts.insert(note_key(slave, cell.name), cell.note);
            }
            texts.insert(cell_key(slave, REMARKS), remarks_text(slave));
        }
        let mut curves = BTreeMap::new();
        for curve in &cluster.curves {
            texts.insert(format!("curve.{}", curve.name), curve.caption.clone());
            curves.insert(curve.name, curve.path.clone());
        }
        Self { layout: layout(cluster), texts, curves }
    }

    /// Returns what differs from the texts of the last message.
    pub fn since<'a>(&'a self, last: Option<&Self>, events: &'a [EventItem]) -> LiveMessage<'a> {
        let is_new = |key: &str, text: &str| {
            last.is_none_or(|last| last.texts.get(key).is_none_or(|old| old != text))
        };
        let texts = self.texts.iter().map(|(key, text)| (&**key, &**text));
        let curves = self.curves.iter().map(|(name, path)| (*name, &**path));
        LiveMessage {
            layout: &self.layout,
            texts: texts.filter(|(key, text)| is_new(key, text)).collect(),
            curves: curves
                .filter(|(name, path)| {
                    last.is_none_or(|last| last.curves.get(name).is_none_or(|old| old != path))
                })
                .collect(),
            events,
        }
    }
}

/// The name of the line with the remarks on a slave.
pub(super) const REMARKS: &str = "remarks";

/// Returns the name of a cell.
pub(super) fn cell_key(slave: &SlaveView, name: &str) -> String {
    format!("{}.{name}", slave.report.id)
}

/// Returns the name of the second line of a cell.
pub(super) fn note_key(slave: &SlaveView, name: &str) -> String {
    format!("{}.{name}.note", slave.report.id)
}

/// Returns the lines about the cluster and the master.
pub(super) fn cluster_text(cluster: &ClusterView) -> String {
    let mut lines = headlines(&cluster.report);
    if !cluster.report.has_service() {
        lines.push(NO_SERVICE.to_owned());
    }
    let minutes = cluster.uptime_seconds / 60;
    let (hours, minutes) = (minutes / 60, minutes % 60);
    let uptime = format!("{} and {}", pluralize(hours, "hour"), pluralize(minutes, "minute"));
    lines.push(format!("master: version {}, up for {uptime}", env!("CARGO_PKG_VERSION")));
    lines.push(format!("certificate of the master: until {}", until(cluster.certificate_expiry)));
    lines.join("\n")
}

/// Returns the remarks on a slave, each on a line.
pub(super) fn remarks_text(slave: &SlaveView) -> String {
    remarks(&slave.report).join("\n")
}

fn layout(cluster: &ClusterView) -> String {
    let mut hasher = blake3::Hasher::new();
    for slave in &cluster.slaves {
        hasher.update(&slave.report.id.0).update(slave.report.state.text().as_bytes());
    }
    hasher.finalize().to_hex().chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(state: &str, path: &str) -> LiveTexts {
        LiveTexts {
            layout: state.to_owned(),
            texts: BTreeMap::from([
                ("a.state".to_owned(), state.to_owned()),
                ("a.slave".to_owned(), "</span><b>".to_owned()),
            ]),
            curves: BTreeMap::from([("lag", path.to_owned())]),
        }
    }

    #[test]
    fn a_message_has_what_differs_from_the_last_one() {
        let (old, new) = (texts("in-service", "M0 1"), texts("down", "M0 1"));
        let json = |message: &LiveMessage<'_>| serde_json::to_string(message).unwrap();
        assert_eq!(
            json(&new.since(Some(&old), &[])),
            r#"{"layout":"down","texts":{"a.state":"down"},"curves":{},"events":[]}"#
        );
        assert_eq!(
            json(&old.since(None, &[])),
            concat!(
                r#"{"layout":"in-service","texts":{"a.slave":"</span><b>","#,
                r#""a.state":"in-service"},"curves":{"lag":"M0 1"},"events":[]}"#
            )
        );
        let moved = texts("down", "M0 1L1 1");
        assert!(json(&moved.since(Some(&new), &[])).contains(r#""curves":{"lag":"M0 1L1 1"}"#));
    }
}
