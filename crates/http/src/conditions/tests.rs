//! Conditions against states of a resource.

use super::*;

const OLD: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const NEW: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

fn headers(fields: &[(&'static str, &'static str)]) -> Headers {
    let mut headers = Headers::default();
    fields.iter().for_each(|(name, value)| headers.append(*name, *value));
    headers
}

fn decide(fields: &[(&'static str, &'static str)], reads: bool, exists: bool) -> Decision {
    let tag = EntityTag::strong("a");
    let state = CurrentState { exists, tag: Some(&tag), modified: date::parse(DATE) };
    let state = if exists { state } else { CurrentState::default() };
    Preconditions::parse(&headers(fields)).unwrap().evaluate(reads, state)
}

#[test]
fn conditions_are_evaluated_in_order() {
    use Decision::{Failed, NotModified, Proceed};
    for (fields, get, put, put_new) in [
        (&[][..], Proceed, Proceed, Proceed),
        (&[("If-Match", "\"a\"")], Proceed, Proceed, Failed),
        (&[("If-Match", "\"b\"")], Failed, Failed, Failed),
        (&[("If-Match", "\"b\" , \"a\"")], Proceed, Proceed, Failed),
        (&[("If-Match", "\"b\""), ("If-Match", "\"a\"")], Proceed, Proceed, Failed),
        (&[("If-Match", "W/\"a\"")], Failed, Failed, Failed),
        (&[("If-Match", "*")], Proceed, Proceed, Failed),
        (&[("If-None-Match", "\"a\"")], NotModified, Failed, Proceed),
        (&[("If-None-Match", "W/\"a\"")], NotModified, Failed, Proceed),
        (&[("If-None-Match", "\"b\"")], Proceed, Proceed, Proceed),
        (&[("If-None-Match", "*")], NotModified, Failed, Proceed),
        (&[("If-Modified-Since", DATE)], NotModified, Proceed, Proceed),
        (&[("If-Modified-Since", NEW)], NotModified, Proceed, Proceed),
        (&[("If-Modified-Since", OLD)], Proceed, Proceed, Proceed),
        (&[("If-Modified-Since", "yesterday")], Proceed, Proceed, Proceed),
        (&[("If-Unmodified-Since", DATE)], Proceed, Proceed, Failed),
        (&[("If-Unmodified-Since", OLD)], Failed, Failed, Failed),
        (&[("If-Unmodified-Since", OLD), ("If-Match", "\"a\"")], Proceed, Proceed, Failed),
        (&[("If-Modified-Since", NEW), ("If-None-Match", "\"b\"")], Proceed, Proceed, Proceed),
        (&[("If-Match", "\"a\""), ("If-None-Match", "\"a\"")], NotModified, Failed, Failed),
        (&[("If-Match", "\"b\""), ("If-None-Match", "\"a\"")], Failed, Failed, Failed),
    ] {
        assert_eq!(decide(fields, true, true), get, "GET {fields:?}");
        assert_eq!(decide(fields, false, true), put, "PUT {fields:?}");
        assert_eq!(decide(fields, false, false), put_new, "PUT of a new file {fields:?}");
    }
}

#[test]
fn fractions_of_a_second_do_not_count() {
    let later = date::parse(DATE).map(|time| time + std::time::Duration::from_millis(900));
    let state = CurrentState { exists: true, tag: None, modified: later };
    let conditions = Preconditions::parse(&headers(&[("If-Modified-Since", DATE)])).unwrap();
    assert_eq!(conditions.evaluate(true, state), Decision::NotModified);
}

#[test]
fn malformed_lists_are_rejected() {
    for value in ["", ",", "a", "\"a\" \"b\"", "\"a\", b", "*, \"a\"", "\"a\", *", "\"a"] {
        assert!(Preconditions::parse(&headers(&[("If-Match", value)])).is_err(), "{value}");
    }
    let many: &'static str = "\"a\",".repeat(limits::LIST + 1).leak();
    assert!(Preconditions::parse(&headers(&[("If-None-Match", many)])).is_err());
    let commas = headers(&[("If-Match", "\"a,b\", , \"c\"")]);
    let tags = TagList::Tags(vec![EntityTag::strong("a,b"), EntityTag::strong("c")]);
    assert_eq!(Preconditions::parse(&commas).unwrap().if_match, Some(tags));
}

#[test]
fn ranges_need_the_current_strong_tag() {
    let tag = EntityTag::strong("a");
    for (value, applies) in
        [("\"a\"", true), ("\"b\"", false), ("W/\"a\"", false), (DATE, false), ("", false)]
    {
        let headers = headers(&[("If-Range", value)]);
        assert_eq!(range_applies(&headers, Some(&tag)), applies, "{value}");
        assert!(!range_applies(&headers, None));
    }
    assert!(range_applies(&Headers::default(), None));
    assert!(!range_applies(&headers(&[("If-Range", "W/\"a\"")]), Some(&EntityTag::weak("a"))));
}
