//! GET and HEAD of files and folders.

use super::{HttpTestClient, start_http};
use crate::harness::content;

#[test]
fn files_are_sent_with_their_facts() {
    let big = content(1, 3_000_001);
    let (_slave, addr) =
        start_http(&[], &[("a b.txt", b"hello"), ("big.bin", &big), ("empty", b"")]);
    let mut client = HttpTestClient::connect(addr);
    let answer = client.get("/a%20b.txt");
    assert_eq!((answer.status, &*answer.body), (200, b"hello".as_slice()));
    for (name, value) in [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", "5"),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"), "{policy}");
    let tag = answer.header("etag").unwrap();
    assert!(tag.starts_with('"') && tag.len() > 50, "{tag}");
    assert!(answer.header("last-modified").is_some() && answer.header("relais-change").is_some());
    assert!(
        answer.header("set-cookie").is_none() && answer.header("content-disposition").is_none()
    );
    let head = client.request("HEAD /a%20b.txt", &[], &[]);
    let facts = |answer: &super::HttpAnswer| {
        ["etag", "last-modified", "content-length", "content-type"]
            .map(|name| answer.header(name).unwrap().to_owned())
    };
    assert_eq!((head.status, facts(&head)), (200, facts(&answer)));
    assert_eq!(client.get("/big.bin").body, big);
    assert_eq!(client.get("/empty").header("content-length"), Some("0"));
    let saved = client.get("/a%20b.txt?download");
    assert_eq!(saved.header("content-disposition"), Some("attachment; filename=\"a b.txt\""));
}

#[test]
fn ranges_of_files() {
    let bytes = content(2, 200_000);
    let (_slave, addr) = start_http(&[], &[("f", &bytes)]);
    let mut client = HttpTestClient::connect(addr);
    let mut range =
        |range: &str| client.request("GET /f", &[&format!("Range: bytes={range}")], &[]);
    for (text, begin, end) in [
        ("0-0", 0, 1),
        ("5-", 5, 200_000),
        ("-7", 199_993, 200_000),
        ("199999-300000", 199_999, 200_000),
    ] {
        let answer = range(text);
        assert_eq!((answer.status, &answer.body[..]), (206, &bytes[begin..end]), "{text}");
        let expected = format!("bytes {begin}-{}/200000", end - 1);
        assert_eq!(answer.header("content-range"), Some(&*expected));
    }
    let behind = range("200000-");
    assert_eq!((behind.status, behind.header("content-range")), (416, Some("bytes */200000")));
    assert_eq!(range("5-2").status, 200, "a malformed range is ignored");
    let several = range("0-9,1000-1009,100000-199999");
    assert_eq!(several.status, 206);
    let boundary = several.header("content-type").unwrap();
    let boundary = boundary.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut expected = Vec::new();
    for part in [0..10, 1000..1010, 100_000..200_000] {
        expected.extend_from_slice(
            format!(
                "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\
                 Content-Range: bytes {}-{}/200000\r\n\r\n",
                part.start,
                part.end - 1
            )
            .as_bytes(),
        );
        expected.extend_from_slice(&bytes[part]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert!(several.body == expected);
}

#[test]
fn folders_are_listed_as_json_or_html() {
    let name = "<b>&\"'.txt";
    let (slave, addr) = start_http(&[], &[(name, b"x")]);
    std::fs::create_dir(slave.root.join("sub")).unwrap();
    slave.wait_listed("sub", true);
    let mut client = HttpTestClient::connect(addr);
    let json = client.request("GET /", &["Accept: application/json"], &[]);
    assert_eq!(json.header("content-type"), Some("application/json"));
    let json: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    let entries = json["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!((&entries[0]["name"], &entries[0]["kind"]), (&name.into(), &"file".into()));
    assert_eq!((&entries[0]["size"], &entries[1]["kind"]), (&1.into(), &"folder".into()));
    assert!(entries[0]["mtime"].as_str().unwrap().ends_with('Z'));
    let html = client.request("GET /", &["Accept: text/html"], &[]);
    let text = html.text();
    assert!(html.header("content-type").unwrap().starts_with("text/html"));
    assert!(!text.contains("<b>") && text.contains("&lt;b&gt;&amp;&quot;&#39;.txt"), "{text}");
    assert!(text.contains("href=\"/%3Cb%3E%26%22%27.txt\""), "{text}");
    assert!(!html.header("content-security-policy").unwrap().contains("unsafe"));
    let head = client.request("HEAD /", &["Accept: application/json"], &[]);
    assert_eq!(head.status, 200);
    assert_eq!(client.request("GET /", &["Accept: image/png"], &[]).status, 406);
}

#[test]
fn slashes_lead_to_folders_and_files() {
    let (slave, addr) = start_http(&[], &[("f", b"x")]);
    std::fs::create_dir_all(slave.root.join("-/d")).unwrap();
    std::fs::write(slave.root.join("-/g"), b"dash").unwrap();
    slave.wait_listed("-", true);
    let mut client = HttpTestClient::connect(addr);
    for (from, to) in
        [("/-/files/-", "/-/files/-/"), ("/f/", "/f"), ("/-/files/-/d?x=1", "/-/files/-/d/?x=1")]
    {
        let answer = client.get(from);
        assert_eq!((answer.status, answer.header("location")), (308, Some(to)), "{from}");
    }
    assert_eq!(client.get("/-/files/-/g").body, b"dash");
    for (path, status) in [
        ("/missing", 404),
        ("/missing/", 404),
        ("/.relais/catalogue.db", 404),
        ("/.relais/", 404),
        ("/%2e%2e/etc/passwd", 400),
        ("/a/../f", 400),
        ("/..%2ff", 400),
        ("/f%00", 400),
        ("/%ff", 400),
        ("/-/g", 404),
        ("/-/unknown", 404),
    ] {
        assert_eq!(client.get(path).status, status, "{path}");
    }
}

#[test]
fn methods_are_named_and_others_refused() {
    let (_slave, addr) = start_http(&[], &[("f", b"x")]);
    let mut client = HttpTestClient::connect(addr);
    let options = client.request("OPTIONS /f", &[], &[]);
    let allowed = options.header("allow").unwrap();
    assert!(["GET", "HEAD", "PUT", "DELETE"].iter().all(|method| allowed.contains(method)));
    let folder = client.request("PUT /", &[], b"x");
    let allowed = folder.header("allow").unwrap();
    assert!(folder.status == 405 && allowed.contains("DELETE") && !allowed.contains("PUT"));
    let refused = client.request("BREW /f", &["Accept: application/json"], &[]);
    assert_eq!(refused.status, 405);
    assert!(refused.header("allow").is_some());
    let json: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(json["error"]["code"], "unsupported");
}

#[test]
fn a_search_tells_that_it_has_ended_at_its_limit() {
    let names: Vec<String> = (0..1_100).map(|n| format!("report-{n}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    let (_slave, addr) = start_http(&[], &files);
    let mut client = HttpTestClient::connect(addr);
    let mut page = |search: &str| {
        let target = format!("GET /?search={search}");
        client.request(&target, &["Accept: text/html"], &[]).text()
    };
    let limited = page("REPORT");
    assert!(limited.contains("1000 names found, of 1000 looked at. The search ended"), "{limited}");
    assert_eq!(limited.matches("<tr data-name=\"report-").count(), 1_000);
    let complete = page("report-109");
    assert!(complete.contains("11 names found, of 1100."), "{complete}");
}
