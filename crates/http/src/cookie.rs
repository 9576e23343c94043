//! Cookies.

use std::fmt;
use std::time::Duration;

use crate::headers::Headers;

/// Returns the value of the first cookie with a name (RFC 6265, section 5.4).
#[must_use]
pub fn find<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let pairs = headers.all("cookie").flat_map(|field| field.split(';'));
    let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(other, _)| *other == name).map(|(_, value)| value)
}

/// When a browser sends a cookie with requests that another site causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Never.
    Strict,
    /// Only when the user follows a link.
    Lax,
}

/// The value of a field `Set-Cookie` (RFC 6265, section 4.1).
///
/// The path is `/`. Name and value must be tokens or in Base64, without `;` and spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetCookie {
    /// The name of the cookie.
    pub name: String,
    /// Its value; empty to remove it.
    pub value: String,
    /// How long it lives; none means as long as the browser runs. Zero removes it.
    pub max_age: Option<Duration>,
    /// Whether it is sent over TLS alone.
    pub secure: bool,
    /// Whether scripts cannot read it.
    pub http_only: bool,
    /// When it is sent with requests of other sites.
    pub same_site: SameSite,
}

impl fmt::Display for SetCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}; Path=/; SameSite={:?}", self.name, self.value, self.same_site)?;
        if let Some(age) = self.max_age {
            write!(f, "; Max-Age={}", age.as_secs())?;
        }
        if self.http_only {
            f.write_str("; HttpOnly")?;
        }
        if self.secure { f.write_str("; Secure") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_by_their_name() {
        let mut headers = Headers::default();
        headers.append("Cookie", "a=1; relais=x=y;b=");
        headers.append("Cookie", "a=2; c=3");
        for (name, value) in
            [("a", Some("1")), ("relais", Some("x=y")), ("b", Some("")), ("c", Some("3"))]
        {
            assert_eq!(find(&headers, name), value);
        }
        assert_eq!((find(&headers, "A"), find(&headers, "rel")), (None, None));
    }

    #[test]
    fn attributes_are_written() {
        let mut cookie = SetCookie {
            name: "n".to_owned(),
            value: "v".to_owned(),
            max_age: None,
            secure: false,
            http_only: false,
            same_site: SameSite::Lax,
        };
        assert_eq!(cookie.to_string(), "n=v; Path=/; SameSite=Lax");
        (cookie.secure, cookie.http_only, cookie.same_site) = (true, true, SameSite::Strict);
        cookie.max_age = Some(Duration::from_secs(60));
        let all = "n=v; Path=/; SameSite=Strict; Max-Age=60; HttpOnly; Secure";
        assert_eq!(cookie.to_string(), all);
    }
}
