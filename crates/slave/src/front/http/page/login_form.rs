//! The page on which a user logs in.

use super::frame::{self, Nonce, Visitor};
use super::html::Html;

/// Makes the page; `next` is the path that follows a login, `error` why the last one failed.
#[must_use]
pub fn login_page(next: &str, error: Option<&str>, nonce: &Nonce) -> Vec<u8> {
    let mut page = Html::default();
    let html = &mut page;
    let visitor = Visitor { user: "", csrf: None, is_writable: false };
    frame::begin(html, "Log in", &visitor, nonce);
    html.markup(
        "<main>\n<form class=\"login\" method=\"post\" action=\"/-/login\">\n<h1>Log in</h1>\n",
    );
    if let Some(error) = error {
        html.markup("<p class=\"message error\" role=\"alert\">").text(error).markup("</p>\n");
    }
    html.markup("<input type=\"hidden\" name=\"next\"")
        .attribute("value", next)
        .markup(">\n<div class=\"field\"><label for=\"user\">User</label>")
        .markup("<input id=\"user\" name=\"user\" required autofocus autocomplete=\"username\" ")
        .markup("autocapitalize=\"none\" spellcheck=\"false\"></div>\n")
        .markup("<div class=\"field\"><label for=\"password\">Password</label>")
        .markup("<input id=\"password\" name=\"password\" type=\"password\" required ")
        .markup("autocomplete=\"current-password\"></div>\n")
        .markup("<button class=\"primary\">Log in</button>\n</form>\n</main>\n");
    frame::end(html);
    page.take()
}
