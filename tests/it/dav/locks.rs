//! A lock on one slave rejects writers of all protocols on another, and survives restarts.

use nix::sys::signal::Signal;

use super::{DavClient, http_address, lock_body, start, start_cluster};
use crate::cluster::helpers::wait_settled;
use crate::ftp::{FtpTestClient, ftp_address};
use crate::harness::{SOON, eventually};

/// Waits until a slave shows a lock on a path, or none.
#[track_caller]
fn wait_lock(client: &DavClient, path: &str, token: &str, is_there: bool) {
    let body = "<propfind xmlns='DAV:'><prop><lockdiscovery/></prop></propfind>";
    eventually(SOON, "the lock is known", || {
        let reply = client.request("PROPFIND", path, &["Depth: 0"], body);
        (reply.status == 207 && reply.body.contains(token) == is_there).then_some(())
    });
}

#[test]
fn a_lock_holds_on_all_slaves_and_protocols() {
    let (cluster, [a, b]) = start_cluster(&[("docs/f", b"old")]);
    wait_settled(&cluster);
    let token = a.lock("/docs/f", "0");
    wait_lock(&b, "/docs/f", &token, true);
    // HTTP: no write without the token, by any method.
    let reply = b.expect(423, "PUT", "/docs/f", &[], "new");
    assert!(!reply.body.is_empty());
    b.expect(423, "DELETE", "/docs/f", &[], "");
    b.expect(423, "MOVE", "/docs/f", &["Destination: /g"], "");
    b.expect(423, "PROPPATCH", "/docs/f", &[], PROPERTY);
    b.expect(423, "LOCK", "/docs/f", &[], &lock_body("exclusive"));
    b.expect(423, "DELETE", "/docs/", &[], "");
    // FTP.
    let mut ftp = FtpTestClient::anonymous(ftp_address(&cluster.slaves[1].program, "ftp"));
    ftp.expect("DELE docs/f", 450);
    let _data = ftp.passive();
    ftp.expect("STOR docs/f", 450);
    // Natively.
    let output = cluster.client().command("rm docs/f");
    assert!(output.stdout.contains("\"locked\"") && output.status != 0, "{output:?}");
    // With the token each of them writes, also through the other slave.
    let condition = format!("If: (<{token}>)");
    b.expect(204, "PUT", "/docs/f", &[&condition], "new");
    assert_eq!(a.expect(200, "GET", "/docs/f", &[], "").body, "new");
    b.expect(204, "UNLOCK", "/docs/f", &[&format!("Lock-Token: <{token}>")], "");
    wait_lock(&a, "/docs/f", &token, false);
    a.expect(204, "PUT", "/docs/f", &[], "newer");
}

/// A body that sets a property.
const PROPERTY: &str = "<propertyupdate xmlns='DAV:'><set><prop><a xmlns='urn:x'>1</a></prop></set>\
     </propertyupdate>";

#[test]
fn locks_and_properties_survive_restarts() {
    let (mut cluster, [a, _]) = start_cluster(&[("f", b"old")]);
    wait_settled(&cluster);
    let token = a.lock("/f", "0");
    a.expect(207, "PROPPATCH", "/f", &[&format!("If: (<{token}>)")], PROPERTY);
    wait_settled(&cluster);
    for n in 0..2 {
        cluster.slaves[n].program.stop(Signal::SIGTERM);
    }
    cluster.master.stop(Signal::SIGTERM);
    cluster.restart_master();
    for n in 0..2 {
        cluster.restart_slave(n);
    }
    cluster.wait_in_service(2);
    for n in 0..2 {
        let client = DavClient::new(http_address(&cluster, n));
        wait_lock(&client, "/f", &token, true);
        assert_eq!(client.property("/f", "a").as_deref(), Some("1"));
        client.expect(423, "PUT", "/f", &[], "new");
    }
}

#[test]
fn a_standalone_slave_keeps_locks_and_properties() {
    let (mut slave, client) = start(&[("f", b"old")]);
    let token = client.lock("/f", "infinity");
    let condition = format!("If: (<{token}>)");
    client.expect(207, "PROPPATCH", "/f", &[&condition], PROPERTY);
    slave.program.kill();
    slave.restart();
    let client = DavClient::new(ftp_address(&slave.program, "http"));
    assert_eq!(client.property("/f", "a").as_deref(), Some("1"));
    client.expect(423, "DELETE", "/f", &[], "");
    client.expect(204, "DELETE", "/f", &[&condition], "");
    client.expect(201, "PUT", "/f", &[], "another");
    assert_eq!(client.property("/f", "a"), None);
}

