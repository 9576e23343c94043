//! PROPFIND, MKCOL, COPY and MOVE, and what they refuse.

use super::start;

/// Returns the paths that a PROPFIND answer names.
fn paths(body: &str) -> Vec<&str> {
    let hrefs = body.split("<D:response><D:href>").skip(1);
    hrefs.map(|rest| rest.split_once('<').unwrap().0).collect()
}

#[test]
fn options_tell_the_classes() {
    let (_slave, client) = start(&[("f", b"x")]);
    for path in ["/", "/f", "/missing", "*"] {
        let reply = client.request("OPTIONS", path, &[], "");
        assert!([200, 204].contains(&reply.status), "{path}: {reply:?}");
        assert_eq!(reply.header("dav"), "1, 2", "{path}");
        assert_eq!(reply.header("ms-author-via"), "DAV", "{path}");
        for method in ["PROPFIND", "LOCK", "PUT", "GET"] {
            assert!(reply.header("allow").contains(method), "{path}: {reply:?}");
        }
    }
}

#[test]
fn propfind_lists_a_folder() {
    let files: [(&str, &[u8]); 3] =
        [("docs/a b", b"12345"), ("docs/sub/x", b""), ("docs/\u{fc}&", b"")];
    let (_slave, client) = start(&files);
    let reply = client.expect(207, "PROPFIND", "/docs/", &["Depth: 1"], "");
    let listed = paths(&reply.body);
    assert_eq!(listed, ["/docs/", "/docs/a%20b", "/docs/sub/", "/docs/%C3%BC%26"]);
    assert_eq!(reply.element("getcontentlength"), "5");
    assert!(reply.body.contains("<D:resourcetype><D:collection/></D:resourcetype>"), "{reply:?}");
    assert!(reply.body.contains("<D:displayname>\u{fc}&amp;</D:displayname>"), "{reply:?}");
    let reply = client.expect(207, "PROPFIND", "/docs", &["Depth: 0"], "");
    assert_eq!(paths(&reply.body), ["/docs/"]);
    let reply = client.expect(403, "PROPFIND", "/docs/", &[], "");
    assert!(reply.body.contains("<D:propfind-finite-depth/>"), "{reply:?}");
    client.expect(404, "PROPFIND", "/missing", &["Depth: 0"], "");
    client.expect(400, "PROPFIND", "/docs/", &["Depth: 2"], "");
    client.expect(400, "PROPFIND", "/docs/", &["Depth: 0"], "<foo>");
}

#[test]
fn hostile_bodies_are_refused() {
    let (_slave, client) = start(&[]);
    let laughs = "<!DOCTYPE l [<!ENTITY a \"lol\"><!ENTITY b \"&a;&a;&a;&a;\">]>\
        <D:propfind xmlns:D='DAV:'><D:prop><x>&b;</x></D:prop></D:propfind>";
    let external = "<!DOCTYPE l [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>\
        <D:propfind xmlns:D='DAV:'><D:prop><x>&a;</x></D:prop></D:propfind>";
    let deep = "<a>".repeat(10_000);
    for (body, status) in [(laughs, 400), (external, 400), (&*deep, 413)] {
        for method in ["PROPFIND", "PROPPATCH", "LOCK"] {
            let reply = client.expect(status, method, "/", &["Depth: 0"], body);
            assert!(!reply.body.contains("root:"), "{reply:?}");
        }
    }
    let large = format!("<propfind xmlns='DAV:'><prop>{}</prop></propfind>", " ".repeat(1 << 20));
    client.expect(413, "PROPFIND", "/", &["Depth: 0"], &large);
}

#[test]
fn mkcol_makes_one_folder() {
    let (slave, client) = start(&[("f", b"x")]);
    client.expect(201, "MKCOL", "/new/", &[], "");
    assert!(slave.root.join("new").is_dir());
    client.expect(405, "MKCOL", "/new/", &[], "");
    client.expect(405, "MKCOL", "/f", &[], "");
    client.expect(409, "MKCOL", "/no/new/", &[], "");
    client.expect(409, "MKCOL", "/f/new/", &[], "");
    client.expect(415, "MKCOL", "/other/", &["Content-Type: text/xml"], "<a/>");
    assert!(!slave.root.join("other").exists());
}

