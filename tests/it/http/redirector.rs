//! The master as redirector: turns, duplicates, hashes, folders, changes, Metalinks, accounts.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{HttpAnswer, HttpTestClient};
use crate::accounts::{add, password};
use crate::ftp::ftp_address;
use crate::harness::{Cluster, SOON, eventually};

/// The master's answer is 503 at most so long after the last slave has gone.
const NOT_READY_WITHIN: Duration = Duration::from_secs(3);

/// SHA-256 of the file `f`.
const HEX: &str = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
const BASE64: &str = "7XACtDnprIRfIjV9giusFERzD722AW0+yUMil7nsn3M=";

/// A cluster of two slaves with the file `f`, which all of them hold.
struct Redirector {
    cluster: Cluster,
    master: SocketAddr,
    slaves: [SocketAddr; 2],
}

impl Redirector {
    #[track_caller]
    fn start() -> Self {
        let cluster = Cluster::of(2)
            .master_args(&["--http", "127.0.0.1:0"])
            .slave_args(&["--http", "127.0.0.1:0", "--sha256"])
            .start();
        let master = ftp_address(&cluster.master, "http");
        let slaves = [0, 1].map(|slave| ftp_address(&cluster.slaves[slave].program, "http"));
        let site = Self { cluster, master, slaves };
        let stored = HttpTestClient::connect(slaves[0]).request("PUT /f", &[], b"content");
        assert_eq!(stored.status, 201, "{}", stored.text());
        eventually(SOON, "both slaves hold the file, and its hash is known", || {
            let answer = site.get("/f");
            let links = answer.header("link")?;
            (links.contains("rel=duplicate") && answer.header("digest").is_some()).then_some(())
        });
        site
    }

    fn get(&self, path: &str) -> HttpAnswer {
        HttpTestClient::connect(self.master).get(path)
    }

    /// Returns the slave that a location names, and the path there.
    #[track_caller]
    fn place<'a>(&self, answer: &'a HttpAnswer) -> (usize, &'a str) {
        assert_eq!(answer.status, 307, "{}", answer.text());
        let location = answer.header("location").unwrap().strip_prefix("http://").unwrap();
        let at = location.find('/').unwrap();
        let addr: SocketAddr = location[..at].parse().unwrap();
        let slave = self.slaves.iter().position(|slave| *slave == addr);
        (slave.unwrap_or_else(|| panic!("{location}")), &location[at..])
    }
}

#[test]
fn files_are_redirected_in_turn_with_duplicates_and_hashes() {
    let site = Redirector::start();
    let answers: Vec<HttpAnswer> = (0..4).map(|_| site.get("/f")).collect();
    let turns: Vec<usize> = answers.iter().map(|answer| site.place(answer).0).collect();
    assert!(turns == [0, 1, 0, 1] || turns == [1, 0, 1, 0], "{turns:?}");
    for (answer, turn) in answers.iter().zip(&turns) {
        let links = answer.header("link").unwrap();
        let other = site.slaves[1 - turn];
        assert!(links.contains(&format!("<http://{other}/f>; rel=duplicate")), "{links}");
        let (old, new) = (format!("SHA-256={BASE64}"), format!("sha-256=:{BASE64}:"));
        assert_eq!(answer.header("digest"), Some(&*old));
        assert_eq!(answer.header("repr-digest"), Some(&*new));
        let (slave, path) = site.place(answer);
        let content = HttpTestClient::connect(site.slaves[slave]).get(path);
        assert_eq!((content.status, &*content.body), (200, b"content".as_slice()));
        let wanted = HttpTestClient::connect(site.slaves[slave]).request(
            "GET /f",
            &["Want-Repr-Digest: sha-256=10"],
            &[],
        );
        assert_eq!(wanted.header("repr-digest"), answer.header("repr-digest"));
    }
    let head = HttpTestClient::connect(site.master).request("HEAD /f", &[], &[]);
    assert_eq!(site.place(&head).1, "/f");
    assert!(head.header("link").is_some() && head.header("digest").is_some());
    assert_eq!(site.get("/missing").status, 404);
}

