//! curl and wget with the HTTP front end of a slave, in the clear and by TLS.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::harness::{SOON, Standalone, TestDir, content, eventually, write_old};
use crate::site::{Login, PASSWORD, add_user, assert_same, certificate, ready, run, words};

/// Content of the file `large.bin`.
fn large() -> Vec<u8> {
    content(3, 3_000_001)
}

/// A standalone slave with HTTP and HTTPS, and a folder for the client.
struct HttpSite {
    slave: Standalone,
    login: Login,
    http: SocketAddr,
    https: SocketAddr,
    local: TestDir,
    /// The certificate of the server.
    trusted: PathBuf,
}

impl HttpSite {
    #[track_caller]
    fn start(login: Login) -> Self {
        let (dir, local) = (TestDir::new(), TestDir::new());
        let root = dir.folder("root");
        write_old(&root.join("large.bin"), &large());
        write_old(&root.join("docs/a name.txt"), b"text");
        if login == Login::Account {
            add_user(&dir, &dir.folder("state"), "ann");
        }
        let options = certificate(local.path());
        let mut args = vec!["--http", "127.0.0.1:0", "--https", "127.0.0.1:0"];
        args.extend(options.iter().map(String::as_str));
        let slave = Standalone::start_in(dir, root, &args, &[]);
        let [http, https] = ["http", "https"].map(|protocol| ready(&slave.program, protocol));
        let trusted = local.path().join("cert.pem");
        let site = Self { slave, login, http, https, local, trusted };
        eventually(SOON, "the file is hashed", || {
            site.curl(&["-I"], "large.bin").to_lowercase().contains("\netag: ").then_some(())
        });
        site
    }

    /// The URL of a path; accounts need TLS.
    fn url(&self, path: &str) -> String {
        match self.login {
            Login::Anonymous => format!("http://{}/{path}", self.http),
            Login::Account => format!("https://localhost:{}/{path}", self.https.port()),
        }
    }

