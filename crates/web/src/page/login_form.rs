//! The page on which a user logs in.

use super::frame::Frame;
use super::html::Html;
use super::nonce::Nonce;

/// The form for a name and a password, which is sent to `/-/login`.
#[derive(Debug, Clone, Copy)]
pub struct LoginForm<'a> {
    /// The path that follows a login.
    pub next: &'a str,
    /// The reason why the last login failed.
    pub error: Option<&'a str>,
}

impl LoginForm<'_> {
    /// Returns the page.
    #[must_use]
    pub fn page(&self, nonce: &Nonce) -> Vec<u8> {
        let mut page = Html::default();
        let html = &mut page;
        let frame =
            Frame { title: "Log in", user: "", csrf: None, nonce, assets: &[], attributes: &[] };
        frame.begin(html);
        html.markup("<main>\n<form class=\"login\" method=\"post\" action=\"/-/login\">\n")
            .markup("<h1>Log in</h1>\n");
        if let Some(error) = self.error {
            html.markup("<p class=\"message error\" role=\"alert\">").text(error).markup("</p>\n");
        }
        html.markup("<input type=\"hidden\" name=\"next\"")
            .attribute("value", self.next)
            .markup(">\n<div class=\"field\"><label for=\"user\">User</label>")
            .markup("<input id=\"user\" name=\"user\" required autofocus autocomplete=\"username\"")
            .markup(" autocapitalize=\"none\" spellcheck=\"false\"></div>\n")
            .markup("<div class=\"field\"><label for=\"password\">Password</label>")
            .markup("<input id=\"password\" name=\"password\" type=\"password\" required ")
            .markup("autocomplete=\"current-password\"></div>\n")
            .markup("<button class=\"primary\">Log in</button>\n</form>\n</main>\n");
        Frame::end(html);
        page.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_shows_why_a_login_failed() {
        let nonce = Nonce::new().unwrap();
        let form = LoginForm { next: "/a\"b", error: Some("<no>") };
        let page = String::from_utf8(form.page(&nonce)).unwrap();
        assert!(page.contains("value=\"/a&quot;b\"") && page.contains("&lt;no&gt;"), "{page}");
        assert!(
            !String::from_utf8(LoginForm { error: None, ..form }.page(&nonce))
                .unwrap()
                .contains("alert")
        );
    }
}