#[test]
fn folders_and_changes_go_to_a_slave() {
    let site = Redirector::start();
    let listing = site.get("/");
    let (slave, path) = site.place(&listing);
    assert_eq!((path, HttpTestClient::connect(site.slaves[slave]).get(path).status), ("/", 200));
    for line in ["PUT /new", "DELETE /f", "MKCOL /folder", "PROPFIND /"] {
        let answer = HttpTestClient::connect(site.master).request(line, &[], &[]);
        assert_eq!(site.place(&answer).1, line.split_once(' ').unwrap().1, "{line}");
    }
    // What follows the head of a request with a body would be taken for a request.
    let mut client = HttpTestClient::connect(site.master);
    let answer = client.request("PUT /new", &[], b"GET / HTTP/1.1\r\n\r\n");
    let (slave, path) = site.place(&answer);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed());
    let line = format!("PUT {path}");
    let stored = HttpTestClient::connect(site.slaves[slave]).request(&line, &[], b"new");
    assert_eq!(stored.status, 201);
    let seen = format!("Relais-Change: {}", stored.header("relais-change").unwrap());
    let read = HttpTestClient::connect(site.slaves[1 - slave]).request("GET /new", &[&seen], &[]);
    assert_eq!((read.status, &*read.body), (200, b"new".as_slice()));
}

#[test]
fn a_metalink_names_all_holders_and_the_hash() {
    let site = Redirector::start();
    let asked = |line: &str, fields: &[&str]| {
        HttpTestClient::connect(site.master).request(line, fields, &[])
    };
    let by_type = asked("GET /f", &["Accept: application/metalink4+xml"]);
    for answer in [asked("GET /f?meta4", &[]), by_type] {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let media_type = answer.header("content-type").unwrap();
        assert!(media_type.starts_with("application/metalink4+xml"), "{media_type}");
        let text = answer.text();
        for slave in site.slaves {
            assert!(text.contains(&format!(">http://{slave}/f</url>")), "{text}");
        }
        assert!(text.contains(&format!("<hash type=\"sha-256\">{HEX}</hash>")), "{text}");
        assert!(text.contains("<size>7</size>"), "{text}");
    }
}

#[test]
fn the_master_is_not_ready_soon_after_the_last_slave_is_killed() {
    let mut site = Redirector::start();
    assert_eq!((site.get("/-/readyz").status, site.get("/-/healthz").status), (200, 200));
    site.cluster.slaves[0].program.kill();
    eventually(SOON, "files are redirected to the other slave", || {
        (0..2)
            .all(|_| {
                site.get("/f")
                    .header("location")
                    .is_some_and(|at| at.contains(&site.slaves[1].to_string()))
            })
            .then_some(())
    });
    assert_eq!(site.get("/-/readyz").status, 200);
    site.cluster.slaves[1].program.kill();
    let killed = Instant::now();
    eventually(SOON, "the master is not ready", || {
        (site.get("/-/readyz").status == 503).then_some(())
    });
    assert!(killed.elapsed() < NOT_READY_WITHIN, "{:?}", killed.elapsed());
    assert_eq!(site.get("/-/healthz").status, 200);
    let refused = site.get("/f");
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
}

#[test]
fn signed_urls_are_for_one_path_and_reading_alone() {
    let site = Redirector::start();
    add(&site.cluster.dir, &site.cluster.dir.folder("master"), "ann", "write", "/");
    for server in [site.master, site.slaves[0], site.slaves[1]] {
        eventually(SOON, "the account is in force", || {
            (HttpTestClient::connect(server).get("/f").status == 401).then_some(())
        });
    }
    let login = format!("Authorization: {}", basic("ann", &password("ann")));
    let answer = HttpTestClient::connect(site.master).request("GET /f", &[&login], &[]);
    let (slave, path) = site.place(&answer);
    assert!(path.starts_with("/f?relais-signature="), "{path}");
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    let status =
        |line: &str| HttpTestClient::connect(site.slaves[slave]).request(line, &[], &[]).status;
    assert_eq!((status(&format!("GET {path}")), status(&format!("HEAD {path}"))), (200, 200));
    let other = path.replace("/f?", "/?");
    for line in [format!("DELETE {path}"), format!("PUT {path}"), format!("GET {other}")] {
        let refused = status(&line);
        assert!(refused == 401 || refused == 403, "{line}: {refused}");
    }
    let write = HttpTestClient::connect(site.master).request("DELETE /f", &[&login], &[]);
    assert_eq!(site.place(&write).1, "/f", "a change is redirected without a signature");
}

/// Returns the credentials of Basic (RFC 7617).
fn basic(user: &str, password: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = format!("{user}:{password}");
    let mut coded = String::from("Basic ");
    for three in text.as_bytes().chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - three.len()));
        let digits =
            (0..=three.len()).map(|n| DIGITS[(bits >> (18 - 6 * n)) as usize & 63] as char);
        coded.extend(digits);
        coded.extend(std::iter::repeat_n('=', 3 - three.len()));
    }
    coded
}
