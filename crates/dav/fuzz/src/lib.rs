//! What must hold for any bytes: the bodies of the fuzz targets.
//!
//! The same functions run on a stable compiler: `crates/dav/tests/corpus.rs` includes this file and
//! feeds it the corpus and inputs made from it. Each function takes any bytes and panics where a
//! promise of `relais-dav` is broken. Nothing here may depend on libFuzzer, on time or on chance.

use relais_dav::{
    IfHeader, Instruction, LockInfo, Multistatus, PropFind, PropertyStatus, PropertyUpdate,
    ResourceState, limits,
};
use relais_proto::PropertyName;

/// A body, read as that of each method that has one.
pub fn propfind(data: &[u8]) {
    match PropFind::parse(data) {
        Ok(PropFind::All { include: names } | PropFind::Named(names)) => answer(&names, &[]),
        Ok(PropFind::Names) | Err(_) => {}
    }
    if let Ok(Some(lock)) = LockInfo::parse(data) {
        assert!(lock.owner.len() <= relais_proto::limits::LOCK_OWNER);
        assert!(lock.owner.is_empty() || set(&lock.owner).is_some());
    }
    let Ok(update) = PropertyUpdate::parse(data) else { return };
    assert!((1..=limits::PROPERTIES_MAX).contains(&update.instructions.len()));
    for instruction in &update.instructions {
        let Instruction::Set { name, xml, text } = instruction else { continue };
        assert!(xml.len() <= relais_proto::limits::PROPERTY_VALUE);
        // A stored property has the same name and text in any other document.
        let again = set(xml).expect("a fragment is well-formed");
        assert_eq!((&again.0, &again.1), (name, text));
        answer(&[], std::slice::from_ref(xml));
    }
}

/// Reads a fragment as a property that is set; returns its name and text.
fn set(xml: &str) -> Option<(PropertyName, String)> {
    let body = format!(
        "<D:propertyupdate xmlns:D='DAV:'><D:set><D:prop>{xml}</D:prop></D:set></D:propertyupdate>"
    );
    let mut instructions = PropertyUpdate::parse(body.as_bytes()).ok()?.instructions;
    match instructions.pop() {
        Some(Instruction::Set { name, text, .. }) if instructions.is_empty() => Some((name, text)),
        _ => None,
    }
}

/// An answer with these names and elements is well-formed, and has the names.
fn answer(names: &[PropertyName], elements: &[String]) {
    let names: Vec<&PropertyName> = names.iter().collect();
    let ok = relais_http::Status::OK;
    let status = PropertyStatus { elements, names: &names, ..PropertyStatus::new(ok) };
    let mut body = Multistatus::new();
    body.properties("/a&<>\"", &[status]);
    let body = String::from_utf8(body.finish()).expect("an answer is UTF-8");
    let (_, prop) = body.split_once("<D:prop>").expect("an answer has properties");
    let (prop, _) = prop.rsplit_once("</D:prop>").expect("an answer has properties");
    let asked = format!("<D:propfind xmlns:D='DAV:'><D:prop>{prop}</D:prop></D:propfind>");
    if asked.len() > limits::BODY_MAX {
        return;
    }
    match PropFind::parse(asked.as_bytes()) {
        Ok(PropFind::Named(read)) => assert!(names.is_empty() || read.iter().eq(names)),
        other => panic!("{other:?}"),
    }
}

/// A header, read as each of those that WebDAV adds.
pub fn if_header(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = (relais_dav::depth(Some(text)), relais_dav::overwrite(Some(text)));
    assert!((1..=60).contains(&relais_dav::timeout(Some(text), 60)));
    if let Ok(token) = relais_dav::lock_token(Some(text)) {
        assert!(text.contains(token) && !token.is_empty());
    }
    let Ok(header) = IfHeader::parse(text) else { return };
    for token in header.submitted_tokens() {
        assert!(text.contains(token) && !token.is_empty());
    }
    assert!(header.submitted_tokens().count() <= limits::CONDITIONS_MAX);
    let state = ResourceState {
        entity_tag: None,
        lock_tokens: header.submitted_tokens().map(str::to_owned).collect(),
    };
    let holds: Result<bool, ()> = header.holds(|_| Ok(state.clone()));
    let failed: Result<bool, u8> = header.holds(|_| Err(1));
    assert!(holds.is_ok() && failed == Err(1));
}
