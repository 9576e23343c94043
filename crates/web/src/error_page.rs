//! Answers that tell an error.

use relais_http::{Response, Status, accept, escape};

/// Returns an answer for an error: as HTML for browsers, as JSON if it is wanted, else as text.
///
/// `accept` is the field of the request (RFC 9110, section 12.5.1). `code` is for programs,
/// `message` for people.
#[must_use]
pub fn render_error(
    accept: Option<&str>,
    status: Status,
    code: &str,
    message: &str,
) -> (Response, Vec<u8>) {
    const FORMS: [&str; 3] =
        ["text/plain; charset=utf-8", "application/json", "text/html; charset=utf-8"];
    let form = accept::prefers(accept, &FORMS).unwrap_or_default();
    let body = match form {
        1 => {
            let (code, message) = (escape::json(code), escape::json(message));
            format!("{{\"error\":{{\"code\":{code},\"message\":{message}}}}}\n")
        }
        2 => page(status, &escape::markup(message)),
        _ => format!("{}\n", message.replace(|c: char| c.is_control(), " ")),
    };
    let response = Response::new(status)
        .with("Content-Type", FORMS[form])
        .with("X-Content-Type-Options", "nosniff")
        .with("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        .with("Cache-Control", "no-store");
    (response, body.into_bytes())
}

fn page(status: Status, message: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{status}</title></head>\n\
         <body><h1>{status}</h1><p>{message}</p></body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_form_that_is_wanted() {
        let render = |accept| {
            let message = "no <file>\r\n\"x\"";
            let (response, body) = render_error(accept, Status::NOT_FOUND, "not-found", message);
            assert_eq!(response.status, Status::NOT_FOUND);
            let content_type = response.headers.get("content-type").unwrap().to_owned();
            (content_type, String::from_utf8(body).unwrap())
        };
        for accept in [None, Some("*/*"), Some("image/png")] {
            let (content_type, body) = render(accept);
            assert_eq!(
                (&*content_type, &*body),
                ("text/plain; charset=utf-8", "no <file>  \"x\"\n")
            );
        }
        let (content_type, body) = render(Some("application/json"));
        assert_eq!(content_type, "application/json");
        let message = "no \\u003cfile\\u003e\\u000d\\n\\\"x\\\"";
        let expected =
            format!("{{\"error\":{{\"code\":\"not-found\",\"message\":\"{message}\"}}}}\n");
        assert_eq!(body, expected);
        let (content_type, body) = render(Some("text/html,*/*;q=0.8"));
        assert_eq!(content_type, "text/html; charset=utf-8");
        assert!(body.contains("<p>no &lt;file&gt;") && body.contains("404 Not Found"), "{body}");
    }
}
