//! The links to the folders above a page.

use relais_web::page::Html;

/// Writes the links to the folders above, and to this one.
///
/// `parts` has the name of each folder, from the root's first child on, and its URL.
pub fn breadcrumbs(html: &mut Html, parts: &[(&str, String)]) {
    html.markup("<nav aria-label=\"Folder\"><ol>");
    html.markup("<li><a href=\"/\"");
    if parts.is_empty() {
        html.markup(" aria-current=\"page\"");
    }
    html.markup(">All files</a></li>");
    for (at, (name, url)) in parts.iter().enumerate() {
        html.markup("<li><a").attribute("href", url);
        if at + 1 == parts.len() {
            html.markup(" aria-current=\"page\"");
        }
        html.markup(">").text(name).markup("</a></li>");
    }
    html.markup("</ol></nav>\n");
}
