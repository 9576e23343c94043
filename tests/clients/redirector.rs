//! The master's redirects and Metalinks with curl, aria2 and wget2.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::harness::{Cluster, SOON, TestDir, content, eventually};
use crate::site::{PASSWORD, add_user, assert_same, ready, run, succeed, words};

/// The file of the cluster.
const SIZE: usize = 5_000_001;

/// A cluster of two slaves, and a folder for the client.
struct Redirector {
    cluster: Cluster,
    http: SocketAddr,
    local: TestDir,
    user: Option<String>,
}

impl Redirector {
    #[track_caller]
    fn start(with_account: bool) -> Self {
        let cluster = Cluster::of(2)
            .master_args(&["--http", "127.0.0.1:0"])
            .slave_args(&["--http", "127.0.0.1:0"])
            .file("large.bin", &content(7, SIZE))
            .start();
        cluster.wait_hashed();
        let http = ready(&cluster.master, "http");
        let mut user = None;
        if with_account {
            add_user(&cluster.dir, &cluster.dir.folder("master"), "ann");
            user = Some(format!("ann:{PASSWORD}"));
        }
        let site = Self { cluster, http, local: TestDir::new(), user };
        eventually(SOON, "both slaves hold the file, and accounts are loaded", || {
            let head = site.head();
            let refused = site.curl(&["-s", "-o", "/dev/null", "-w", "%{http_code}"], false);
            let is_open = if with_account { "401" } else { "307" };
            (head.contains("rel=duplicate") && refused == is_open).then_some(())
        });
        site
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.http)
    }

    fn curl(&self, options: &[&str], with_user: bool) -> String {
        let mut args: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        if let Some(user) = self.user.iter().find(|_| with_user) {
            args.extend(["-u".to_owned(), user.clone()]);
        }
        args.push(self.url("large.bin"));
        String::from_utf8_lossy(&run("curl", &args, self.folder()).stdout).into_owned()
    }

    /// Returns the head of the redirect.
    fn head(&self) -> String {
        self.curl(&["-sI"], true)
    }

    fn folder(&self) -> &Path {
        self.local.path()
    }

    /// Returns the file that a client has downloaded, and removes all it has left.
    #[track_caller]
    fn take(&self, name: &str) -> Vec<u8> {
        let bytes = fs::read(self.folder().join(name)).unwrap();
        for entry in fs::read_dir(self.folder()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        bytes
    }

    fn aria2(&self, url: String) {
        let mut args = words(["--no-conf", "--allow-overwrite=true", "--follow-metalink=mem"]);
        if self.user.is_some() {
            let password = format!("--http-passwd={PASSWORD}");
            args.extend(["--http-user=ann".to_owned(), password]);
            args.push("--http-auth-challenge=false".to_owned());
        }
        args.push(url);
        succeed("aria2c", &args, self.folder());
    }

    fn wget2(&self, url: String, options: &[&str]) {
        let mut args: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        if self.user.is_some() {
            args.extend(["--http-user=ann".to_owned(), format!("--http-password={PASSWORD}")]);
        }
        args.push(url);
        succeed("wget2", &args, self.folder());
    }
}

#[test]
fn curl_follows_redirects_without_the_password() {
    for with_account in [false, true] {
        let site = Redirector::start(with_account);
        let got = site.curl(&["-sS", "-L", "-o", "got", "-w", "%{url_effective}"], true);
        assert_eq!(got.contains("relais-signature="), with_account, "{got}");
        assert_same(&site.take("got"), &content(7, SIZE), "curl");
        if with_account {
            let other = got.replace("large.bin", "other.bin");
            let status = words(["-s", "-o", "/dev/null", "-w", "%{http_code}"]);
            let refused = succeed("curl", &[status, vec![other]].concat(), site.folder());
            assert!(refused == "401" || refused == "403", "another path: {refused}");
            let delete = words(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "DELETE"]);
            let refused = succeed("curl", &[delete, vec![got]].concat(), site.folder());
            assert!(refused == "401" || refused == "403", "a change: {refused}");
        }
    }
}

#[test]
fn aria2_and_wget2_download_by_redirect_and_by_metalink() {
    for with_account in [false, true] {
        let site = Redirector::start(with_account);
        let file = content(7, SIZE);
        site.aria2(site.url("large.bin"));
        assert_same(&site.take("large.bin"), &file, "aria2, redirect");
        // Else it downloads the file a second time from the slave of the first `Link` field.
        site.wget2(site.url("large.bin"), &["--no-metalink"]);
        assert_same(&site.take("large.bin"), &file, "wget2, redirect");
        site.aria2(site.url("large.bin?meta4"));
        assert_same(&site.take("large.bin"), &file, "aria2, Metalink");
        let head = site.head();
        assert!(head.contains("\r\nDigest: SHA-256="), "the hashes are known now: {head}");
        site.wget2(site.url("large.bin?meta4"), &[]);
        assert_same(&site.take("large.bin"), &file, "wget2, Metalink");
    }
}

#[test]
fn aria2_completes_though_a_slave_is_killed() {
    let mut site = Redirector::start(false);
    let meta4 = site.curl(&["-sS", "-H", "Accept: application/metalink4+xml"], true);
    fs::write(site.folder().join("large.meta4"), meta4).unwrap();
    // One of the two URLs leads nowhere from now on.
    site.cluster.slaves[0].program.kill();
    let args = words(["--no-conf", "--max-tries=2", "--retry-wait=1", "large.meta4"]);
    succeed("aria2c", &args, site.folder());
    assert_same(&site.take("large.bin"), &content(7, SIZE), "aria2");
}
