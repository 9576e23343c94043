//! What must hold for any bytes: the bodies of the fuzz targets.
//!
//! The same functions run on a stable compiler: `crates/http/tests/corpus.rs` includes this file
//! and feeds it the corpus and inputs made from it. Each function takes any bytes and panics where
//! a promise of `relais-http` is broken. Nothing here may depend on libFuzzer, time or chance.

use relais_http::range::{self, Ranges};
use relais_http::{
    BodyLength, ChunkedDecoder, ChunkedEncoder, EntityTag, Form, Headers, Preconditions,
    RequestHead, Response, Status, accept, auth, conditions, content_type, cookie, date, digest,
    disposition, escape, forwarded, limits,
};

/// A request head, and all that is read from its target and fields.
pub fn head(data: &[u8]) {
    let Ok(Some((head, len))) = RequestHead::parse(data) else { return };
    assert!(data[..len].ends_with(b"\r\n\r\n") && len <= limits::HEAD + 2);
    assert_eq!(RequestHead::parse(&data[..len]), Ok(Some((head.clone(), len))));
    // No other head is seen before all bytes are there.
    assert_eq!(RequestHead::parse(&data[..len - 1]), Ok(None));
    assert!(head.headers.len() <= limits::HEADERS && head.headers.all("host").count() <= 1);
    let fields = |name: &str| head.headers.all(name).count();
    match head.body() {
        Ok(BodyLength::Chunked) => {
            assert_eq!((fields("transfer-encoding"), fields("content-length")), (1, 0));
        }
        Ok(BodyLength::Sized(_)) => {
            assert_eq!((fields("transfer-encoding"), fields("content-length")), (0, 1));
        }
        Ok(BodyLength::Empty) => assert_eq!(fields("transfer-encoding"), 0),
        Err(error) => assert!(error.status.is_error()),
    }
    let _ = (head.expects_continue(), head.keeps_alive(), head.target.parameters());
    target(&head);
    values(&head.headers);
}

/// Parts of a path cannot leave their folder, and are the same after they were encoded.
fn target(head: &RequestHead) {
    let Ok(parts) = head.target.decoded_parts() else { return };
    for part in &parts {
        assert!(!part.is_empty() && part != "." && part != ".." && !part.contains(['/', '\0']));
        let value = disposition::content_disposition(disposition::Disposition::Inline, part);
        answer(&value);
        answer(&content_type::of_name(part));
    }
    let path = escape::uri_path(parts.iter().map(String::as_str), false);
    let again = RequestHead::parse(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
    if let Ok(again) = again {
        assert_eq!(again.map(|(head, _)| head.target.decoded_parts()), Some(Ok(parts)));
    } else {
        // Encoded, it may be longer than a target can be.
        assert!(path.len() > limits::TARGET);
    }
}

/// The value of any field, and what it must not be able to do.
pub fn value(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = (Form::parse(text), EntityTag::parse(text), auth::challenge(text));
    if let Some(time) = date::parse(text) {
        assert_eq!(date::parse(&date::format(time)).map(date::seconds), Some(date::seconds(time)));
    }
    let fields = ["Range", "If-Match", "If-None-Match", "If-Range", "If-Modified-Since", "Cookie"];
    let others = ["Authorization", "Accept", "Content-Digest", "Connection", "Expect"];
    let mut headers = Headers::default();
    fields.into_iter().chain(others).for_each(|name| headers.append(name, text.to_owned()));
    values(&headers);
    // A client cannot displace what the proxy adds.
    for (name, added) in [("X-Forwarded-For", "192.0.2.7"), ("Forwarded", "for=192.0.2.7")] {
        for separator in [Some(", "), None] {
            let mut headers = Headers::default();
            match separator {
                Some(separator) => headers.append(name, format!("{text}{separator}{added}")),
                None => {
                    headers.append(name, text.to_owned());
                    headers.append(name, added);
                }
            }
            let client = forwarded::client(&headers, |addr| addr.is_loopback());
            assert_eq!(client.map(|client| client.addr), Ok(Some([192, 0, 2, 7].into())));
        }
    }
}

/// The values of fields that servers interpret.
fn values(headers: &Headers) {
    for value in headers.iter().map(|(_, value)| value) {
        ranges(value);
        let _ = accept::prefers(Some(value), &["text/html", "application/json"]);
        let shown = escape::markup(value) + &escape::json(value);
        assert!(!shown.contains(['<', '>', '\0']));
        if let Ok(conditions) = Preconditions::parse(headers) {
            let _ = conditions.evaluate(true, conditions::CurrentState::default());
        }
    }
    let _ = (auth::basic(headers), cookie::find(headers, "relais", |value| value.len() > 1));
    let _ = (digest::parse(headers, "content-digest"), digest::is_wanted(headers, "accept"));
    let _ = forwarded::client(headers, |addr| addr.is_loopback());
    let _ = conditions::range_applies(headers, None);
}

/// Ranges are in the content, and no two overlap.
fn ranges(value: &str) {
    for size in [0, 1, 1000, u64::MAX] {
        let Ranges::Partial(ranges) = range::parse(Some(value), size) else { continue };
        assert!((1..=limits::RANGES).contains(&ranges.len()));
        let mut sorted = ranges;
        sorted.sort_by_key(|range| range.start);
        assert!(sorted.iter().all(|range| range.start < range.end && range.end <= size));
        assert!(sorted.windows(2).all(|two| two[0].end < two[1].start));
    }
}

/// A value of an answer adds no field.
fn answer(value: &str) {
    let response = Response::new(Status::OK).with("X", value.to_owned());
    let bytes = response.encode().expect("values that this crate makes are valid");
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 3);
}

/// A body in chunks: what is decoded does not depend on the pieces in which it comes.
pub fn chunked(data: &[u8]) {
    let whole = decode(data, data.len().max(1));
    for piece in [1, 7] {
        assert_eq!(decode(data, piece), whole);
    }
    let mut body = Vec::new();
    for chunk in data.chunks(1000) {
        body.extend(ChunkedEncoder::head(chunk.len()));
        body.extend(chunk);
        body.extend(ChunkedEncoder::DATA_END);
    }
    body.extend(ChunkedEncoder::END);
    let len = body.len();
    body.extend(data);
    assert_eq!(decode(&body, 100), Some((data.to_vec(), Some(len))));
}

/// Returns the data, and the length of the body if it has ended; none if it is malformed.
fn decode(data: &[u8], piece: usize) -> Option<(Vec<u8>, Option<usize>)> {
    let mut decoder = ChunkedDecoder::default();
    let (mut decoded, mut at, mut end) = (Vec::new(), 0, 0);
    loop {
        let progress = decoder.decode(&data[at..end]).ok()?;
        at += progress.skip;
        decoded.extend(&data[at..at + progress.data]);
        at += progress.data;
        assert!(at <= end);
        if progress.has_ended {
            assert!(decoder.has_ended());
            return Some((decoded, Some(at)));
        }
        if progress.data == 0 {
            assert_eq!(at, end, "all input is used");
            if end == data.len() {
                return Some((decoded, None));
            }
            end = data.len().min(end + piece);
        }
    }
}
