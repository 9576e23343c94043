//! HTTP in a cluster: equal tags, one login for all slaves, content that a slave lacks.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::HttpTestClient;
use super::uploads::{append, create, progress};
use crate::accounts::{add, password};
use crate::cluster::helpers::{open, report_at, wait_settled};
use crate::ftp::ftp_address;
use crate::harness::{Cluster, ProgramBuilder, SOON, Volume, content, eventually};

const MIB: usize = 1024 * 1024;

fn http(cluster: &Cluster, slave: usize) -> SocketAddr {
    ftp_address(&cluster.slaves[slave].program, "http")
}

#[test]
fn all_slaves_have_the_same_tags_and_logins() {
    let cluster = Cluster::of(2).slave_args(&["--http", "127.0.0.1:0"]).start();
    let [first, second] = [0, 1].map(|slave| http(&cluster, slave));
    let stored = HttpTestClient::connect(first).request("PUT /f", &[], b"content");
    assert_eq!(stored.status, 201, "{}", stored.text());
    let seen = format!("Relais-Change: {}", stored.header("relais-change").unwrap());
    let read = HttpTestClient::connect(second).request("GET /f", &[&seen], &[]);
    assert_eq!((read.status, &*read.body), (200, b"content".as_slice()));
    assert_eq!(read.header("etag"), stored.header("etag"));

    add(&cluster.dir, &cluster.dir.folder("master"), "ann", "write", "/");
    let form = format!("user=ann&password={}", password("ann"));
    let fields = ["Content-Type: application/x-www-form-urlencoded"];
    let cookie = eventually(SOON, "the account is in force", || {
        let mut client = HttpTestClient::connect(first);
        let answer = client.request("POST /-/login", &fields, form.as_bytes());
        let cookie = answer.header("set-cookie")?.split(';').next()?.to_owned();
        Some(format!("Cookie: {cookie}"))
    });
    for addr in [first, second] {
        eventually(SOON, "the slave knows of the account", || {
            (HttpTestClient::connect(addr).get("/f").status == 401).then_some(())
        });
        let answer = HttpTestClient::connect(addr).request("GET /f", &[&cookie], &[]);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[test]
fn an_upload_continues_on_another_slave() {
    let mut cluster = Cluster::of(2).slave_args(&["--http", "127.0.0.1:0"]).start();
    let [first, second] = [0, 1].map(|slave| http(&cluster, slave));
    let bytes = content(5, 300_000);
    let url = create(first, "/f", bytes.len());
    assert_eq!(append(first, &url, 0, false, &bytes[..200_000]).status, 204);
    // The bytes are on the first slave only; so the second one has the offset 0.
    assert_eq!(progress(second, &url), (0, false));
    cluster.slaves[0].program.kill();
    let refused = append(second, &url, 200_000, true, &bytes[200_000..]);
    assert_eq!((refused.status, refused.header("upload-offset")), (409, Some("0")));
    assert_eq!(append(second, &url, 0, false, &bytes[..100_000]).status, 204);
    assert_eq!(progress(second, &url), (100_000, false));
    let end = append(second, &url, 100_000, true, &bytes[100_000..]);
    assert_eq!(end.status, 201, "{}", end.text());
    assert_eq!(progress(second, &url).0, 300_000);
    assert!(HttpTestClient::connect(second).get("/f").body == bytes);
    // The first slave has bytes of an upload whose change was made elsewhere.
    cluster.restart_slave_on_same_port(0);
    cluster.wait_in_service(2);
    let first = http(&cluster, 0);
    eventually(SOON, "the change is known", || (progress(first, &url).0 == 300_000).then_some(()));
    assert_eq!(append(first, &url, 200_000, true, &bytes[200_000..]).status, 409);
    assert_eq!(append(first, &url, 300_000, true, b"").status / 100, 2, "its end is repeated");
    assert!(HttpTestClient::connect(first).get("/f").body == bytes);
}

#[test]
fn parts_on_two_slaves_are_not_joined() {
    let cluster = Cluster::of(2).slave_args(&["--http", "127.0.0.1:0"]).start();
    let [first, second] = [0, 1].map(|slave| http(&cluster, slave));
    let (bytes, other) = (content(6, 300_000), content(7, 300_000));
    let url = create(first, "/f", bytes.len());
    assert_eq!(append(first, &url, 0, false, &bytes[..200_000]).status, 204);
    assert_eq!(append(second, &url, 0, false, &other[..100_000]).status, 204);
    assert_eq!((progress(first, &url).0, progress(second, &url).0), (200_000, 100_000));
    // A client that does not ask where to continue.
    let refused = append(second, &url, 200_000, true, &bytes[200_000..]);
    assert_eq!((refused.status, refused.header("upload-offset")), (409, Some("100000")));
    assert_eq!(append(first, &url, 200_000, true, &bytes[200_000..]).status, 201);
    eventually(SOON, "the end is known", || (progress(second, &url).0 == 300_000).then_some(()));
    let refused = append(second, &url, 100_000, true, &other[100_000..]);
    assert_eq!(refused.status, 409, "{}", refused.text());
    for addr in [first, second] {
        eventually(SOON, "both slaves have the content", || {
            let answer = HttpTestClient::connect(addr).get("/f");
            (answer.status == 200).then(|| assert!(answer.body == bytes))
        });
    }
}

#[test]
fn missing_content_comes_from_other_slaves() {
    let cluster = Cluster::of(1).slave_args(&["--http", "127.0.0.1:0"]).start();
    let volume = Volume::mount("size=12m");
    let bytes = content(1, 40 * MIB + 12_345);
    open(&cluster, 0).put("f", &bytes).unwrap();
    wait_settled(&cluster);
    std::fs::create_dir(volume.path().join("root")).unwrap();
    let mut slave = ProgramBuilder::new("ftpslave", cluster.dir.path())
        .args(["0", "--http", "127.0.0.1:0", "--workers", "1"])
        .args(["--master", &cluster.addr.to_string()])
        .args([PathBuf::from("--root"), volume.inside().join("root")])
        .args([PathBuf::from("--cluster-key"), cluster.key()])
        .under(&volume.under())
        .start();
    let addr = slave.ready().to_string();
    let http = ftp_address(&slave, "http");
    cluster.wait_in_service(2);
    eventually(SOON, "the slave knows the file and cannot store it", || {
        let report = report_at(&cluster, &addr);
        (report["unapplied"] == 1 && report["missing"] == 1 && report["lag"] == 0).then_some(())
    });
    let holder = self::http(&cluster, 0);
    let holder = HttpTestClient::connect(holder).request("HEAD /f", &[], &[]);
    let mut client = HttpTestClient::connect(http);
    let whole = client.get("/f");
    assert_eq!(whole.status, 200);
    assert!(whole.body == bytes);
    assert_eq!(whole.header("etag"), holder.header("etag"));
    for (range, begin, end) in
        [("5000000-5000009", 5_000_000, 5_000_010), ("-7", bytes.len() - 7, bytes.len())]
    {
        let part = client.request("GET /f", &[&format!("Range: bytes={range}")], &[]);
        assert_eq!(part.status, 206, "{range}");
        assert!(part.body == bytes[begin..end], "{range}");
    }
    let fields = ["Range: bytes=30000000-32000000,0-4,1048570-1048580"];
    let several = client.request("GET /f", &fields, &[]);
    let is_multipart = several.header("content-type").unwrap().starts_with("multipart/byteranges");
    assert!(several.status == 206 && is_multipart, "{}", several.text());
    let mut rest = &several.body[..];
    for (begin, end) in [(30_000_000, 32_000_001), (0, 5), (1_048_570, 1_048_581)] {
        let head = format!("Content-Range: bytes {begin}-{}/{}\r\n\r\n", end - 1, bytes.len());
        let at = rest.windows(head.len()).position(|window| window == head.as_bytes()).unwrap();
        rest = &rest[at + head.len()..];
        assert!(rest[..end - begin] == bytes[begin..end], "{begin}");
    }
    let head = client.request("HEAD /f", &[], &[]);
    assert_eq!(head.header("content-length").unwrap(), bytes.len().to_string());
}
