//! Bodies and headers as tables.

use relais_http::Status;
use relais_proto::{PropertyName, limits};

use crate::limits::PROPERTIES_MAX;
use crate::*;

fn name(namespace: &str, local: &str) -> PropertyName {
    PropertyName { namespace: namespace.to_owned(), local: local.to_owned() }
}

#[test]
fn propfind_asks_for_all_names_or_some() {
    let all = |include: &[PropertyName]| PropFind::All { include: include.to_vec() };
    let (tag, x) = (name(DAV, "getetag"), name("urn:x", "x"));
    for (body, expected) in [
        ("", Ok(all(&[]))),
        ("<propfind xmlns='DAV:'><allprop/></propfind>", Ok(all(&[]))),
        (
            "<D:propfind xmlns:D='DAV:'><D:include><x xmlns='urn:x'/></D:include><D:allprop/>\
             </D:propfind>",
            Ok(all(std::slice::from_ref(&x))),
        ),
        ("<propfind xmlns='DAV:'><propname/></propfind>", Ok(PropFind::Names)),
        (
            "<propfind xmlns='DAV:'><prop><getetag/><x xmlns='urn:x'/><getetag/></prop></propfind>",
            Ok(PropFind::Named(vec![tag, x])),
        ),
        (
            "<propfind xmlns='DAV:'><prop/><e xmlns='urn:e'/></propfind>",
            Ok(PropFind::Named(vec![])),
        ),
        ("<propfind xmlns='DAV:'/>", Err(400)),
        ("<propfind xmlns='DAV:'><prop/><prop/></propfind>", Err(400)),
        ("<propfind xmlns='DAV:'><prop/><propname/></propfind>", Err(400)),
        ("<propfind xmlns='DAV:'><allprop/><propname/></propfind>", Err(400)),
        ("<propfind><allprop/></propfind>", Err(400)),
        ("<D:propfind xmlns:D='DAV:'><D:prop><b:f xmlns:b=''/></D:prop></D:propfind>", Err(400)),
        ("<foo>", Err(400)),
    ] {
        let found = PropFind::parse(body.as_bytes()).map_err(|error| error.status.code());
        assert_eq!(found, expected, "{body}");
    }
}

#[test]
fn property_updates_keep_the_order_of_the_document() {
    let body = "<D:propertyupdate xmlns:D='DAV:' xmlns:z='urn:z'>\
        <D:remove><D:prop><z:a/></D:prop></D:remove>\
        <D:set><D:prop xml:lang='fr'><z:b>é<D:i/></z:b><c/></D:prop></D:set>\
        <unknown/><D:remove><D:prop><z:b/></D:prop></D:remove></D:propertyupdate>";
    let set = |name, xml: &str, text: &str| Instruction::Set {
        name,
        xml: xml.to_owned(),
        text: text.to_owned(),
    };
    let b = "<z:b xml:lang=\"fr\" xmlns:D=\"DAV:\" xmlns:z=\"urn:z\">é<D:i/></z:b>";
    let expected = [
        Instruction::Remove(name("urn:z", "a")),
        set(name("urn:z", "b"), b, "é"),
        set(name("", "c"), "<c xml:lang=\"fr\"/>", ""),
        Instruction::Remove(name("urn:z", "b")),
    ];
    assert_eq!(PropertyUpdate::parse(body.as_bytes()).unwrap().instructions, expected);
}

#[test]
fn property_updates_have_caps() {
    let update = |inner: &str| {
        let body = format!(
            "<propertyupdate xmlns='DAV:'><set><prop>{inner}</prop></set></propertyupdate>"
        );
        PropertyUpdate::parse(body.as_bytes()).map(|update| update.instructions.len())
    };
    let property = |bytes: usize| format!("<a xmlns='x'>{}</a>", "v".repeat(bytes));
    for (inner, expected) in [
        ("<a/>".repeat(PROPERTIES_MAX), Ok(PROPERTIES_MAX)),
        ("<a/>".repeat(PROPERTIES_MAX + 1), Err(413)),
        (property(limits::PROPERTY_VALUE - 20), Ok(1)),
        (property(limits::PROPERTY_VALUE), Err(413)),
        // Each greater-than sign becomes four bytes.
        (format!("<a>{}</a>", ">".repeat(limits::PROPERTY_VALUE / 4)), Err(413)),
        (String::new(), Err(400)),
    ] {
        assert_eq!(update(&inner).map_err(|error| error.status.code()), expected);
    }
    assert_eq!(PropertyUpdate::parse(b"").unwrap_err().status.code(), 400);
    assert_eq!(PropertyUpdate::parse(b"<propfind xmlns='DAV:'/>").unwrap_err().status.code(), 400);
}

#[test]
fn lock_bodies_give_scope_and_owner() {
    let lock = |scope: &str, kind: &str, owner: &str| {
        format!(
            "<D:lockinfo xmlns:D='DAV:'><D:lockscope><D:{scope}/></D:lockscope>\
             <D:locktype><D:{kind}/></D:locktype>{owner}</D:lockinfo>"
        )
    };
    let info = |scope, owner: &str| Ok(Some(LockInfo { scope, owner: owner.to_owned() }));
    let owner = "<D:owner><D:href>mailto:a</D:href></D:owner>";
    let kept = "<D:owner xmlns:D=\"DAV:\"><D:href>mailto:a</D:href></D:owner>";
    let long = format!("<D:owner>{}</D:owner>", "x".repeat(limits::LOCK_OWNER));
    for (body, expected) in [
        (String::new(), Ok(None)),
        (lock("exclusive", "write", owner), info(LockScope::Exclusive, kept)),
        (lock("shared", "write", ""), info(LockScope::Shared, "")),
        (lock("other", "write", ""), Err(422)),
        (lock("shared", "read", ""), Err(422)),
        (lock("shared", "write", &long), Err(413)),
        ("<lockinfo xmlns='DAV:'><locktype><write/></locktype></lockinfo>".to_owned(), Err(400)),
        ("<lockinfo xmlns='DAV:'/>".to_owned(), Err(400)),
        ("<lock xmlns='DAV:'/>".to_owned(), Err(400)),
    ] {
        assert_eq!(
            LockInfo::parse(body.as_bytes()).map_err(|e| e.status.code()),
            expected,
            "{body}"
        );
    }
}

