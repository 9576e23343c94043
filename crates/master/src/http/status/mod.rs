//! `/-/status`: the state of the cluster as a page for people, complete without a script.
//!
//! The texts of slaves are those of `ftpmaster status`. Only literals of the program are markup.

mod assets;
mod cells;
mod cluster_view;
mod status_page;

use relais_http::{Response, Status};
use relais_proto::{ErrorCode, Refusal};
use relais_web::page::Nonce;

pub(super) use self::assets::asset_at;
use self::cluster_view::ClusterView;
pub(super) use self::cluster_view::lag_seconds;
use self::status_page::StatusPage;
use super::access::Viewer;
use super::answer::Answer;
use super::request::Request;
use super::site::HttpSite;

impl HttpSite {
    /// Answers with the status page.
    pub(super) fn status(&self, request: &Request, viewer: &Viewer) -> Answer {
        let nonce = match Nonce::new() {
            Ok(nonce) => nonce,
            Err(e) => {
                let refusal = Refusal::new(ErrorCode::Storage, e.to_string());
                return Answer::refused(&request.head, &refusal);
            }
        };
        let cluster = ClusterView::new(self, request.client.requester(false).addrs);
        let events = self.core.events.after(0);
        let page = StatusPage { viewer, nonce: &nonce, cluster: &cluster, events: &events };
        let response = Response::new(Status::OK)
            .with("Content-Type", "text/html; charset=utf-8")
            .with("Cache-Control", "no-store")
            .with("Vary", "Accept, Authorization, Cookie")
            .with("X-Content-Type-Options", "nosniff")
            .with("Referrer-Policy", "same-origin")
            .with("Content-Security-Policy", nonce.policy());
        Answer::of(response, page.html())
    }
}
