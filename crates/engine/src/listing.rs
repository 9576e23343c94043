//! The names in a folder, from the catalogue, page by page.

use std::sync::Arc;
use std::time::Duration;

use relais_proto::{Entry, ErrorCode, Kind, Refusal, TreePath, WaitReason};
use relais_storage::{CatalogStore, ListOutcome, refuse};

use crate::context::SessionContext;
use crate::engine::{SCAN_WAIT, stopping};
use crate::keep_alive::{KeepAlive, poll};
use crate::session::Session;

/// Time between two checks whether the folder has been scanned.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A listing of one folder, in byte order of the names.
///
/// No transaction stays open between two pages, so a folder that changes meanwhile is listed partly
/// before and partly after the change.
pub struct Listing {
    context: Arc<SessionContext>,
    path: TreePath,
    after: String,
    /// Number of names that are still wanted; none: all.
    remaining: Option<u32>,
    done: bool,
}

impl Session {
    /// Lists a folder: the names after `after`, at most `most` of them; none for all.
    ///
    /// # Errors
    /// Those of the folder and of [`Session::check_ready`].
    pub fn list(
        &self,
        path: &TreePath,
        after: &str,
        most: Option<u32>,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Listing, Refusal> {
        self.check_ready(keepalive)?;
        let context = &self.context;
        context.visible(context.principal.resolve(path).and_then(|path| {
            wait_for_scan(context, keepalive)?;
            if !path.is_root() {
                let row = context.with_catalogue(|store| store.at(&path))?;
                if row.is_none_or(|(row, _)| row.entry.kind != Kind::Folder) {
                    return Err(missing_folder(context, &path));
                }
            }
            let (context, after) = (context.clone(), after.to_owned());
            Ok(Listing { context, path, after, remaining: most, done: false })
        }))
    }
}

impl Listing {
    /// Passes the next entries to `add`, until it returns false: then the page is full, and the
    /// entry belongs to the next one. Returns whether any was added; after the last none is.
    ///
    /// # Errors
    /// The refusal, also if the folder was removed meanwhile.
    pub fn next_page(&mut self, add: &mut dyn FnMut(&Entry) -> bool) -> Result<bool, Refusal> {
        if self.done {
            return Ok(false);
        }
        let page = self
            .context
            .with_catalogue(|store| store.list(&self.path, &self.after, self.remaining, add))?;
        let ListOutcome::Page { last, count, more } = page else {
            return self.context.visible(Err(missing_folder(&self.context, &self.path)));
        };
        self.remaining = self.remaining.map(|left| left.saturating_sub(count));
        self.done = !more || self.remaining == Some(0);
        self.after = last;
        Ok(count > 0)
    }

    /// Returns the latest change that may be part of what was listed.
    #[must_use]
    pub fn lsn(&self) -> relais_proto::Lsn {
        self.context.visible_lsn()
    }
}

/// Returns why the catalogue lacks a folder; the disk's error tells that best.
fn missing_folder(context: &SessionContext, path: &TreePath) -> Refusal {
    match context.settings.folder.open_folder(path) {
        Ok(_) => Refusal::at(path, ErrorCode::NotFound, "not published yet"),
        Err(error) => refuse(path, &error),
    }
}

/// Waits for the first scan since the start, because the catalogue may be wrong until then.
fn wait_for_scan(context: &SessionContext, keepalive: &mut dyn KeepAlive) -> Result<(), Refusal> {
    let scanned = poll((SCAN_WAIT, POLL_INTERVAL), WaitReason::Scanning, keepalive, |_| {
        if context.with_catalogue(CatalogStore::is_complete)? {
            return Ok(Some(()));
        }
        if context.is_stopping() {
            return Err(stopping());
        }
        if context.metrics().is_ok_and(|(_, last_error)| !last_error.is_empty()) {
            return Err(Refusal::new(ErrorCode::Storage, "the slave cannot read its folder"));
        }
        Ok(None)
    })?;
    scanned.ok_or_else(|| {
        let message = "the slave is still scanning its folder after its start; \
             ask another server, or try again later";
        Refusal::new(ErrorCode::TimedOut, message)
    })
}
