//! What all pages share: head, breadcrumbs, the account, and the policy for their content.

use super::assets::ASSETS;
use super::html::Html;
use crate::front::http::uploads::INTEROP_VERSION;

/// The account of visitors without a login, once there are accounts.
const ANONYMOUS: &str = "anonymous";

/// The user of a page, and what the user may do there.
#[derive(Debug, Clone, Copy)]
pub struct Visitor<'a> {
    /// The user name; empty: no account.
    pub user: &'a str,
    /// The token that changes need; none without a cookie.
    pub csrf: Option<&'a str>,
    /// Whether the user may change the tree.
    pub is_writable: bool,
}

/// A random value that lets the style and script of one answer run.
#[derive(Debug, Clone)]
pub struct Nonce(String);

impl Nonce {
    /// Makes a nonce.
    ///
    /// # Errors
    /// The kernel provides no random bytes.
    pub fn new() -> std::io::Result<Self> {
        let bytes: [u8; 16] = relais_os::random()?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Returns the `Content-Security-Policy` of a page: only its own style and script, and content
    /// of this server as pictures and for requests.
    pub fn policy(&self) -> String {
        let nonce = &self.0;
        format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
             img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'"
        )
    }
}

/// Writes the beginning of a page up to its body's content.
pub fn begin(html: &mut Html, title: &str, visitor: &Visitor<'_>, nonce: &Nonce) {
    html.markup("<!doctype html>\n<html lang=\"en\"")
        .attribute("data-upload-draft", INTEROP_VERSION)
        .markup(">\n<head>\n<meta charset=\"utf-8\">\n")
        .markup("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
        .markup("<meta name=\"color-scheme\" content=\"light dark\">\n");
    if let Some(csrf) = visitor.csrf {
        html.markup("<meta name=\"csrf\"").attribute("content", csrf).markup(">\n");
    }
    html.markup("<title>").text(title).markup("</title>\n");
    let [css, js] = ASSETS;
    let versioned = |asset: super::assets::Asset| format!("{}?v={}", asset.path, asset.version());
    html.markup("<link rel=\"stylesheet\"")
        .attribute("href", &versioned(css))
        .attribute("nonce", &nonce.0)
        .markup(">\n<script defer")
        .attribute("src", &versioned(js))
        .attribute("nonce", &nonce.0)
        .markup("></script>\n</head>\n<body")
        .attribute("data-writable", if visitor.is_writable { "true" } else { "false" })
        .markup(">\n");
}

/// Writes the end of a page.
pub fn end(html: &mut Html) {
    html.markup("</body>\n</html>\n");
}

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

/// Writes the name of the user with a button to log out, or for `anonymous` a link to log in.
pub fn account(html: &mut Html, visitor: &Visitor<'_>, here: &str) {
    if let Some(csrf) = visitor.csrf {
        html.markup("<form class=\"account\" method=\"post\" action=\"/-/logout\">")
            .markup("<span class=\"quiet\">")
            .text(visitor.user)
            .markup("</span><input type=\"hidden\" name=\"csrf\"")
            .attribute("value", csrf)
            .markup("><button>Log out</button></form>\n");
    } else if visitor.user == ANONYMOUS {
        let next = relais_http::escape::uri_part(here);
        html.markup("<a").attribute("href", &format!("/-/login?next={next}"));
        html.markup(">Log in</a>\n");
    }
}
