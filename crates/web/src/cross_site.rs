//! The check against requests that pages of other sites cause.

use relais_http::{RequestError, RequestHead, Status};

use crate::host_rule::{normalized, split_port};

/// Checks that no page of another site has caused an unsafe request.
///
/// A browser sends `Origin` with it (RFC 6454, section 7; Fetch Standard, section 3.2), and most
/// send `Sec-Fetch-Site` (Fetch Metadata, section 2.3). Other clients send neither.
///
/// # Errors
/// Status 403, whatever credentials the request has.
pub fn check_origin(head: &RequestHead, is_encrypted: bool) -> Result<(), RequestError> {
    const OTHER_SITE: RequestError =
        RequestError::new(Status::FORBIDDEN, "a page of another site has caused this request");
    if head.method.is_safe() {
        return Ok(());
    }
    let is_foreign = |site: &str| !["same-origin", "none"].contains(&site);
    if head.headers.all("sec-fetch-site").any(is_foreign)
        || head.headers.all("origin").any(|origin| !is_own(head, origin, is_encrypted))
    {
        return Err(OTHER_SITE);
    }
    Ok(())
}

/// Whether an origin is the host that the request addresses.
///
/// A page in the clear is foreign to a server that was addressed by TLS. The reverse can be a proxy
/// that ends TLS.
fn is_own(head: &RequestHead, origin: &str, is_encrypted: bool) -> bool {
    let (default_port, authority) = match origin.split_once("://") {
        Some(("https", authority)) => ("443", authority),
        Some(("http", authority)) if !is_encrypted => ("80", authority),
        _ => return false,
    };
    let parts = |authority: &str| {
        let (host, port) = split_port(authority);
        (normalized(host), port.unwrap_or(default_port).to_owned())
    };
    head.host().is_some_and(|host| parts(host) == parts(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed(method: &str, fields: &str, is_encrypted: bool) -> bool {
        let text = format!("{method} /a HTTP/1.1\r\nHost: files:80\r\n{fields}\r\n");
        let (head, _) = RequestHead::parse(text.as_bytes()).unwrap().unwrap();
        check_origin(&head, is_encrypted).is_ok()
    }

    #[test]
    fn unsafe_requests_need_the_own_origin() {
        for (fields, clear, encrypted) in [
            ("", true, true),
            ("Origin: http://files\r\n", true, false),
            ("Origin: http://FILES:80\r\n", true, false),
            ("Origin: https://files:80\r\n", true, true),
            ("Origin: https://files\r\n", false, false),
            ("Origin: http://files:81\r\n", false, false),
            ("Origin: http://evil\r\n", false, false),
            ("Origin: http://files.evil\r\n", false, false),
            ("Origin: null\r\n", false, false),
            ("Origin: \r\n", false, false),
            ("Origin: http://files\r\nOrigin: http://evil\r\n", false, false),
            ("Sec-Fetch-Site: same-origin\r\n", true, true),
            ("Sec-Fetch-Site: none\r\n", true, true),
            ("Sec-Fetch-Site: same-site\r\n", false, false),
            ("Sec-Fetch-Site: cross-site\r\n", false, false),
            ("Sec-Fetch-Site: cross-site\r\nOrigin: http://files\r\n", false, false),
        ] {
            for method in ["PUT", "POST", "DELETE", "MKCOL", "UNKNOWN"] {
                assert_eq!(is_allowed(method, fields, false), clear, "{method} {fields}");
                assert_eq!(is_allowed(method, fields, true), encrypted, "{method} {fields}");
            }
            assert!(is_allowed("GET", fields, false) && is_allowed("PROPFIND", fields, true));
        }
    }
}
