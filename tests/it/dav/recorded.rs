//! The requests of clients that were not tried: Windows Explorer, macOS Finder and GNOME Files.
//!
//! Order and spelling of requests, header fields and bodies are those that these clients are known
//! to send.

use super::{DavClient, start};

/// Sends requests in turn, each with the status of its answer.
#[track_caller]
fn exchange(client: &DavClient, agent: &str, requests: &[(&str, &str, &[&str], &str, u16)]) {
    for (method, path, fields, body, status) in requests {
        let fields = [&[agent], *fields].concat();
        client.expect(*status, method, path, &fields, body);
    }
}

/// Returns the field that submits a token.
fn submit(token: &str) -> String {
    format!("If: (<{token}>)")
}

#[test]
fn windows_explorer_maps_a_drive_and_copies_a_file() {
    let (_slave, client) = start(&[("docs/old.txt", b"old")]);
    let agent = "User-Agent: Microsoft-WebDAV-MiniRedir/10.0.19045";
    let (zero, one) = (["Depth: 0", "translate: f"], ["Depth: 1", "translate: f"]);
    exchange(
        &client,
        agent,
        &[
            ("OPTIONS", "/", &["translate: f"], "", 200),
            ("PROPFIND", "/", &zero, "", 207),
            ("PROPFIND", "/", &one, "", 207),
            ("PROPFIND", "/docs", &zero, "", 207),
            ("PROPFIND", "/docs", &one, "", 207),
            ("PROPFIND", "/docs/new.txt", &zero, "", 404),
            ("PUT", "/docs/new.txt", &["translate: f"], "", 201),
        ],
    );
    let lock = "<?xml version=\"1.0\" encoding=\"utf-8\" ?><D:lockinfo xmlns:D=\"DAV:\">\
        <D:lockscope>\
        <D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype><D:owner>\
        <D:href>DESKTOP\\ann</D:href></D:owner></D:lockinfo>";
    let reply = client.expect(200, "LOCK", "/docs/new.txt", &[agent, "Timeout: Second-3600"], lock);
    let token = reply.header("lock-token").trim_matches(['<', '>']).to_owned();
    let times = "<?xml version=\"1.0\" encoding=\"utf-8\" ?><D:propertyupdate xmlns:D=\"DAV:\" \
        xmlns:Z=\"urn:schemas-microsoft-com:\"><D:set><D:prop>\
        <Z:Win32CreationTime>Mon, 02 Mar 2020 08:00:00 GMT</Z:Win32CreationTime>\
        <Z:Win32LastAccessTime>Mon, 02 Mar 2020 08:00:00 GMT</Z:Win32LastAccessTime>\
        <Z:Win32LastModifiedTime>Mon, 02 Mar 2020 08:00:00 GMT</Z:Win32LastModifiedTime>\
        <Z:Win32FileAttributes>00000020</Z:Win32FileAttributes></D:prop></D:set>\
        </D:propertyupdate>";
    let submitted = submit(&token);
    let unlock = format!("Lock-Token: <{token}>");
    exchange(
        &client,
        agent,
        &[
            ("PROPPATCH", "/docs/new.txt", &[&submitted], times, 207),
            ("HEAD", "/docs/new.txt", &["translate: f"], "", 200),
            ("PUT", "/docs/new.txt", &[&submitted], "content", 204),
            ("PROPPATCH", "/docs/new.txt", &[&submitted], times, 207),
            ("UNLOCK", "/docs/new.txt", &[&unlock], "", 204),
            ("PROPFIND", "/docs/new.txt", &zero, "", 207),
            ("GET", "/docs/new.txt", &["translate: f"], "", 200),
            ("MKCOL", "/New%20folder", &["translate: f"], "", 201),
            ("MOVE", "/New%20folder", &["Destination: /Pictures", "Overwrite: F"], "", 201),
            ("DELETE", "/docs/new.txt", &["translate: f"], "", 204),
        ],
    );
}

