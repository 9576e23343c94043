//! `list`: the names in a folder, from the catalogue, page by page.

use std::time::{Duration, Instant};

use relais_proto::{EntriesPage, ErrorCode, PageBuilder, Refusal, Request, TreePath, WaitReason};
use relais_storage::ListOutcome;

use super::requests::{HandlerResult, RequestContext, RequestOutcome, misrouted, refuse};
use crate::engine::serving::ServingContext;

/// Time between two checks whether the folder has been scanned.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a request waits for the first scan of the folder.
pub const SCAN_WAIT: Duration = Duration::from_secs(60);

/// The pages of one listing. No transaction stays open between two pages.
pub struct ListingPages {
    path: TreePath,
    after: String,
    /// Number of names that are still wanted; none: all.
    remaining: Option<u32>,
    first: Option<EntriesPage>,
    done: bool,
}

pub(super) fn list(context: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let Request::List { path, after, most } = request else { return Err(misrouted()) };
    let path = context.session.resolve(&path)?;
    wait_for_scan(context)?;
    let mut pages = ListingPages {
        path,
        after,
        remaining: (most > 0).then_some(most),
        first: None,
        done: false,
    };
    // The first page is read before the answer begins, so a missing folder becomes a refusal.
    pages.first = pages.read(context.serving)?;
    Ok(RequestOutcome::Listing(pages))
}

/// Waits for the first scan since the start, because the catalogue may be wrong until then.
fn wait_for_scan(context: &mut RequestContext<'_>) -> Result<(), Refusal> {
    let began = Instant::now();
    while !context.serving.is_complete()? {
        if began.elapsed() >= SCAN_WAIT {
            return Err(Refusal::new(
                ErrorCode::TimedOut,
                "the slave is still scanning its folder after its start; \
                 ask another server, or try again later",
            ));
        }
        if context.serving.is_stopping() {
            return Err(Refusal::new(ErrorCode::Draining, "this slave is stopping"));
        }
        if context.serving.counters().is_ok_and(|(_, last_error)| !last_error.is_empty()) {
            return Err(Refusal::new(ErrorCode::Storage, "the slave cannot read its folder"));
        }
        std::thread::sleep(POLL_INTERVAL);
        context
            .keepalive
            .send_keepalive(WaitReason::Scanning)
            .map_err(|_| Refusal::new(ErrorCode::Cut, "the client has gone"))?;
    }
    Ok(())
}

impl ListingPages {
    /// Returns the next page; none after the last.
    ///
    /// # Errors
    /// The refusal, also if the folder was removed meanwhile.
    pub fn next(&mut self, serving: &ServingContext) -> Result<Option<EntriesPage>, Refusal> {
        match self.first.take() {
            Some(page) => Ok(Some(page)),
            None if self.done => Ok(None),
            None => self.read(serving),
        }
    }

    fn read(&mut self, serving: &ServingContext) -> Result<Option<EntriesPage>, Refusal> {
        let mut page = PageBuilder::new();
        let outcome = serving.with_catalogue(|reader| {
            reader.list(&self.path, &self.after, self.remaining, &mut page)
        })?;
        match outcome {
            ListOutcome::Page { last, count, more } => {
                self.remaining = self.remaining.map(|left| left.saturating_sub(count));
                self.done = !more || self.remaining == Some(0);
                self.after = last;
            }
            ListOutcome::NotFound | ListOutcome::NotFolder => {
                return Err(self.missing_folder_refusal(serving));
            }
        }
        Ok((!page.is_empty()).then(|| page.finish()))
    }

    /// Returns why the catalogue lacks the folder; the disk's error tells that best.
    fn missing_folder_refusal(&self, serving: &ServingContext) -> Refusal {
        match serving.folder.open_folder(&self.path) {
            Ok(_) => Refusal::at(&self.path, ErrorCode::NotFound, "not published yet"),
            Err(error) => refuse(&self.path, &error),
        }
    }
}
