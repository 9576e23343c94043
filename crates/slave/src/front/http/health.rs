//! `/-/healthz` and `/-/readyz`: whether this slave is alive, and whether it serves sessions.
//!
//! They need neither a login nor a host, because health checks have none.

use log::warn;
use parking_lot::Mutex;
use relais_http::{Method, RequestHead, Status};
use relais_storage::{CatalogReader, CatalogStore};

use super::answer::Answer;
use super::pool_page::PoolPage;
use crate::host::WorkerHost;

/// Answers health checks.
pub struct Health {
    host: WorkerHost,
    reader: Mutex<CatalogReader>,
}

impl Health {
    /// Makes the checks of a worker.
    #[must_use]
    pub fn new(host: WorkerHost) -> Self {
        let reader = Mutex::new(CatalogReader::new(&host.context.own.folder));
        Self { host, reader }
    }

    /// Answers a health check; none if the request is another one.
    #[must_use]
    pub fn answer(&self, head: &RequestHead) -> Option<Answer> {
        let is_ready = match PoolPage::at(&head.target.path)? {
            PoolPage::Healthz => Ok(()),
            PoolPage::Readyz => self.check_ready(),
            _ => return None,
        };
        if !head.method.is_get_or_head() && head.method != Method::Options {
            let answer = Answer::error(head, Status::METHOD_NOT_ALLOWED, "GET and HEAD alone");
            return Some(answer.with("Allow", "GET, HEAD, OPTIONS"));
        }
        let (status, text) = match is_ready {
            Ok(()) => (Status::OK, "ok\n"),
            Err(why) => (Status::SERVICE_UNAVAILABLE, why),
        };
        let body = text.as_bytes().to_vec();
        Some(Answer::with_body(status, "text/plain; charset=utf-8", body))
    }

    fn check_ready(&self) -> Result<(), &'static str> {
        let scoreboard = self.host.scoreboard();
        if scoreboard.draining.get() {
            return Err("draining\n");
        }
        let is_standalone = self.host.context.config.cluster.is_none();
        let query = if is_standalone { CatalogStore::is_complete } else { CatalogStore::is_fit };
        let is_fit = self.reader.lock().ask(query);
        let is_fit = is_fit.inspect_err(|e| warn!("cannot read the catalogue: {e}"));
        if scoreboard.is_catalog_writer_stalled() || !is_fit.unwrap_or(false) {
            return Err("catching up\n");
        }
        Ok(())
    }
}
