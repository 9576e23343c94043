//! Chooses the answer to a request. It knows no connection.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use relais_auth::AuthenticatedUser;
use relais_coordinator::OrderView;
use relais_http::{Method, Status};
use relais_proto::TreePath;
use relais_web::HostRule;

use super::answer::Answer;
use super::hash_requests::HashRequests;
use super::login_cache::VerifiedLogins;
use super::operate::OperationRuns;
use super::request::Request;
use super::route::Route;
use super::status::StatusMonitor;
use super::url_path::UrlPath;
use crate::core::Core;
use crate::http_config::HttpConfig;

/// What all HTTP connections of a master share.
pub(crate) struct HttpSite {
    pub(super) core: Arc<Core>,
    pub(super) view: OrderView,
    pub(super) config: HttpConfig,
    pub(super) logins: VerifiedLogins,
    pub(super) hash_requests: HashRequests,
    /// What the status page shows of the last hour.
    pub(super) monitor: StatusMonitor,
    /// What operators have started on the pages.
    pub(super) runs: OperationRuns,
    /// The number of answers by their status.
    answered: Mutex<BTreeMap<u16, u64>>,
    /// The names of this server.
    hosts: HostRule,
    /// Each request that waits for slaves has a copy, so that they can be counted.
    wait_token: Arc<()>,
}

/// What follows from a request of a known user.
pub(super) enum Outcome {
    Answer(Answer),
    /// Something that the answer needs is about to come.
    Wait,
}

impl HttpSite {
    /// Makes the site.
    ///
    /// # Errors
    /// The kernel provides no random bytes.
    pub fn new(core: Arc<Core>, view: OrderView, config: HttpConfig) -> io::Result<Self> {
        let hosts = HostRule::new(config.hosts.iter().cloned());
        let logins = VerifiedLogins::new()?;
        Ok(Self {
            core,
            view,
            config,
            logins,
            hash_requests: HashRequests::default(),
            monitor: StatusMonitor::default(),
            runs: OperationRuns::default(),
            answered: Mutex::default(),
            hosts,
            wait_token: Arc::default(),
        })
    }

    /// Counts an answer.
    pub(super) fn count(&self, status: Status) {
        *self.answered.lock().entry(status.code()).or_default() += 1;
    }

    /// Returns the number of answers by their status.
    pub(super) fn answered(&self) -> BTreeMap<u16, u64> {
        self.answered.lock().clone()
    }

    /// Whether a request waits for slaves, and has to be tried again soon.
    pub fn has_waiting(&self) -> bool {
        Arc::strong_count(&self.wait_token) > 1
    }

    /// Whether there are event streams, which news should reach soon.
    pub fn has_streams(&self) -> bool {
        self.monitor.has_streams()
    }

    /// Counts a waiting request until the result is dropped.
    pub(super) fn begin_wait(&self) -> Arc<()> {
        Arc::clone(&self.wait_token)
    }

    /// Counts a login until the result is dropped.
    pub(super) fn begin_login(&self) -> Arc<()> {
        Arc::clone(&self.core.login_token)
    }

    /// Handles what needs no user.
    pub(super) fn route(&self, request: &Request) -> Route {
        if let Some(answer) = self.health(request) {
            return Route::Answer(answer);
        }
        let head = &request.head;
        if let Err(error) = self.hosts.check(head) {
            return Route::Answer(Answer::rejected(Some(head), error));
        }
        if matches!(head.method, Method::Other(_)) || head.target.path == "*" {
            return Route::Answer(Answer::method_not_allowed(head, ALLOWED));
        }
        match UrlPath::of(&head.target) {
            Ok(UrlPath::Tree(path)) => Route::Tree(path),
            Ok(UrlPath::Page(name)) => self.route_page(request, &name),
            Err(error) => Route::Answer(Answer::rejected(Some(head), error)),
        }
    }

    /// Answers a request for a path of the tree that has waited for this time.
    pub(super) fn answer(
        &self,
        request: &Request,
        path: &TreePath,
        user: &AuthenticatedUser,
        waited: Duration,
    ) -> Outcome {
        let metalink = self.metalink(request, path, user, waited);
        metalink.unwrap_or_else(|| self.redirect(request, path, user, waited))
    }
}

/// The methods that a slave may answer.
const ALLOWED: &str = "GET, HEAD, OPTIONS, PUT, POST, PATCH, DELETE, MKCOL, COPY, MOVE, PROPFIND, \
                       PROPPATCH, LOCK, UNLOCK";
