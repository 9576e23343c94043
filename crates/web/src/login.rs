//! What the login pages of masters and slaves share: forms, the cookie, and the way there.

use std::time::Duration;

use relais_http::cookie::{SameSite, SetCookie};
use relais_http::{
    BodyLength, Headers, Method, RequestError, RequestHead, Status, accept, escape, limits,
};

/// Media type of an HTML form.
const FORM: &str = "application/x-www-form-urlencoded";

/// Whether a client keeps cookies, as browsers do.
///
/// Browsers send `Sec-Fetch-Site` to secure origins, and all of them call themselves Mozilla.
#[must_use]
pub fn keeps_cookies(headers: &Headers) -> bool {
    headers.has("sec-fetch-site")
        || headers.get("user-agent").is_some_and(|agent| agent.starts_with("Mozilla/"))
}

/// Whether a client gets the login page instead of a 401.
///
/// wget2 asks for pages as a browser does, but it sends its password only after a 401.
#[must_use]
pub fn is_browser(head: &RequestHead) -> bool {
    keeps_cookies(&head.headers) && wants_page(head)
}

/// Whether a client asks for pages by name.
#[must_use]
pub fn wants_page(head: &RequestHead) -> bool {
    let forms = ["text/plain", "application/json", "text/html"];
    accept::prefers(head.headers.get("accept"), &forms) == Some(2)
}

/// Returns the path that follows a login: only one of this server, never another site.
#[must_use]
pub fn next_path(wanted: Option<&str>) -> &str {
    let is_own = |path: &&str| {
        path.starts_with('/')
            && !path.starts_with("//")
            && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    };
    wanted.filter(is_own).unwrap_or("/")
}

/// Returns the URL of the login page that leads back to the page of a request.
#[must_use]
pub fn login_location(head: &RequestHead) -> String {
    let mut next = head.target.path.clone();
    if let Some(query) = &head.target.query {
        next = format!("{next}?{query}");
    }
    format!("/-/login?next={}", escape::uri_part(&next))
}

/// Whether the body of a request is an HTML form.
#[must_use]
pub fn is_form(head: &RequestHead) -> bool {
    let media_type = head.headers.get("content-type").and_then(|field| field.split(';').next());
    head.method == Method::Post
        && media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(FORM))
}

/// Returns the length of the form that a request has as its body.
///
/// # Errors
/// Status 411 without a length, 413 for a long form.
pub fn form_length(head: &RequestHead) -> Result<usize, RequestError> {
    const NO_LENGTH: RequestError =
        RequestError::new(Status::LENGTH_REQUIRED, "the form needs a Content-Length");
    const LONG: RequestError = RequestError::new(Status::CONTENT_TOO_LARGE, "the form is too long");
    let length = match head.body()? {
        BodyLength::Empty => 0,
        BodyLength::Sized(size) => usize::try_from(size).map_err(|_| LONG)?,
        BodyLength::Chunked => return Err(NO_LENGTH),
    };
    if length <= limits::FORM { Ok(length) } else { Err(LONG) }
}

/// Returns the field `Set-Cookie` with a login; a time of zero removes the cookie.
#[must_use]
pub fn login_cookie(name: String, value: String, time: Duration, is_encrypted: bool) -> String {
    let cookie = SetCookie {
        name,
        value,
        max_age: Some(time),
        secure: is_encrypted,
        http_only: true,
        same_site: SameSite::Lax,
    };
    cookie.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> RequestHead {
        RequestHead::parse(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn a_login_never_leads_to_another_site() {
        for own in ["/", "/a/?sort=size", "/a%20b"] {
            assert_eq!(next_path(Some(own)), own);
        }
        let others = [
            "//evil.example/",
            "https://evil.example/",
            "/\\evil.example",
            "",
            "a",
            "/a b",
            "/\r\nX: y",
        ];
        for other in others {
            assert_eq!(next_path(Some(other)), "/", "{other:?}");
        }
        assert_eq!(next_path(None), "/");
    }

    #[test]
    fn the_login_page_leads_back() {
        let head = head("GET /a%20b/?x=1&y HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(login_location(&head), "/-/login?next=%2Fa%2520b%2F%3Fx%3D1%26y");
    }

    #[test]
    fn only_browsers_get_the_login_page_instead_of_a_401() {
        const PAGES: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
        let cases = [
            ("User-Agent: Mozilla/5.0 (X11) Firefox/140.0\r\n", PAGES, true),
            ("Sec-Fetch-Site: none\r\n", PAGES, true),
            ("User-Agent: Wget/2.0.1\r\n", PAGES, false),
            ("User-Agent: curl/7.88.1\r\n", "Accept: */*\r\n", false),
            ("User-Agent: Mozilla/5.0\r\n", "Accept: application/json\r\n", false),
        ];
        for (agent, accept, expected) in cases {
            let head = head(&format!("GET / HTTP/1.1\r\nHost: x\r\n{agent}{accept}\r\n"));
            assert_eq!(is_browser(&head), expected, "{agent}");
        }
    }

    #[test]
    fn a_form_has_a_bounded_length() {
        let length = |fields: &str| {
            let text = format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
            form_length(&head(&text)).map_err(|e| e.status.code())
        };
        assert_eq!((length(""), length("Content-Length: 16384\r\n")), (Ok(0), Ok(16384)));
        assert_eq!(length("Content-Length: 16385\r\n"), Err(413));
        assert_eq!(length("Content-Length: 18446744073709551615\r\n"), Err(413));
        assert_eq!(length("Transfer-Encoding: chunked\r\n"), Err(411));
    }

    #[test]
    fn only_a_posted_form_is_one() {
        let is_form = |method: &str, media_type: &str| {
            let text =
                format!("{method} / HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\n\r\n");
            is_form(&head(&text))
        };
        assert!(is_form("POST", FORM) && is_form("POST", &format!("{FORM}; charset=utf-8")));
        assert!(!is_form("PUT", FORM) && !is_form("POST", "text/plain"));
    }
}
