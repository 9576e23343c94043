//! URLs that the master signs: for one path, and for reading.

use super::HttpTestClient;
use crate::accounts::add;
use crate::ftp::ftp_address;
use crate::harness::{Cluster, SOON, eventually};

/// `ann` with the password of [`crate::accounts::password`].
const ANN: &str = "Authorization: Basic YW5uOnRoZSBwYXNzd29yZCBvZiBhbm4=";

#[test]
fn a_signed_url_reads_one_path_and_does_nothing_else() {
    let http = ["--http", "127.0.0.1:0"];
    let cluster = Cluster::of(2).slave_args(&http).master_args(&http).start();
    let slaves = [0, 1].map(|n| ftp_address(&cluster.slaves[n].program, "http"));
    let mut first = HttpTestClient::connect(slaves[0]);
    for (line, body) in
        [("MKCOL /d", ""), ("PUT /d/secret", "secret"), ("PUT /f", "content"), ("PUT /g", "other")]
    {
        assert_eq!(first.request(line, &[], body.as_bytes()).status, 201, "{line}");
    }
    add(&cluster.dir, &cluster.dir.folder("master"), "ann", "write", "/");
    let master = ftp_address(&cluster.master, "http");
    let signature = |path: &str| {
        eventually(SOON, "the master redirects", || {
            let mut client = HttpTestClient::connect(master);
            let answer = client.request(&format!("GET {path}"), &[ANN], &[]);
            let location = answer.header("location")?.to_owned();
            location.split_once('?').map(|(_, query)| query.to_owned())
        })
    };
    let file = signature("/f");
    for slave in slaves {
        eventually(SOON, "the slave knows of the account", || {
            (HttpTestClient::connect(slave).get("/f").status == 401).then_some(())
        });
        for (line, status) in [
            ("GET /f", 200),
            ("HEAD /f", 200),
            ("GET //%66", 200),
            ("GET /g", 401),
            ("GET /-/files/f", 401),
            ("PUT /f", 403),
            ("DELETE /f", 403),
            ("PROPFIND /f", 403),
            ("LOCK /f", 403),
        ] {
            // Also on a connection whose session has begun with this signature.
            for begins in [false, true] {
                let mut client = HttpTestClient::connect(slave);
                if begins {
                    assert_eq!(client.get(&format!("/f?{file}")).status, 200);
                }
                let answer = client.request(&format!("{line}?{file}"), &["Depth: 0"], &[]);
                assert_eq!(answer.status, status, "{line} {begins}: {}", answer.text());
            }
        }
    }
    let folder = signature("/d");
    for (target, status) in [("/d/", 200), ("/d/secret", 401), ("/", 401)] {
        let answer = HttpTestClient::connect(slaves[0]).get(&format!("{target}?{folder}"));
        assert_eq!(answer.status, status, "{target}");
        if status == 200 {
            assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        }
    }
    // These would tell of what is below.
    for query in ["tar", "zip", "search=secret"] {
        let answer = HttpTestClient::connect(slaves[0]).get(&format!("/d/?{query}&{folder}"));
        assert_eq!(answer.status, 403, "{query}: {}", answer.text());
    }
}
