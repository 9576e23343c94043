//! The changes at and below a path, as they are applied here.

use std::sync::Arc;

use relais_proto::{EventKind, Lsn, PathEvent, Refusal, TreePath, limits};
use relais_storage::EventPosition;

use crate::context::SessionContext;
use crate::engine::stopping;
use crate::keep_alive::KeepAlive;
use crate::session::Session;

/// A watch of one path. It keeps nothing open between two calls of [`Self::poll`].
pub struct Watch {
    context: Arc<SessionContext>,
    /// The watched path in the slave's folder.
    top: TreePath,
    /// Where the watch is; none if events are lost.
    at: Option<EventPosition>,
    /// The latest change that was applied before the last look; none before the first one.
    applied: Option<Lsn>,
}

/// What a watch has found since the last call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchUpdate {
    /// The next events.
    Events {
        /// The events so far are those of all changes up to this one.
        lsn: Lsn,
        /// The events in the order of their changes, with the user's paths; may be empty.
        events: Vec<PathEvent>,
        /// Whether the next call may find more events at once.
        more: bool,
    },
    /// Events are lost: the position is too old, or of another history. The watch has ended.
    Lost {
        /// The latest change. A watch after it, and then a listing, miss nothing.
        lsn: Lsn,
    },
}

impl Session {
    /// Watches a path, which need not exist: the changes after `after`; none for those from now
    /// on. As for every command, the slave first gets the change that the user names.
    ///
    /// # Errors
    /// Those of [`Session::check_ready`].
    pub fn watch(
        &self,
        path: &TreePath,
        after: Option<Lsn>,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Watch, Refusal> {
        self.check_ready_after(after.unwrap_or_default(), keepalive)?;
        let top = self.context.principal.resolve(path)?;
        let at = self.context.with_catalogue(|store| store.event_position(after))?;
        Ok(Watch { context: self.context.clone(), top, at, applied: None })
    }
}

impl Watch {
    /// Checks that the watch may go on.
    ///
    /// # Errors
    /// [`Draining`](relais_proto::ErrorCode::Draining) if the slave gives its sessions up;
    /// [`BadTicket`](relais_proto::ErrorCode::BadTicket) if the login has ended.
    pub fn check_open(&self) -> Result<(), Refusal> {
        self.context.check_open()?;
        if self.context.is_stopping() {
            return Err(stopping());
        }
        Ok(())
    }

    /// Returns what has happened since the last call. Does not wait, so call it every few
    /// milliseconds.
    ///
    /// # Errors
    /// [`Storage`](relais_proto::ErrorCode::Storage), and those of [`Self::check_open`].
    pub fn poll(&mut self) -> Result<WatchUpdate, Refusal> {
        self.check_open()?;
        let context = &self.context;
        // Later changes are found by the next call.
        let applied = context.host().applied_lsn();
        if let Some(at) = self.at
            && self.applied == Some(applied)
        {
            return Ok(WatchUpdate::Events { lsn: at.lsn, events: Vec::new(), more: false });
        }
        let most = u32::try_from(limits::EVENTS_PER_FRAME).unwrap_or(u32::MAX);
        let page = match self.at {
            Some(at) => context.with_catalogue(|store| store.events(at, &self.top, most))?,
            None => None,
        };
        let Some(page) = page else {
            self.at = None;
            let now = context.with_catalogue(|store| store.event_position(None))?;
            return Ok(WatchUpdate::Lost { lsn: now.map_or(applied, |now| now.lsn) });
        };
        self.at = Some(page.end);
        self.applied = (!page.more).then_some(applied);
        let root = &context.principal.root;
        let events = page.events.into_iter().filter_map(|event| visible(event, root)).collect();
        Ok(WatchUpdate::Events { lsn: page.end.lsn, events, more: page.more })
    }
}

/// Returns an event with the user's paths.
fn visible(mut event: PathEvent, root: &TreePath) -> Option<PathEvent> {
    event.path = event.path.relative_to(root)?;
    if let EventKind::Moved(source) = &mut event.kind {
        *source = source.relative_to(root)?;
    }
    if event.path.is_root()
        && let Some(entry) = &mut event.entry
    {
        // The user's root has no name.
        entry.name.clear();
    }
    Some(event)
}
