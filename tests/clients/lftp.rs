//! lftp: mirror both ways, pget, reput, each in the clear and by TLS.

use std::fs;

use crate::harness::content;
use crate::site::{EVERY_LOGIN, EVERY_TLS, Login, Site, Tls, assert_same, file, run, succeed};

/// Returns the arguments that run a script against a site.
fn args(site: &Site, tls: Tls, script: &str) -> Vec<String> {
    let settings = match tls {
        Tls::Clear => "set ftp:ssl-allow no",
        Tls::Explicit => "set ftp:ssl-force yes; set ftp:ssl-protect-data yes",
        Tls::Implicit => "set ftp:ssl-protect-data yes",
    };
    let scheme = if tls == Tls::Implicit { "ftps" } else { "ftp" };
    let (user, password) = site.user();
    let script = format!(
        "set cmd:fail-exit yes; set net:max-retries 2; set net:timeout 20; \
         set ssl:verify-certificate no; {settings}; \
         open -u '{user},{password}' {scheme}://{}; {script}; bye",
        site.addr(tls)
    );
    vec!["--norc".to_owned(), "-c".to_owned(), script]
}

#[track_caller]
pub fn lftp(site: &Site, tls: Tls, script: &str) -> String {
    succeed("lftp", &args(site, tls, script), site.local.path())
}

#[test]
fn mirrors_both_ways() {
    for login in EVERY_LOGIN {
        let site = Site::start(login);
        for tls in EVERY_TLS {
            let what = format!("{login:?} {tls:?}");
            lftp(&site, tls, &format!("mirror / down-{tls:?}"));
            for name in ["large.bin", "docs/a name with spaces.txt", "docs/ümläut.txt"] {
                let got = fs::read(site.local(&format!("down-{tls:?}")).join(name)).unwrap();
                assert_same(&got, &file(name), &what);
            }
            let sent: Vec<_> = (0..30).map(|n| content(n, 5000)).collect();
            for (n, bytes) in sent.iter().enumerate() {
                site.write_local(&format!("up-{tls:?}/{}/{n}", n % 3), bytes);
            }
            lftp(&site, tls, &format!("mirror -R --parallel=3 up-{tls:?} up-{tls:?}"));
            for (n, bytes) in sent.iter().enumerate() {
                assert_same(&site.served(&format!("up-{tls:?}/{}/{n}", n % 3)), bytes, &what);
            }
            // Nothing is new: times and sizes were kept.
            let again =
                lftp(&site, tls, &format!("mirror -R -v --only-newer up-{tls:?} up-{tls:?}"));
            assert!(!again.contains("Transferring"), "{what}: {again}");
            lftp(&site, tls, &format!("rm -r up-{tls:?}"));
            assert!(!site.slave.root.join(format!("up-{tls:?}")).exists());
        }
    }
}

#[test]
fn gets_a_file_in_segments() {
    let site = Site::start(Login::Account);
    for tls in EVERY_TLS {
        lftp(&site, tls, &format!("pget -n 4 large.bin -o pget-{tls:?}"));
        let got = fs::read(site.local(&format!("pget-{tls:?}"))).unwrap();
        assert_same(&got, &file("large.bin"), &format!("{tls:?}"));
    }
}

#[test]
fn resumes_both_ways() {
    let site = Site::start(Login::Account);
    let whole = file("large.bin");
    for tls in EVERY_TLS {
        site.write_local("part", &whole[..1_000_000]);
        lftp(&site, tls, "get -c large.bin -o part");
        assert_same(&fs::read(site.local("part")).unwrap(), &whole, "download");
        let (name, sent) = (format!("new-{tls:?}"), content(20 + tls as u64, 4_000_000));
        site.write_local("sent", &sent);
        // The shell of lftp is killed in the middle of the upload.
        let script = format!("set net:limit-rate 500000; put sent -o {name}");
        let killed = [
            vec!["-s".to_owned(), "KILL".to_owned(), "2".to_owned(), "lftp".to_owned()],
            args(&site, tls, &script),
        ]
        .concat();
        assert!(!run("timeout", &killed, site.local.path()).status.success());
        assert!(site.served(&name).is_empty(), "{tls:?}: nothing is published");
        lftp(&site, tls, &format!("put -c sent -o {name}"));
        assert_same(&site.served(&name), &sent, "upload");
    }
}

#[test]
fn edits_the_tree() {
    let site = Site::start(Login::Anonymous);
    lftp(&site, Tls::Clear, "mkdir -p one/two; mv docs/ümläut.txt one/two/x; chmod 640 one/two/x");
    assert_same(&site.served("one/two/x"), &file("docs/ümläut.txt"), "moved");
    let listed = lftp(&site, Tls::Clear, "cls -l one/two");
    assert!(listed.contains("rw-r-----"), "{listed}");
    lftp(&site, Tls::Clear, "rm one/two/x; rmdir one/two; rmdir one");
    assert!(!site.slave.root.join("one").exists());
}
