//! The status page as HTML.

use log::Level;
use relais_proto::FileTime;
use relais_web::page::{Frame, Html, Nonce, format};

use super::assets::ASSETS;
use super::cells::{Cell, cells};
use super::cluster_view::{ClusterView, SlaveView};
use crate::events::Event;
use crate::http::access::Viewer;
use crate::http::operate::{cluster_actions, slave_actions};
use crate::status::{NO_SERVICE, headlines, remarks};

/// The path of the page.
const PATH: &str = "/-/status";

/// A page for one viewer.
pub(super) struct StatusPage<'a> {
    pub viewer: &'a Viewer,
    pub nonce: &'a Nonce,
    pub cluster: &'a ClusterView,
    /// Oldest first.
    pub events: &'a [Event],
}

impl StatusPage<'_> {
    /// Returns the page.
    pub fn html(&self) -> Vec<u8> {
        let mut page = Html::default();
        let html = &mut page;
        let frame = Frame {
            title: "Cluster status",
            user: &self.viewer.user,
            csrf: self.viewer.csrf.as_deref(),
            nonce: self.nonce,
            assets: &ASSETS,
            attributes: &[],
        };
        frame.begin(html);
        html.markup("<header>\n<h1>Cluster status</h1>\n");
        frame.account(html, PATH);
        html.markup("</header>\n<main>\n");
        self.cluster(html);
        self.slaves(html);
        self.events(html);
        html.markup("</main>\n");
        Frame::end(html);
        page.take()
    }

    fn cluster(&self, html: &mut Html) {
        html.markup("<section aria-labelledby=\"cluster\"><h2 id=\"cluster\">Cluster</h2>\n<p>");
        let mut lines = headlines(&self.cluster.report);
        if !self.cluster.report.has_service() {
            lines.push(NO_SERVICE.to_owned());
        }
        lines.push(format!("master {}", env!("CARGO_PKG_VERSION")));
        lines.push(format!("up for {} s", self.cluster.uptime_seconds));
        html.markup("<span class=\"lines\" data-live=\"cluster\">").text(&lines.join("\n"));
        html.markup("</span></p>\n");
        cluster_actions(html, self.viewer);
        html.markup("</section>\n");
    }

    fn slaves(&self, html: &mut Html) {
        html.markup("<section aria-labelledby=\"slaves\"><h2 id=\"slaves\">Slaves</h2>\n");
        html.markup("<div class=\"wide\" tabindex=\"0\" role=\"region\" ")
            .markup("aria-labelledby=\"slaves\"><table>\n<thead><tr>");
        let rows: Vec<(&SlaveView, Vec<Cell>)> =
            self.cluster.slaves.iter().map(|slave| (slave, cells(slave))).collect();
        for cell in rows.first().map_or(&[][..], |(_, cells)| cells) {
            html.markup("<th scope=\"col\">").text(cell.heading).markup("</th>");
        }
        if self.viewer.may_operate {
            html.markup("<th scope=\"col\">Actions</th>");
        }
        html.markup("</tr></thead>\n");
        for (slave, cells) in &rows {
            row(html, slave, cells, self.viewer);
        }
        html.markup("</table></div>\n</section>\n");
    }

    fn events(&self, html: &mut Html) {
        html.markup("<section aria-labelledby=\"events\"><h2 id=\"events\">Recent events</h2>\n")
            .markup("<ol class=\"events\">\n");
        self.events.iter().rev().for_each(|event| item(html, event));
        html.markup("</ol>\n</section>\n");
    }
}

/// Writes the rows of a slave: its cells, then its remarks.
fn row(html: &mut Html, slave: &SlaveView, cells: &[Cell], viewer: &Viewer) {
    let id = slave.report.id.to_string();
    html.markup("<tbody").attribute("data-state", slave.report.state.text()).markup("><tr>");
    for cell in cells {
        let key = format!("{id}.{}", cell.name);
        html.markup("<td").attribute("data-heading", cell.heading).markup("><span");
        html.attribute("data-live", &key).markup(">").text(&cell.text).markup("</span>");
        html.markup("<small").attribute("data-live", &format!("{key}.note")).markup(">");
        html.text(&cell.note).markup("</small></td>");
    }
    if viewer.may_operate {
        html.markup("<td class=\"actions\" data-heading=\"Actions\">");
        slave_actions(html, slave.report.id, slave.report.state, viewer);
        html.markup("</td>");
    }
    html.markup("</tr>\n<tr class=\"remarks\"><td colspan=\"99\"><span class=\"lines\"");
    html.attribute("data-live", &format!("{id}.remarks")).markup(">");
    html.text(&remarks(&slave.report).join("\n")).markup("</span></td></tr></tbody>\n");
}

fn item(html: &mut Html, event: &Event) {
    let time = FileTime { seconds: event.seconds, nanos: 0 };
    let shown = format::machine_time(time).unwrap_or_default();
    html.markup("<li").attribute("data-level", level(event.level)).markup("><time");
    html.attribute("datetime", &shown).markup(">").text(&shown).markup("</time> <span>");
    html.text(&event.text).markup("</span></li>\n");
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info | Level::Debug | Level::Trace => "info",
    }
}