#[test]
fn targets_of_copy_and_move_are_checked() {
    let (slave, client) = start(&[("f", b"f"), ("g", b"g"), ("docs/x", b"x"), ("other/y", b"y")]);
    let host = client.addr.to_string();
    for method in ["COPY", "MOVE"] {
        for (target, fields, status) in [
            ("/f", "", 403),
            ("/g", "Overwrite: F", 412),
            ("/no/f", "", 409),
            ("http://elsewhere.example/h", "", 502),
            ("/-/h", "", 403),
            ("/a/../../h", "", 400),
            ("//h", "", 400),
            ("h", "", 400),
            ("", "", 400),
        ] {
            let destination = format!("Destination: {target}");
            let fields = [destination.as_str(), if fields.is_empty() { "X: y" } else { fields }];
            client.expect(status, method, "/f", &fields, "");
        }
        client.expect(403, method, "/docs/", &["Destination: /docs/inner/"], "");
        client.expect(403, method, "/docs/x", &["Destination: /docs"], "");
        client.expect(404, method, "/missing", &["Destination: /h"], "");
        client.expect(400, method, "/f", &[], "");
    }
    let absolute = format!("Destination: http://{host}/h%20i");
    client.expect(201, "COPY", "/f", &[&absolute], "");
    assert_eq!(std::fs::read(slave.root.join("h i")).unwrap(), b"f");
    client.expect(204, "MOVE", "/f", &["Destination: /g"], "");
    assert_eq!(std::fs::read(slave.root.join("g")).unwrap(), b"f");
    // A folder replaces a folder: nothing of the old one stays.
    client.expect(204, "COPY", "/docs/", &["Destination: /other/"], "");
    let names = || {
        let entries = std::fs::read_dir(slave.root.join("other")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["x"]);
    client.expect(204, "COPY", "/docs/", &["Destination: /other/", "Depth: 0"], "");
    assert!(names().is_empty());
    client.expect(204, "MOVE", "/g", &["Destination: /docs"], "");
    assert_eq!(std::fs::read(slave.root.join("docs")).unwrap(), b"f");
}

#[test]
fn a_folder_is_copied_but_for_what_is_locked() {
    let (_slave, client) = start(&[("docs/a", b"a"), ("docs/sub/b", b"b"), ("docs/sub/c", b"c")]);
    client.expect(201, "COPY", "/docs/", &["Destination: /copy/"], "");
    assert_eq!(client.expect(200, "GET", "/copy/sub/c", &[], "").body, "c");
    // The copy below a locked folder fails; the old copy is as it was.
    client.lock("/copy/sub/", "infinity");
    let reply = client.expect(423, "COPY", "/docs/", &["Destination: /copy/"], "");
    assert!(reply.body.contains("lock-token-submitted"), "{reply:?}");
    assert_eq!(client.expect(200, "GET", "/copy/a", &[], "").body, "a");
}

#[test]
fn a_folder_of_many_names_is_listed() {
    let names: Vec<String> = (0..1200).map(|n| format!("many/{n:04}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    let (_slave, client) = start(&files);
    let reply = client.expect(207, "PROPFIND", "/many/", &["Depth: 1"], "");
    let listed = paths(&reply.body);
    assert_eq!(listed.len(), 1201);
    assert!(listed[1..].is_sorted() && listed[1200] == "/many/1199");
    assert!(reply.body.ends_with("</D:multistatus>\n"));
}

#[test]
fn only_folders_have_a_depth() {
    let (slave, client) = start(&[("docs/f", b"f"), ("g", b"g"), ("h", b"h")]);
    for depth in ["Depth: 0", "Depth: 1"] {
        client.expect(400, "DELETE", "/docs/", &[depth], "");
        client.expect(400, "MOVE", "/docs/", &[depth, "Destination: /other"], "");
    }
    assert!(slave.root.join("docs/f").exists());
    client.expect(204, "DELETE", "/g", &["Depth: 0"], "");
    client.expect(201, "MOVE", "/h", &["Depth: 0", "Destination: /i"], "");
    client.expect(201, "MOVE", "/docs/", &["Depth: Infinity", "Destination: /other"], "");
    let token = client.lock("/i", "0");
    let refresh = [&format!("If: (<{token}>)")[..], "Depth: 1"];
    client.expect(200, "LOCK", "/i", &refresh, "");
}

#[test]
fn a_folder_is_copied_but_for_paths_that_are_too_long() {
    // A path has at most 4096 bytes, so what is deep fits no more below a longer name.
    let deep = vec!["x".repeat(240); 16].join("/");
    let file = format!("a/{deep}/f");
    let (slave, client) = start(&[(&file, b"f"), ("a/g", b"g")]);
    let long = "y".repeat(250);
    let reply = client.expect(207, "COPY", "/a/", &[&format!("Destination: /{long}")], "");
    let failed = format!("<D:href>/{long}/{deep}/</D:href><D:status>HTTP/1.1 409 Conflict");
    assert!(reply.body.contains(&failed), "{reply:?}");
    assert_eq!(paths(&reply.body).len(), 1, "{reply:?}");
    assert_eq!(std::fs::read(slave.root.join(&long).join("g")).unwrap(), b"g");
    // A removal and a move are one change: they are made as a whole, or not at all.
    client.lock(&format!("/{file}"), "0");
    for (method, field) in [("DELETE", "X: y"), ("MOVE", "Destination: /b")] {
        let reply = client.expect(423, method, "/a/", &[field], "");
        assert!(reply.body.contains(&format!("<D:href>/{file}</D:href>")), "{reply:?}");
        assert!(slave.root.join("a/g").exists() && !slave.root.join("b").exists());
    }
}
