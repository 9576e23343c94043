//! `/-/status`: the state of the cluster as a page for people, complete without a script.
//!
//! The texts of slaves are those of `ftpmaster status`. Only literals of the program are markup.

mod assets;
mod cells;
mod cluster_view;
mod status_page;

use relais_http::Status;

pub(super) use self::assets::asset_at;
use self::cluster_view::ClusterView;
pub(super) use self::cluster_view::lag_seconds;
use self::status_page::StatusPage;
use super::access::Viewer;
use super::answer::Answer;
use super::login_page::html_page;
use super::request::Request;
use super::site::HttpSite;

impl HttpSite {
    /// Answers with the status page.
    pub(super) fn status(&self, request: &Request, viewer: &Viewer) -> Answer {
        let cluster = ClusterView::new(self, request.client.requester(false).addrs);
        let events = self.core.events.after(0);
        html_page(&request.head, Status::OK, |nonce| {
            StatusPage { viewer, nonce, cluster: &cluster, events: &events }.html()
        })
    }
}
