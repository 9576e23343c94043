//! What all pages have around their content: head, account and end.

use super::asset::{Asset, SHARED};
use super::html::Html;
use super::nonce::Nonce;

/// The account of visitors without a login, once there are accounts.
const ANONYMOUS: &str = "anonymous";

/// A page around its content.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The title of the window.
    pub title: &'a str,
    /// The user name; empty: no account.
    pub user: &'a str,
    /// The token that changes need; none without a cookie.
    pub csrf: Option<&'a str>,
    /// The value that lets style and script run.
    pub nonce: &'a Nonce,
    /// The styles and scripts, beside those of all pages.
    pub assets: &'a [Asset],
    /// Attributes of the root element, for the script.
    pub attributes: &'a [(&'static str, &'a str)],
}

impl Frame<'_> {
    /// Writes the beginning of a page up to its body's content.
    pub fn begin(&self, html: &mut Html) {
        html.markup("<!doctype html>\n<html lang=\"en\"");
        for (name, value) in self.attributes {
            html.attribute(name, value);
        }
        html.markup(">\n<head>\n<meta charset=\"utf-8\">\n")
            .markup("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
            .markup("<meta name=\"color-scheme\" content=\"light dark\">\n");
        if let Some(csrf) = self.csrf {
            html.markup("<meta name=\"csrf\"").attribute("content", csrf).markup(">\n");
        }
        html.markup("<title>").text(self.title).markup("</title>\n");
        for asset in SHARED.iter().chain(self.assets) {
            self.link(html, *asset);
        }
        html.markup("</head>\n<body>\n");
    }

    fn link(&self, html: &mut Html, asset: Asset) {
        if asset.content_type.starts_with("text/css") {
            html.markup("<link rel=\"stylesheet\"")
                .attribute("href", &asset.url())
                .attribute("nonce", self.nonce.text())
                .markup(">\n");
        } else if asset.content_type.starts_with("image/") {
            html.markup("<link rel=\"icon\"").attribute("href", &asset.url()).markup(">\n");
        } else {
            html.markup("<script defer")
                .attribute("src", &asset.url())
                .attribute("nonce", self.nonce.text())
                .markup("></script>\n");
        }
    }

    /// Writes the name of the user with a button to log out, or for `anonymous` a link to log in.
    ///
    /// `here` is the path to which a login leads back.
    pub fn account(&self, html: &mut Html, here: &str) {
        if let Some(csrf) = self.csrf {
            html.markup("<form class=\"account\" method=\"post\" action=\"/-/logout\">")
                .markup("<span class=\"quiet\">")
                .text(self.user)
                .markup("</span><input type=\"hidden\" name=\"csrf\"")
                .attribute("value", csrf)
                .markup("><button>Log out</button></form>\n");
        } else if self.user == ANONYMOUS {
            let next = relais_http::escape::uri_part(here);
            html.markup("<a").attribute("href", &format!("/-/login?next={next}"));
            html.markup(">Log in</a>\n");
        }
    }

    /// Writes the end of a page.
    pub fn end(html: &mut Html) {
        html.markup("</body>\n</html>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_style_and_script_has_the_nonce() {
        let nonce = Nonce::new().unwrap();
        let script = Asset {
            path: "/-/assets/a.js",
            content_type: "text/javascript; charset=utf-8",
            content: "1",
        };
        let frame = Frame {
            title: "<b>",
            user: "a&b",
            csrf: Some("token"),
            nonce: &nonce,
            assets: &[script],
            attributes: &[("data-x", "\"")],
        };
        let mut html = Html::default();
        frame.begin(&mut html);
        frame.account(&mut html, "/");
        Frame::end(&mut html);
        let page = String::from_utf8(html.take()).unwrap();
        assert_eq!(page.matches(nonce.text()).count(), 2, "{page}");
        assert!(page.contains("<title>&lt;b&gt;") && page.contains("data-x=\"&quot;\""), "{page}");
        assert!(page.contains(">a&amp;b</span>") && page.contains("<script defer src"), "{page}");
    }
}