#[test]
fn headers_are_read() {
    for (text, expected) in [
        (None, Ok(Depth::Infinity)),
        (Some("0"), Ok(Depth::Zero)),
        (Some(" 1 "), Ok(Depth::One)),
        (Some("Infinity"), Ok(Depth::Infinity)),
        (Some("2"), Err(400)),
        (Some(""), Err(400)),
    ] {
        assert_eq!(depth(text).map_err(|error| error.status.code()), expected, "{text:?}");
    }
    for (text, expected) in
        [(None, Ok(true)), (Some("T"), Ok(true)), (Some("F"), Ok(false)), (Some("x"), Err(400))]
    {
        assert_eq!(overwrite(text).map_err(|error| error.status.code()), expected, "{text:?}");
    }
    for (text, expected) in [
        (Some("<urn:uuid:1>"), Ok("urn:uuid:1")),
        (Some("urn:uuid:1"), Err(400)),
        (Some("<>"), Err(400)),
        (Some("<a> <b>"), Err(400)),
        (None, Err(400)),
    ] {
        assert_eq!(lock_token(text).map_err(|error| error.status.code()), expected, "{text:?}");
    }
}

#[test]
fn time_outs_are_capped() {
    for (text, expected) in [
        (None, 3600),
        (Some("Second-10"), 10),
        (Some("second-10"), 10),
        (Some("Infinite, Second-10"), 3600),
        (Some("Extend, Second-20, Infinite"), 20),
        (Some("Second-0"), 1),
        (Some("Second-4100000000"), 3600),
        (Some("Second-99999999999999999999999999"), 3600),
        (Some("Second--1"), 3600),
        (Some("Second-"), 3600),
        (Some("Second-é"), 3600),
        (Some("é"), 3600),
    ] {
        assert_eq!(timeout(text, 3600), expected, "{text:?}");
    }
}

#[test]
fn multistatus_is_written_in_parts() {
    let mut body = Multistatus::new();
    let head = String::from_utf8(body.take()).unwrap();
    assert!(head.ends_with("<D:multistatus xmlns:D=\"DAV:\">\n"), "{head}");
    let elements = [LiveProperty::ContentLength.element("5"), "<x xmlns=\"urn:x\"/>".to_owned()];
    let (missing, foreign) = (name(DAV, "getetag"), name("a\"b", "c"));
    let found =
        PropertyStatus { status: Status::OK, elements: &elements, names: &[], condition: None };
    let names = [&missing, &foreign];
    let lost = PropertyStatus {
        status: Status::FORBIDDEN,
        elements: &[],
        names: &names,
        condition: Some(Condition::CannotModifyProtectedProperty),
    };
    body.properties("/a%20b&c", &[found, lost]);
    assert_eq!(
        String::from_utf8(body.take()).unwrap(),
        "<D:response><D:href>/a%20b&amp;c</D:href><D:propstat><D:prop>\
         <D:getcontentlength>5</D:getcontentlength><x xmlns=\"urn:x\"/></D:prop>\
         <D:status>HTTP/1.1 200 OK</D:status></D:propstat><D:propstat><D:prop><D:getetag/>\
         <c xmlns=\"a&quot;b\"/></D:prop><D:status>HTTP/1.1 403 Forbidden</D:status><D:error>\
         <D:cannot-modify-protected-property/></D:error></D:propstat></D:response>\n"
    );
    assert_eq!(body.pending(), 0);
    body.status("/x", Status::LOCKED, Some(Condition::LockTokenSubmitted));
    assert_eq!(
        String::from_utf8(body.finish()).unwrap(),
        "<D:response><D:href>/x</D:href><D:status>HTTP/1.1 423 Locked</D:status><D:error>\
         <D:lock-token-submitted/></D:error></D:response>\n</D:multistatus>\n"
    );
}

#[test]
fn locks_and_errors_are_well_formed() {
    let lock = ActiveLock {
        scope: LockScope::Exclusive,
        depth: LockDepth::Infinity,
        owner: "<D:owner xmlns:D=\"DAV:\">a</D:owner>".to_owned(),
        seconds: 60,
        token: Some("urn:uuid:1".to_owned()),
        root: "/a%20b".to_owned(),
    };
    let text = lock_response(&lock);
    let root = crate::xml::parse::parse(text.as_bytes()).unwrap();
    let active = root.dav_child("lockdiscovery").unwrap().dav_child("activelock").unwrap();
    let text_of = |name: &str| active.dav_child(name).unwrap().text();
    assert_eq!((text_of("depth"), text_of("timeout")), ("infinity".into(), "Second-60".into()));
    let href = |name: &str| active.dav_child(name).unwrap().dav_child("href").unwrap().text();
    assert_eq!((href("locktoken"), href("lockroot")), ("urn:uuid:1".into(), "/a%20b".into()));
    let error = error_body(Condition::LockTokenSubmitted, &["/a&b"]);
    let error = crate::xml::parse::parse(error.as_bytes()).unwrap();
    assert_eq!(
        error.dav_child("lock-token-submitted").unwrap().dav_child("href").unwrap().text(),
        "/a&b"
    );
}
