//! The page of a folder: its entries as a table, with what the script needs beside them.

use relais_proto::{Entry, Kind};
use relais_web::page::{Frame, Html, format};

use super::breadcrumbs::breadcrumbs;
use super::order::{Order, SortKey};

/// A folder that is shown, with the URLs of the folders above.
pub struct FolderPage<'a> {
    pub frame: Frame<'a>,
    /// Whether the user may change the tree.
    pub is_writable: bool,
    /// Names of the folders from the root on, and their URLs; empty for the root.
    pub parts: &'a [(&'a str, String)],
    /// Path and query of the page, encoded.
    pub here: &'a str,
    pub order: Order,
    /// What is searched for below the folder; none for a listing.
    pub search: Option<&'a str>,
}

impl FolderPage<'_> {
    /// Writes everything above the entries.
    pub fn begin(&self, html: &mut Html) {
        self.frame.begin(html);
        html.markup("<header>\n");
        breadcrumbs(html, self.parts);
        self.frame.account(html, self.here);
        html.markup("</header>\n<main>\n");
        self.tools(html);
        html.markup("<p id=\"message\" class=\"message\" role=\"status\" hidden></p>\n");
        html.markup("<ul id=\"uploads\" aria-label=\"Uploads\"></ul>\n");
        html.markup("<table id=\"entries\">\n<thead><tr>");
        for key in SortKey::ALL {
            self.heading(html, key);
        }
        html.markup("<th class=\"actions\" aria-label=\"Actions\"></th></tr></thead>\n<tbody>\n");
    }

    /// Writes the row of an entry at `url`, under the name that is shown.
    pub fn row(&self, html: &mut Html, entry: &Entry, name: &str, url: &str, content_type: &str) {
        let is_folder = entry.kind == Kind::Folder;
        html.markup(if is_folder { "<tr class=\"folder\"" } else { "<tr" });
        html.attribute("data-name", name);
        if let Some(kind) = preview_kind(content_type).filter(|_| !is_folder) {
            html.attribute("data-preview", kind);
        }
        html.markup("><td class=\"name\"><a").attribute("href", url).markup(">").text(name);
        html.markup("</a></td><td class=\"size\"");
        if is_folder {
            html.markup("></td>");
        } else {
            html.attribute("title", &format!("{} bytes", entry.size))
                .markup(">")
                .text(&format::size(entry.size))
                .markup("</td>");
        }
        html.markup("<td class=\"time\">");
        let times = format::time(entry.mtime).zip(format::machine_time(entry.mtime));
        if let Some((shown, exact)) = times.filter(|_| !is_folder) {
            html.markup("<time").attribute("datetime", &exact).markup(">").text(&shown);
            html.markup("</time>");
        }
        html.markup("</td><td class=\"actions\"></td></tr>\n");
    }

    /// Writes everything below the entries; `note` is shown there.
    pub fn end(&self, html: &mut Html, note: Option<&str>) {
        html.markup("</tbody>\n</table>\n");
        if let Some(note) = note {
            html.markup("<p class=\"quiet\">").text(note).markup("</p>\n");
        }
        html.markup("</main>\n");
        Frame::end(html);
    }

    fn tools(&self, html: &mut Html) {
        html.markup("<div class=\"tools\">\n<form class=\"grow\" role=\"search\">")
            .markup("<input id=\"search\" type=\"search\" name=\"search\" maxlength=\"255\" ")
            .markup("placeholder=\"Search; Enter searches all folders below\" ")
            .markup("aria-label=\"Search\"")
            .attribute("value", self.search.unwrap_or_default())
            .markup("></form>\n");
        if self.is_writable && self.search.is_none() {
            html.markup("<div id=\"write-tools\" hidden>")
                .markup("<input id=\"files\" type=\"file\" multiple hidden ")
                .markup("aria-label=\"Files to upload\">\n")
                .markup("<button id=\"upload\" class=\"primary\" type=\"button\">Upload</button>\n")
                .markup("<button id=\"new-folder\" type=\"button\">New folder</button>\n</div>\n");
        }
        html.markup("</div>\n");
    }

    fn heading(&self, html: &mut Html, key: SortKey) {
        let (class, label) = match key {
            SortKey::Name => ("name", "Name"),
            SortKey::Size => ("size", "Size"),
            SortKey::Time => ("time", "Modified"),
        };
        html.markup("<th scope=\"col\"").attribute("class", class);
        if self.search.is_some() {
            html.markup(">").text(label).markup("</th>");
            return;
        }
        let is_key = self.order.key == key;
        if is_key {
            let direction = if self.order.is_descending { "descending" } else { "ascending" };
            html.attribute("aria-sort", direction);
        }
        html.markup("><a").attribute("href", self.order.toggled(key).query()).markup(">");
        html.text(label);
        if is_key {
            html.markup(if self.order.is_descending { " \u{2193}" } else { " \u{2191}" });
        }
        html.markup("</a></th>");
    }
}

/// Returns how the script shows content of a type: as a picture or as text.
fn preview_kind(content_type: &str) -> Option<&'static str> {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    const TEXTS: [&str; 6] = [
        "application/json",
        "application/toml",
        "application/x-sh",
        "application/javascript",
        "application/xml",
        "application/x-yaml",
    ];
    if essence.starts_with("image/") {
        Some("image")
    } else if essence.starts_with("text/") || TEXTS.contains(&essence) {
        Some("text")
    } else {
        None
    }
}
