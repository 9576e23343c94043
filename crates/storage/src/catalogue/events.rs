//! The latest events: what the applied changes did at which path, in their order.
//!
//! Each event is written in the transaction of its change, and has the number after that of the
//! event before it. The oldest ones are dropped. A break stands where the tree was replaced, so
//! what happened there is not known.

use relais_proto::{EventKind, Lsn, PathEvent, TreePath, limits};

use super::columns::Values;
use super::store::CatalogStore;
use crate::error::Result;

/// Number of a break in the column `kind`.
const BREAK: i64 = 4;
/// Number of a change that no watch reports. Its row makes its LSN known as a position.
const UNSEEN: i64 = 5;
/// Number of events after which the oldest ones are dropped.
const DROP_EVERY: i64 = 64;

/// A place in the order of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPosition {
    /// All changes up to this one are before the position.
    pub lsn: Lsn,
    seq: i64,
}

/// Events after a position.
#[derive(Debug, PartialEq, Eq)]
pub struct EventPage {
    /// The events, in the order of their changes.
    pub events: Vec<PathEvent>,
    /// Position after the page.
    pub end: EventPosition,
    /// Whether more events may follow now.
    pub more: bool,
}

impl CatalogStore {
    /// Records what a change has done. Call it once for each change and path.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn record_event(&self, version: Lsn, kind: &EventKind, path: &TreePath) -> Result<()> {
        let (kind, source) = match kind {
            EventKind::Created => (0, ""),
            EventKind::Changed => (1, ""),
            EventKind::Removed => (2, ""),
            EventKind::Moved(source) => (3, source.as_str()),
        };
        self.insert_event(version, kind, path.as_str(), source)
    }

    /// Records that the tree was replaced by that of a change.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn record_break(&self, version: Lsn) -> Result<()> {
        self.insert_event(version, BREAK, "", "")
    }

    /// Records a change that no watch reports, because it changes no entry.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn record_unseen(&self, version: Lsn) -> Result<()> {
        self.insert_event(version, UNSEEN, "", "")
    }

    fn insert_event(&self, version: Lsn, kind: i64, path: &str, source: &str) -> Result<()> {
        let insert = "INSERT INTO event (epoch, number, kind, path, source) VALUES (?, ?, ?, ?, ?)";
        self.run(insert, Values::default().lsn(version).add(kind).add(path).add(source))?;
        let kept = i64::try_from(limits::EVENTS).unwrap_or(i64::MAX);
        let last = self.ask(|database| Ok(database.last_insert_rowid()))?;
        if last % DROP_EVERY == 0 {
            self.run("DELETE FROM event WHERE seq <= ?", Values::of(last - kept))?;
        }
        Ok(())
    }

    /// Returns the number of the last event; 0 if there is none.
    fn last_event(&self) -> Result<i64> {
        let select = "SELECT coalesce(max(seq), 0) FROM event";
        Ok(self.first(select, Values::default(), |from| from.get())?.unwrap_or_default())
    }

    /// Returns the position after a change, or after the last one.
    ///
    /// Returns `None` if the change is not known, because it is too old or of another history.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn event_position(&self, after: Option<Lsn>) -> Result<Option<EventPosition>> {
        self.ask_together(|store| {
            let applied = store.applied()?.unwrap_or_default();
            let lsn = after.unwrap_or(applied);
            let seq = if lsn == applied {
                Some(store.last_event()?)
            } else if lsn == Lsn::default() {
                Some(0)
            } else {
                let select = "SELECT max(seq) FROM event WHERE epoch = ? AND number = ?";
                store.first(select, Values::default().lsn(lsn), |from| from.get())?.flatten()
            };
            Ok(seq.map(|seq| EventPosition { lsn, seq }))
        })
    }

    /// Returns the next events at and below `top`, as they look from there.
    ///
    /// At most `most` events of the whole tree are read. Returns `None` if events after the
    /// position are lost.
    ///
    /// # Errors
    /// Returns database errors.
    pub fn events(
        &self,
        from: EventPosition,
        top: &TreePath,
        most: u32,
    ) -> Result<Option<EventPage>> {
        self.ask_together(|store| store.read_events(from, top, most))
    }

    fn read_events(
        &self,
        from: EventPosition,
        top: &TreePath,
        most: u32,
    ) -> Result<Option<EventPage>> {
        let select = "SELECT seq, epoch, number, kind, path, source FROM event
             WHERE seq > ? ORDER BY seq LIMIT ?";
        let rows = self.all(select, Values::of(from.seq).add(most), |row| {
            let position = (row.get::<i64>()?, row.lsn()?);
            Ok((position, row.get::<i64>()?, row.get::<String>()?, row.get::<String>()?))
        })?;
        let more = rows.len() == most as usize;
        let (mut end, mut events) = (from, Vec::new());
        for ((seq, lsn), number, path, source) in rows {
            if seq != end.seq + 1 || number == BREAK {
                return Ok(None);
            }
            end = EventPosition { lsn, seq };
            if number == UNSEEN {
                continue;
            }
            let damaged = |_| self.damaged("the path of an event");
            let path = TreePath::new(path).map_err(damaged)?;
            let kind = match number {
                0 => EventKind::Created,
                1 => EventKind::Changed,
                2 => EventKind::Removed,
                _ => EventKind::Moved(TreePath::new(source).map_err(damaged)?),
            };
            let Some((kind, path)) = seen_from(top, kind, path) else { continue };
            let entry = match kind {
                EventKind::Removed => None,
                _ => self.row(&path)?.map(|row| row.entry),
            };
            events.push(PathEvent { lsn, kind, path, entry });
        }
        if !more {
            // Each change has one event at most, so all changes so far are in the page.
            end.lsn = self.applied()?.unwrap_or_default();
        }
        Ok(Some(EventPage { events, end, more }))
    }
}

/// Returns what an event means at and below `top`; `None` if it is no event there.
fn seen_from(top: &TreePath, kind: EventKind, path: TreePath) -> Option<(EventKind, TreePath)> {
    let is_in = |path: &TreePath| path == top || path.is_below(top);
    match &kind {
        EventKind::Moved(source) if is_in(&path) => {
            Some(if is_in(source) { (kind, path) } else { (EventKind::Created, path) })
        }
        EventKind::Moved(source) if is_in(source) => Some((EventKind::Removed, source.clone())),
        // A folder above has come or gone, and `top` with it.
        EventKind::Moved(_) if top.is_below(&path) => Some((EventKind::Created, top.clone())),
        EventKind::Moved(source) if top.is_below(source) => Some((EventKind::Removed, top.clone())),
        EventKind::Removed if top.is_below(&path) => Some((kind, top.clone())),
        _ => is_in(&path).then_some((kind, path)),
    }
}
