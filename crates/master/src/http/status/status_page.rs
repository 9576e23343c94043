//! The status page as HTML.

use relais_proto::SlaveId;
use relais_web::page::{Frame, Html, Nonce};

use super::assets::ASSETS;
use super::cells::{Cell, cells};
use super::cluster_view::{ClusterView, SlaveView};
use super::curves::figure;
use super::event_item::EventItem;
use super::live_texts::{LiveTexts, REMARKS, cell_key, cluster_text, note_key, remarks_text};
use crate::events::Event;
use crate::http::access::Viewer;
use crate::http::operate::{cluster_actions, slave_actions};

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
        let after = self.events.last().map_or(0, |event| event.number);
        let frame = Frame {
            title: "Cluster status",
            user: &self.viewer.user,
            csrf: self.viewer.csrf.as_deref(),
            nonce: self.nonce,
            assets: &ASSETS,
            attributes: &[
                ("data-layout", &LiveTexts::new(self.cluster).layout),
                ("data-stream", &stream_url(self.cluster.selected, after)),
            ],
        };
        frame.begin(html);
        html.markup("<header>\n<h1>Cluster status</h1>\n");
        html.markup("<span id=\"live\" class=\"quiet\" role=\"status\"></span>\n");
        frame.account(html, PATH);
        html.markup("</header>\n<main>\n");
        self.cluster(html);
        self.slaves(html);
        self.curves(html);
        self.events(html);
        html.markup("</main>\n");
        Frame::end(html);
        page.take()
    }

    fn cluster(&self, html: &mut Html) {
        html.markup("<section aria-labelledby=\"cluster\"><h2 id=\"cluster\">Cluster</h2>\n")
            .markup("<p class=\"lines\" data-live=\"cluster\">")
            .text(&cluster_text(self.cluster))
            .markup("</p>\n");
        cluster_actions(html, self.viewer);
        html.markup("</section>\n");
    }

    fn slaves(&self, html: &mut Html) {
        html.markup("<section aria-labelledby=\"slaves\"><h2 id=\"slaves\">Slaves</h2>\n")
            .markup("<div class=\"wide\" tabindex=\"0\" role=\"region\" ")
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

    fn curves(&self, html: &mut Html) {
        html.markup("<section aria-labelledby=\"curves\"><h2 id=\"curves\">Last hour</h2>\n")
            .markup("<nav aria-label=\"Curves\"><ul>");
        self.choice(html, None, "Cluster");
        for slave in &self.cluster.slaves {
            self.choice(html, Some(slave.report.id), &slave.row.id);
        }
        html.markup("</ul></nav>\n<div class=\"curves\">\n");
        self.cluster.curves.iter().for_each(|curve| figure(html, curve));
        html.markup("</div>\n</section>\n");
    }

    /// Writes the link to the curves of a slave, or of the cluster.
    fn choice(&self, html: &mut Html, slave: Option<SlaveId>, name: &str) {
        let query = slave.map_or_else(String::new, |slave| format!("?slave={slave}"));
        html.markup("<li><a").attribute("href", &format!("{PATH}{query}#curves"));
        if slave == self.cluster.selected {
            html.markup(" aria-current=\"true\"");
        }
        html.markup(">").text(name).markup("</a></li>");
    }

    fn events(&self, html: &mut Html) {
        html.markup("<section aria-labelledby=\"events\"><h2 id=\"events\">Recent events</h2>\n")
            .markup("<ol id=\"event-list\">\n");
        self.events.iter().rev().for_each(|event| EventItem::new(event).write(html));
        html.markup("</ol>\n<template id=\"event\">");
        EventItem::default().write(html);
        html.markup("</template>\n</section>\n");
    }
}

/// Returns the URL of the stream that continues a page.
fn stream_url(selected: Option<SlaveId>, after: u64) -> String {
    let slave = selected.map_or_else(String::new, |slave| format!("&slave={slave}"));
    format!("{PATH}/events?after={after}{slave}")
}

/// Writes the rows of a slave: its cells, then its remarks.
fn row(html: &mut Html, slave: &SlaveView, cells: &[Cell], viewer: &Viewer) {
    html.markup("<tbody").attribute("data-state", slave.report.state.text()).markup("><tr>");
    for cell in cells {
        html.markup("<td").attribute("data-heading", cell.heading).markup("><span");
        html.attribute("data-live", &cell_key(slave, cell.name)).markup(">").text(&cell.text);
        html.markup("</span><small").attribute("data-live", &note_key(slave, cell.name));
        html.markup(">").text(&cell.note).markup("</small></td>");
    }
    if viewer.may_operate {
        html.markup("<td class=\"actions\" data-heading=\"Actions\">");
        slave_actions(html, slave.report.id, slave.report.state, viewer);
        html.markup("</td>");
    }
    html.markup("</tr>\n<tr class=\"remarks\"><td colspan=\"99\"><span class=\"lines\"");
    html.attribute("data-live", &cell_key(slave, REMARKS)).markup(">");
    html.text(&remarks_text(slave)).markup("</span></td></tr></tbody>\n");
}