    /// Runs curl; returns its standard output.
    #[track_caller]
    fn curl(&self, options: &[&str], path: &str) -> String {
        let mut args = words(["-sS", "--cacert", self.trusted.to_str().unwrap()]);
        if self.login == Login::Account {
            args.extend(["-u".to_owned(), format!("ann:{PASSWORD}")]);
        }
        args.extend(options.iter().map(|option| (*option).to_owned()));
        args.push(self.url(path));
        let output = run("curl", &args, self.local.path());
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs curl without its output; returns the status of the answer.
    #[track_caller]
    fn status(&self, options: &[&str], path: &str) -> String {
        let options = [&["-o", "answer", "-w", "%{http_code}"], options].concat();
        self.curl(&options, path)
    }

    fn local(&self, name: &str) -> PathBuf {
        self.local.path().join(name)
    }

    fn served(&self, name: &str) -> Vec<u8> {
        fs::read(self.slave.root.join(name)).unwrap_or_default()
    }

    /// Returns the tag of a file.
    #[track_caller]
    fn etag(&self, path: &str) -> String {
        let head = self.curl(&["-I"], path);
        let line = head.lines().find_map(|line| line.strip_prefix("ETag: "));
        line.unwrap_or_else(|| panic!("{head}")).trim().to_owned()
    }
}

const EVERY_LOGIN: [Login; 2] = [Login::Anonymous, Login::Account];

#[test]
fn curl_gets_resumes_and_takes_ranges() {
    for login in EVERY_LOGIN {
        let site = HttpSite::start(login);
        site.curl(&["-o", "got"], "large.bin");
        assert_same(&fs::read(site.local("got")).unwrap(), &large(), "whole");
        fs::write(site.local("part"), &large()[..1_234_567]).unwrap();
        let resumed = ["-C", "-", "-o", "part", "-w", "%{http_code} %{size_download}"];
        let expected = format!("206 {}", large().len() - 1_234_567);
        assert_eq!(site.curl(&resumed, "large.bin"), expected);
        assert_same(&fs::read(site.local("part")).unwrap(), &large(), "resumed");
        site.curl(&["-r", "1000-2999", "-o", "range"], "large.bin");
        assert_same(&fs::read(site.local("range")).unwrap(), &large()[1000..3000], "range");
        let several =
            site.curl(&["-r", "0-1,500000-500001", "-D", "-", "-o", "ranges"], "large.bin");
        assert!(several.contains("multipart/byteranges"), "{several}");
        let old = site.curl(&["-0", "-o", "old", "-w", "%{http_code}"], "large.bin");
        assert_eq!(old, "200");
        assert_same(&fs::read(site.local("old")).unwrap(), &large(), "HTTP/1.0");
        assert_eq!(site.curl(&[], "docs/a%20name.txt"), "text");
        let listing = site.curl(&["-H", "Accept: application/json"], "docs/");
        assert!(listing.contains("\"a name.txt\""), "{listing}");
    }
}

#[test]
fn curl_stores_in_every_form() {
    for login in EVERY_LOGIN {
        let site = HttpSite::start(login);
        let sent = content(11, 4_000_000);
        fs::write(site.local("sent"), &sent).unwrap();
        let forms: [(&str, &[&str]); 4] = [
            ("plain", &["-T", "sent"]),
            ("chunked", &["-T", "sent", "-H", "Transfer-Encoding: chunked"]),
            (
                "expected",
                &["-T", "sent", "-H", "Expect: 100-continue", "--expect100-timeout", "30"],
            ),
            ("old", &["-0", "-T", "sent"]),
        ];
        for (name, options) in forms {
            assert_eq!(site.status(options, name), "201", "{name}");
            assert_same(&site.served(name), &sent, name);
        }
        assert_eq!(site.status(&["-T", "sent"], "plain"), "204", "a known name");
        assert_eq!(site.status(&["-X", "DELETE"], "plain"), "204");
        assert_eq!(site.status(&[], "plain"), "404");
        assert_eq!(site.status(&["-T", "sent"], "missing/file"), "409");
    }
}

#[test]
fn curl_states_conditions() {
    for login in EVERY_LOGIN {
        let site = HttpSite::start(login);
        let etag = site.etag("large.bin");
        site.curl(&["--etag-save", "tag", "-o", "got"], "large.bin");
        assert_eq!(fs::read_to_string(site.local("tag")).unwrap().trim(), etag);
        assert_eq!(site.status(&["--etag-compare", "tag"], "large.bin"), "304");
        assert_eq!(site.status(&["-z", "large.local"], "large.bin"), "200");
        fs::write(site.local("sent"), "new").unwrap();
        let put = |condition: &str, path: &str| site.status(&["-T", "sent", "-H", condition], path);
        assert_eq!(put("If-None-Match: *", "large.bin"), "412");
        assert_eq!(put("If-Match: \"another\"", "large.bin"), "412");
        assert_same(&site.served("large.bin"), &large(), "not replaced");
        assert_eq!(put(&format!("If-Match: {etag}"), "large.bin"), "204");
        assert_eq!(site.served("large.bin"), b"new");
        assert_eq!(put(&format!("If-Match: {etag}"), "large.bin"), "412", "the tag is old");
        assert_eq!(put("If-None-Match: *", "fresh"), "201");
        assert_eq!(site.status(&["--etag-compare", "tag"], "large.bin"), "200");
    }
}

#[test]
fn curl_has_to_prove_its_account() {
    let site = HttpSite::start(Login::Account);
    let url = site.url("large.bin");
    let trusted = site.trusted.to_str().unwrap();
    let status = |options: &[&str]| {
        let args = [&["-sS", "--cacert", trusted, "-o", "answer", "-w", "%{http_code}"], options];
        let mut args: Vec<String> = args.concat().into_iter().map(str::to_owned).collect();
        args.push(url.clone());
        String::from_utf8_lossy(&run("curl", &args, site.local.path()).stdout).into_owned()
    };
    assert_eq!(status(&[]), "401");
    assert_eq!(status(&["-u", "ann:wrong"]), "401");
    assert_eq!(status(&["--anyauth", "-u", &format!("ann:{PASSWORD}")]), "200");
}

/// Runs wget in the folder of the client.
#[track_caller]
fn wget(site: &HttpSite, options: &[&str], path: &str) {
    let certificate = format!("--ca-certificate={}", site.trusted.display());
    let mut args = vec!["-q".to_owned(), certificate];
    if site.login == Login::Account {
        args.extend(["--user=ann".to_owned(), format!("--password={PASSWORD}")]);
    }
    args.extend(options.iter().map(|option| (*option).to_owned()));
    args.push(site.url(path));
    let output = run("wget", &args, site.local.path());
    assert!(output.status.success(), "{args:?}: {output:?}");
}

#[test]
fn wget_gets_resumes_and_mirrors() {
    for login in EVERY_LOGIN {
        let site = HttpSite::start(login);
        wget(&site, &["-O", "got"], "large.bin");
        assert_same(&fs::read(site.local("got")).unwrap(), &large(), "whole");
        fs::write(site.local("large.bin"), &large()[..2_000_000]).unwrap();
        wget(&site, &["-c"], "large.bin");
        assert_same(&fs::read(site.local("large.bin")).unwrap(), &large(), "resumed");
        wget(&site, &["-r", "-np", "-nH", "-P", "mirror"], "docs/");
        let mirrored = site.local("mirror").join(Path::new("docs/a name.txt"));
        assert_eq!(fs::read(mirrored).unwrap(), b"text");
    }
}
