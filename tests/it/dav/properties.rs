//! Dead and live properties: set, moved, copied, removed, refused.

use super::start;
use crate::harness::{SOON, eventually};

/// Returns a PROPPATCH body that sets elements.
fn set(elements: &str) -> String {
    format!(
        "<D:propertyupdate xmlns:D='DAV:'><D:set><D:prop>{elements}</D:prop></D:set>\
             </D:propertyupdate>"
    )
}

#[test]
fn properties_move_and_are_copied_with_their_resource() {
    let (_slave, client) = start(&[("f", b"x"), ("docs/inner/g", b"y")]);
    client.set_property("/f", "a", "1");
    client.set_property("/docs/", "a", "2");
    client.set_property("/docs/inner/g", "a", "3");
    client.expect(201, "COPY", "/f", &["Destination: /copy"], "");
    client.expect(201, "MOVE", "/f", &["Destination: /moved"], "");
    client.expect(201, "COPY", "/docs/", &["Destination: /docs2/"], "");
    client.expect(201, "MOVE", "/docs/", &["Destination: /docs3/"], "");
    for (path, value) in [
        ("/copy", "1"),
        ("/moved", "1"),
        ("/docs2/", "2"),
        ("/docs2/inner/g", "3"),
        ("/docs3/", "2"),
        ("/docs3/inner/g", "3"),
    ] {
        assert_eq!(client.property(path, "a").as_deref(), Some(value), "{path}");
    }
    // A copy over a file has the properties of its source alone.
    client.set_property("/copy", "b", "4");
    client.expect(204, "COPY", "/docs3/inner/g", &["Destination: /copy"], "");
    assert_eq!(client.property("/copy", "a").as_deref(), Some("3"));
    assert_eq!(client.property("/copy", "b"), None);
    // New content keeps them, a new file has none.
    client.expect(204, "PUT", "/copy", &[], "new");
    assert_eq!(client.property("/copy", "a").as_deref(), Some("3"));
    client.expect(204, "DELETE", "/copy", &[], "");
    client.expect(201, "PUT", "/copy", &[], "new");
    assert_eq!(client.property("/copy", "a"), None);
}

#[test]
fn a_proppatch_is_made_as_a_whole() {
    let (_slave, client) = start(&[("f", b"x")]);
    let body = set("<a xmlns='urn:x'>1</a><D:getetag>\"no\"</D:getetag>");
    let reply = client.expect(207, "PROPPATCH", "/f", &[], &body);
    assert!(reply.body.contains("403 Forbidden"), "{reply:?}");
    assert!(reply.body.contains("<D:cannot-modify-protected-property/>"), "{reply:?}");
    assert!(reply.body.contains("424 Failed Dependency"), "{reply:?}");
    assert_eq!(client.property("/f", "a"), None);
    let large = set(&format!("<a xmlns='urn:x'>{}</a>", "v".repeat(40_000)));
    client.expect(413, "PROPPATCH", "/f", &[], &large);
    client.expect(404, "PROPPATCH", "/missing", &[], &set("<a xmlns='urn:x'/>"));
    client.expect(400, "PROPPATCH", "/f", &[], "<a>");
}

#[test]
fn properties_keep_their_namespaces_and_language() {
    let (_slave, client) = start(&[("f", b"x")]);
    let body = "<D:propertyupdate xmlns:D='DAV:' xmlns:q='urn:q' xml:lang='de'><D:set><D:prop>\
        <q:a><q:b c='&lt;'>t\u{e4}xt</q:b></q:a></D:prop></D:set></D:propertyupdate>";
    client.expect(207, "PROPPATCH", "/f", &[], body);
    let reply = client.expect(207, "PROPFIND", "/f", &["Depth: 0"], "");
    let expected = "<q:a xmlns:q=\"urn:q\" xml:lang=\"de\"><q:b c=\"&lt;\">t\u{e4}xt</q:b></q:a>";
    assert!(reply.body.contains(expected), "{reply:?}");
    let names = "<propfind xmlns='DAV:'><propname/></propfind>";
    let reply = client.expect(207, "PROPFIND", "/f", &["Depth: 0"], names);
    for name in ["<D:getcontentlength/>", "<D:lockdiscovery/>", "<a xmlns=\"urn:q\"/>"] {
        assert!(reply.body.contains(name), "{name}: {reply:?}");
    }
}

#[test]
fn windows_sets_the_time_of_a_file() {
    let (slave, client) = start(&[("f", b"x")]);
    let time = "Tue, 03 Mar 2020 10:20:30 GMT";
    let body = format!(
        "<?xml version=\"1.0\"?><D:propertyupdate xmlns:D=\"DAV:\" \
         xmlns:Z=\"urn:schemas-microsoft-com:\"><D:set><D:prop>\
         <Z:Win32CreationTime>{time}</Z:Win32CreationTime>\
         <Z:Win32LastModifiedTime>{time}</Z:Win32LastModifiedTime>\
         <Z:Win32FileAttributes>00000020</Z:Win32FileAttributes></D:prop></D:set>\
         </D:propertyupdate>"
    );
    let reply = client.expect(207, "PROPPATCH", "/f", &[], &body);
    assert!(reply.body.contains("200 OK") && !reply.body.contains(" 4"), "{reply:?}");
    let reply = client.expect(207, "PROPFIND", "/f", &["Depth: 0"], "");
    assert_eq!(reply.element("getlastmodified"), time);
    let written = std::fs::metadata(slave.root.join("f")).unwrap().modified().unwrap();
    let seconds = written.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(seconds, 1_583_230_830);
}

#[test]
fn folders_tell_their_space() {
    let (_slave, client) = start(&[("docs/f", &[7; 5000])]);
    let body = "<propfind xmlns='DAV:'><prop><quota-available-bytes/><quota-used-bytes/></prop>\
                </propfind>";
    let reply = eventually(SOON, "the files are counted", || {
        let reply = client.expect(207, "PROPFIND", "/docs/", &["Depth: 0"], body);
        (reply.element("quota-used-bytes").parse::<u64>().unwrap() >= 5000).then_some(reply)
    });
    assert!(reply.element("quota-available-bytes").parse::<u64>().unwrap() > 0);
    let reply = client.expect(207, "PROPFIND", "/docs/f", &["Depth: 0"], body);
    assert!(reply.body.contains("404 Not Found"), "{reply:?}");
}
