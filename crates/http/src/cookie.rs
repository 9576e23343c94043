//! Cookies.

use std::fmt;
use std::time::Duration;

use crate::headers::Headers;

/// Returns the values of all cookies with a name (RFC 6265, section 5.4).
///
/// Other servers on the same host, or pages of one of its folders, may have set further ones.
pub fn all<'a>(headers: &'a Headers, name: &str) -> impl Iterator<Item = &'a str> {
    let pairs = headers.all("cookie").flat_map(|field| field.split(';'));
    let pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(other, _)| *other == name).map(|(_, value)| value)
}

/// Returns the value of a cookie; of several ones the first that `is_valid`, else the first.
pub fn find<'a>(
    headers: &'a Headers,
    name: &str,
    is_valid: impl Fn(&str) -> bool,
) -> Option<&'a str> {
    let values: Vec<&str> = all(headers, name).filter(|value| !value.is_empty()).collect();
    match values[..] {
        // The caller checks it in any case.
        [] | [_] => values.first().copied(),
        _ => values.iter().find(|value| is_valid(value)).or(values.first()).copied(),
    }
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
        for (name, values) in [
            ("a", &["1", "2"][..]),
            ("relais", &["x=y"]),
            ("b", &[""]),
            ("c", &["3"]),
            ("A", &[]),
            ("rel", &[]),
        ] {
            assert_eq!(all(&headers, name).collect::<Vec<_>>(), values);
        }
    }

    #[test]
    fn a_valid_cookie_among_several_is_found() {
        let mut headers = Headers::default();
        headers.append("Cookie", "a=; a=1; a=2; a=3; b=; c=7");
        assert_eq!(find(&headers, "a", |value| value == "2"), Some("2"));
        assert_eq!(find(&headers, "a", |_| false), Some("1"));
        assert_eq!(find(&headers, "b", |_| true), None);
        assert_eq!(find(&headers, "c", |_| false), Some("7"));
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
