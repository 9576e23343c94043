//! curl: FTP, FTPS, resume both ways, ranges.

use std::fs;

use crate::harness::content;
use crate::site::{
    EVERY_LOGIN, EVERY_TLS, Login, Site, Tls, assert_same, certificate, file, succeed,
};

/// Runs curl with the options of a site; returns its output.
#[track_caller]
pub fn curl(site: &Site, tls: Tls, options: &[&str], path: &str) -> String {
    let url = url(site, tls, path);
    let mut args = vec!["-sS".to_owned(), "-k".to_owned()];
    if tls == Tls::Explicit {
        args.push("--ssl-reqd".to_owned());
    }
    args.extend(site.curl_user());
    args.extend(options.iter().map(|option| (*option).to_owned()));
    args.push(url);
    succeed("curl", &args, site.local.path())
}

/// Returns the URL of a path, percent-encoded.
pub fn url(site: &Site, tls: Tls, path: &str) -> String {
    let scheme = if tls == Tls::Implicit { "ftps" } else { "ftp" };
    let encoded: String = path
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("{scheme}://{}/{encoded}", site.addr(tls))
}

#[test]
fn gets_puts_and_lists() {
    for login in EVERY_LOGIN {
        let site = Site::start(login);
        for tls in EVERY_TLS {
            let what = format!("{login:?} {tls:?}");
            for name in ["large.bin", "docs/a name with spaces.txt", "docs/ümläut.txt"] {
                curl(&site, tls, &["-o", "got"], name);
                assert_same(&fs::read(site.local("got")).unwrap(), &file(name), &what);
            }
            let sent = content(50 + tls as u64, 500_000);
            site.write_local("sent", &sent);
            let name = format!("{tls:?} upload");
            curl(&site, tls, &["-T", "sent"], &name);
            assert_same(&site.served(&name), &sent, &what);
            let listed = curl(&site, tls, &[], "docs/");
            assert!(listed.contains(" 70000 ") && listed.contains("ümläut.txt"), "{listed}");
            assert_eq!(curl(&site, tls, &["-l"], "docs/").lines().count(), 2, "{what}");
        }
    }
}

#[test]
fn resumes_a_download_and_gets_ranges() {
    let site = Site::start(Login::Account);
    let whole = file("large.bin");
    for tls in EVERY_TLS {
        site.write_local("part", &whole[..1_234_567]);
        curl(&site, tls, &["-C", "-", "-o", "part"], "large.bin");
        assert_same(&fs::read(site.local("part")).unwrap(), &whole, "resumed");
        curl(&site, tls, &["-r", "1000-2999", "-o", "range"], "large.bin");
        assert_same(&fs::read(site.local("range")).unwrap(), &whole[1000..3000], "range");
    }
}

#[test]
fn resumes_an_upload_that_was_cut() {
    for tls in EVERY_TLS {
        let site = Site::start(Login::Account);
        let sent = content(7, 4_000_000);
        site.write_local("sent", &sent);
        let args = ["-T", "sent", "--limit-rate", "500k", "--max-time", "2"];
        let mut all = vec!["-sS".to_owned(), "-k".to_owned()];
        if tls == Tls::Explicit {
            all.push("--ssl-reqd".to_owned());
        }
        all.extend(site.curl_user());
        all.extend(args.iter().map(|word| (*word).to_owned()));
        all.push(url(&site, tls, "large.bin"));
        let cut = crate::site::run("curl", &all, site.local.path());
        assert_eq!(cut.status.code(), Some(28), "curl gives up after two seconds");
        assert_same(&site.served("large.bin"), &file("large.bin"), "the old file stays");
        let sent_bytes =
            curl(&site, tls, &["-C", "-", "-T", "sent", "-w", "%{size_upload}"], "large.bin");
        assert_same(&site.served("large.bin"), &sent, "resumed upload");
        let sent_bytes: usize = sent_bytes.trim().parse().unwrap();
        assert!(sent_bytes < sent.len(), "{tls:?}: {sent_bytes} bytes were sent again");
    }
}

#[test]
fn verifies_a_certificate_of_the_operator() {
    let dir = crate::harness::TestDir::new();
    let options = certificate(dir.path());
    let cert = &options[1];
    let site = Site::start_with(Login::Anonymous, &options.each_ref().map(String::as_str));
    for (scheme, port, reqd) in
        [("ftp", site.ftp.port(), "--ssl-reqd"), ("ftps", site.ftps.port(), "-4")]
    {
        let url = format!("{scheme}://localhost:{port}/large.bin");
        let args = ["-sS", "-4", reqd, "--cacert", cert, "-o", "got", &url];
        succeed("curl", &args.map(str::to_owned), site.local.path());
        assert_same(&fs::read(site.local("got")).unwrap(), &file("large.bin"), scheme);
    }
}

#[test]
fn creates_renames_and_removes() {
    let site = Site::start(Login::Account);
    site.write_local("sent", b"text");
    curl(&site, Tls::Explicit, &["--ftp-create-dirs", "-T", "sent"], "new/deep/file");
    assert_eq!(site.served("new/deep/file"), b"text");
    let quoted = ["-Q", "RNFR new/deep/file", "-Q", "RNTO new/moved", "-Q", "RMD new/deep", "-l"];
    assert_eq!(curl(&site, Tls::Explicit, &quoted, "new/").trim(), "moved");
    assert_eq!(curl(&site, Tls::Explicit, &["-Q", "DELE new/moved", "-l"], "new/").trim(), "");
}

/// curl 7.88 keeps one ticket of TLS 1.3, and uses it once.
#[test]
fn several_transfers_resume_the_session_of_the_login() {
    let site = Site::start_with(Login::Account, &["--ftp-tls-reuse", "required"]);
    let sent = content(9, 300_000);
    for name in ["a", "b", "c"] {
        site.write_local(name, &sent);
    }
    for tls in [Tls::Explicit, Tls::Implicit] {
        curl(&site, tls, &["--tls-max", "1.2", "-T", "{a,b,c}"], "");
        for name in ["a", "b", "c"] {
            assert_same(&site.served(name), &sent, name);
        }
        curl(&site, tls, &["--tlsv1.3", "-T", "a"], "one");
        assert_same(&site.served("one"), &sent, "one");
        // A download brings a new ticket, whatever the number of files.
        let more = ["b", "c", "one"].map(|name| url(&site, tls, name));
        let mut options = vec!["--tlsv1.3", "-o", "a", "-o", "b", "-o", "c", "-o", "one"];
        options.extend(more.iter().map(String::as_str));
        curl(&site, tls, &options, "a");
        assert_same(&fs::read(site.local("one")).unwrap(), &sent, "got");
    }
}