#[test]
fn locks_of_a_folder_cover_what_is_below() {
    let (_slave, client) = start(&[("docs/f", b"old"), ("free", b"")]);
    let token = client.lock("/docs/", "infinity");
    let condition = format!("If: (<{token}>)");
    client.expect(423, "PUT", "/docs/new", &[], "x");
    client.expect(423, "MKCOL", "/docs/folder", &[], "");
    client.expect(423, "MOVE", "/free", &["Destination: /docs/free"], "");
    client.expect(423, "COPY", "/free", &["Destination: /docs/free"], "");
    client.expect(423, "LOCK", "/docs/f", &[], &lock_body("shared"));
    client.expect(412, "PUT", "/docs/new", &["If: (<urn:uuid:0-0>)"], "x");
    client.expect(412, "PUT", "/free", &[&condition], "x");
    client.expect(201, "PUT", "/docs/new", &[&format!("If: </docs/> (<{token}>)")], "x");
    client.expect(201, "MKCOL", "/docs/folder", &[&condition], "");
    let refreshed = client.expect(200, "LOCK", "/docs/f", &[&condition, "Timeout: Second-50"], "");
    assert_eq!(refreshed.element("timeout"), "Second-50");
    assert!(refreshed.element("lockroot").contains("/docs/"), "{refreshed:?}");
    client.expect(409, "UNLOCK", "/free", &[&format!("Lock-Token: <{token}>")], "");
    client.expect(204, "UNLOCK", "/docs/f", &[&format!("Lock-Token: <{token}>")], "");
    client.expect(204, "DELETE", "/docs/", &[], "");
}

#[test]
fn locks_below_a_folder_are_named() {
    let (_slave, client) = start(&[("docs/f", b"old"), ("docs/g", b"old"), ("docs/h", b"old")]);
    client.lock("/docs/f", "0");
    client.lock("/docs/g", "0");
    // These do not conflict with a shared lock of all.
    for (path, depth) in [("/docs/h", "Depth: 0"), ("/docs/", "Depth: 0")] {
        client.expect(200, "LOCK", path, &[depth], &lock_body("shared"));
    }
    let reply = client.expect(207, "LOCK", "/docs/", &[], &lock_body("shared"));
    for named in ["<D:href>/docs/f</D:href>", "<D:href>/docs/g</D:href>", "424 Failed Dependency"] {
        assert!(reply.body.contains(named), "{reply:?}");
    }
    assert!(!reply.body.contains("/docs/h"), "{reply:?}");
    // A lock of the folder itself comes first.
    let reply = client.expect(423, "LOCK", "/docs/", &[], &lock_body("exclusive"));
    let named = "<D:no-conflicting-lock><D:href>/docs/</D:href></D:no-conflicting-lock>";
    assert!(reply.body.contains(named), "{reply:?}");
    client.expect(423, "LOCK", "/docs/", &["Depth: 0"], &lock_body("exclusive"));
}

#[test]
fn a_lock_makes_an_empty_file_and_ends_by_itself() {
    let (_slave, client) = start(&[]);
    let fields = ["Timeout: Second-2"];
    let reply = client.expect(201, "LOCK", "/new", &fields, &lock_body("exclusive"));
    assert_eq!(reply.element("depth"), "infinity");
    assert_eq!(client.expect(200, "GET", "/new", &[], "").body, "");
    client.expect(423, "PUT", "/new", &[], "x");
    eventually(SOON, "the lock ends", || {
        (client.request("PUT", "/new", &[], "x").status == 204).then_some(())
    });
    client.expect(409, "LOCK", "/no/parent", &[], &lock_body("exclusive"));
    let long = client.expect(201, "LOCK", "/b", &["Timeout: Infinite"], &lock_body("shared"));
    assert_eq!(long.element("timeout"), "Second-3600");
}

#[test]
fn shared_locks_exclude_writers_without_a_token() {
    let (_slave, client) = start(&[("f", b"old")]);
    let lock = || {
        let reply = client.expect(200, "LOCK", "/f", &[], &lock_body("shared"));
        reply.header("lock-token").to_owned()
    };
    let tokens = [lock(), lock()];
    assert_ne!(tokens[0], tokens[1]);
    client.expect(423, "LOCK", "/f", &[], &lock_body("exclusive"));
    client.expect(423, "PUT", "/f", &[], "x");
    client.expect(204, "PUT", "/f", &[&format!("If: ({})", tokens[1])], "x");
}