#[test]
fn macos_finder_copies_a_file() {
    let (_slave, client) = start(&[("Fotos/eins.jpg", b"jpeg")]);
    let agent = "User-Agent: WebDAVFS/3.0.0 (03008000) Darwin/20.6.0 (x86_64)";
    let zero = ["Depth: 0", "Content-Type: text/xml"];
    let find = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:propfind xmlns:D=\"DAV:\">\n\
        <D:prop>\n\
        <D:getlastmodified/>\n<D:getcontentlength/>\n<D:creationdate/>\n<D:resourcetype/>\n\
        </D:prop>\n\
        </D:propfind>\n";
    let quota = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:propfind xmlns:D=\"DAV:\">\n\
        <D:prop>\n\
        <D:quota-available-bytes/>\n<D:quota-used-bytes/>\n<D:quota/>\n<D:quotaused/>\n</D:prop>\n\
        </D:propfind>\n";
    exchange(
        &client,
        agent,
        &[
            ("OPTIONS", "/", &[], "", 200),
            ("PROPFIND", "/", &zero, find, 207),
            ("PROPFIND", "/", &zero, quota, 207),
            ("PROPFIND", "/", &["Depth: 1", "Content-Type: text/xml"], find, 207),
            ("PROPFIND", "/._.", &zero, find, 404),
            ("PROPFIND", "/.DS_Store", &zero, find, 404),
            ("PROPFIND", "/Fotos/zwei.jpg", &zero, find, 404),
            ("PUT", "/Fotos/zwei.jpg", &[], "", 201),
        ],
    );
    let lock = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:lockinfo xmlns:D=\"DAV:\">\n\
        <D:lockscope><D:exclusive/></D:lockscope>\n<D:locktype><D:write/></D:locktype>\n<D:owner>\n\
        <D:href>http://www.apple.com/webdav_fs/</D:href>\n</D:owner>\n</D:lockinfo>\n";
    let fields = [agent, "Depth: 0", "Timeout: Second-600", "Content-Type: text/xml"];
    let reply = client.expect(200, "LOCK", "/Fotos/zwei.jpg", &fields, lock);
    let token = reply.header("lock-token").trim_matches(['<', '>']).to_owned();
    let (submitted, unlock) = (submit(&token), format!("Lock-Token: <{token}>"));
    exchange(
        &client,
        agent,
        &[
            ("PUT", "/Fotos/zwei.jpg", &[&submitted], "jpeg too", 204),
            ("PROPFIND", "/Fotos/zwei.jpg", &zero, find, 207),
            ("LOCK", "/Fotos/zwei.jpg", &[&submitted, "Timeout: Second-600"], "", 200),
            ("UNLOCK", "/Fotos/zwei.jpg", &[&unlock], "", 204),
            ("PUT", "/Fotos/._zwei.jpg", &[], "attributes", 201),
            ("GET", "/Fotos/zwei.jpg", &["Range: bytes=0-3"], "", 206),
            ("MOVE", "/Fotos/zwei.jpg", &["Destination: /Fotos/drei.jpg"], "", 201),
            ("DELETE", "/Fotos/._zwei.jpg", &[], "", 204),
        ],
    );
}

#[test]
fn gnome_files_browses_and_writes() {
    let (_slave, client) = start(&[("docs/one.txt", b"one")]);
    let agent = "User-Agent: gvfs/1.50.3";
    let find = "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n <D:propfind xmlns:D=\"DAV:\">\n  \
        <D:prop>\n\
        <D:creationdate/>\n<D:displayname/>\n<D:getcontentlength/>\n<D:getcontenttype/>\n\
        <D:getetag/>\n\
        <D:getlastmodified/>\n<D:resourcetype/>\n  </D:prop>\n </D:propfind>";
    let quota = "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n \
        <D:propfind xmlns:D=\"DAV:\">\n  <D:prop>\n\
        <D:quota-available-bytes/>\n<D:quota-used-bytes/>\n  </D:prop>\n </D:propfind>";
    let type_of = "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n \
        <D:propfind xmlns:D=\"DAV:\">\n  <D:prop>\n\
        <D:resourcetype/>\n  </D:prop>\n </D:propfind>";
    let (zero, one) = (["Depth: 0", "Content-Type: application/xml"], ["Depth: 1"]);
    exchange(
        &client,
        agent,
        &[
            ("OPTIONS", "/", &[], "", 200),
            ("PROPFIND", "/", &zero, type_of, 207),
            ("PROPFIND", "/", &zero, quota, 207),
            ("PROPFIND", "/docs", &one, find, 207),
            ("HEAD", "/docs/two.txt", &[], "", 404),
            ("PUT", "/docs/two.txt", &["If-None-Match: *"], "two", 201),
            ("PROPFIND", "/docs/two.txt", &zero, find, 207),
            ("GET", "/docs/two.txt", &[], "", 200),
            ("MOVE", "/docs/two.txt", &["Destination: /docs/three.txt", "Overwrite: F"], "", 201),
            ("COPY", "/docs/three.txt", &["Destination: /four.txt", "Overwrite: F"], "", 201),
            ("MKCOL", "/new", &[], "", 201),
            ("PROPFIND", "/new", &["Depth: 1"], find, 207),
            ("DELETE", "/new", &[], "", 204),
            ("DELETE", "/docs/three.txt", &[], "", 204),
        ],
    );
}