#[test]
fn refusals_of_all_methods_name_the_lock() {
    let (_slave, client) = start(&[("docs/f", b"old"), ("free/x", b""), ("lone", b"")]);
    client.lock("/docs/f", "0");
    client.lock("/free/", "0");
    let refused = |method, path, fields: &[&str], body, lock: &str| {
        let reply = client.expect(423, method, path, fields, body);
        let named = format!("<D:lock-token-submitted><D:href>{lock}</D:href></D:lock-token");
        assert!(reply.body.contains(&named), "{method} {path}: {reply:?}");
        assert_eq!(reply.header("content-type"), "application/xml; charset=utf-8");
    };
    let (long, lock) = ("x".repeat(100_000), lock_body("exclusive"));
    refused("PUT", "/docs/f", &[], "new", "/docs/f");
    refused("PUT", "/docs/f", &[], &long, "/docs/f");
    refused("PUT", "/free/new", &[], "new", "/free/");
    refused("DELETE", "/docs/f", &[], "", "/docs/f");
    refused("DELETE", "/docs/", &[], "", "/docs/f");
    refused("MOVE", "/docs", &["Destination: /other"], "", "/docs/f");
    refused("MOVE", "/lone", &["Destination: /docs/f"], "", "/docs/f");
    refused("COPY", "/lone", &["Destination: /free/new"], "", "/free/");
    refused("MKCOL", "/free/new", &[], "", "/free/");
    refused("LOCK", "/free/new", &[], &lock, "/free/");
    refused("PROPPATCH", "/docs/f", &[], PROPERTY, "/docs/f");
    let json = client.expect(423, "DELETE", "/docs/f", &["Accept: application/json"], "");
    assert!(json.body.contains("\"locked\""), "{json:?}");
    // The lock that the client asks to end is not that of the path.
    let unknown = "Lock-Token: <urn:uuid:00112233-4455-6677-8899-aabbccddeeff>";
    for field in [unknown, "Lock-Token: <opaquelocktoken:x>"] {
        let reply = client.expect(409, "UNLOCK", "/docs/f", &[field], "");
        assert!(reply.body.contains("<D:lock-token-matches-request-uri/>"), "{reply:?}");
    }
}

#[test]
fn parts_of_an_upload_need_the_lock_of_its_file() {
    let (slave, client) = start(&[("f", b"old")]);
    let fields = ["Upload-Complete: ?0", "Upload-Length: 3"];
    let begin =
        |fields: &[&str]| client.expect(201, "PUT", "/f", fields, "").header("location").to_owned();
    let (url, other) = (begin(&fields), begin(&fields));
    let token = client.lock("/f", "0");
    let part =
        ["Content-Type: application/partial-upload", "Upload-Offset: 0", "Upload-Complete: ?1"];
    let with = |field: &str| -> Vec<String> {
        part.iter().map(|part| (*part).to_owned()).chain([field.to_owned()]).collect()
    };
    let append = |url: &str, status, field: &str| {
        let fields = with(field);
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        client.expect(status, "PATCH", url, &fields, "new")
    };
    let refused = append(&other, 423, "X: y");
    assert!(refused.body.contains("<D:href>/f</D:href>"), "{refused:?}");
    append(&url, 412, "If: (<urn:uuid:00112233-4455-6677-8899-aabbccddeeff>)");
    assert_eq!(std::fs::read(slave.root.join("f")).unwrap(), b"old");
    append(&url, 204, &format!("If: (<{token}>)"));
    assert_eq!(std::fs::read(slave.root.join("f")).unwrap(), b"new");
}

#[test]
fn a_move_that_a_lock_forbids_keeps_its_target() {
    let files: [(&str, &[u8]); 3] = [("docs/f", b"old"), ("other/x", b"x"), ("g", b"")];
    let (slave, client) = start(&files);
    client.lock("/docs/f", "0");
    client.expect(423, "MOVE", "/docs/", &["Destination: /other/"], "");
    assert!(slave.root.join("other/x").exists());
    client.expect(204, "MOVE", "/g", &["Destination: /other/"], "");
    assert!(slave.root.join("other").is_file());
}
