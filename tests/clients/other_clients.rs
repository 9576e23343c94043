//! Further command-line clients: tnftp, ncftp, wget, aria2 and rclone.

use std::fs;

use crate::harness::content;
use crate::site::{
    EVERY_LOGIN, EVERY_TLS, Login, Site, Tls, assert_same, file, run, succeed, words,
};

#[test]
fn tnftp_gets_puts_and_resumes() {
    for login in EVERY_LOGIN {
        let site = Site::start(login);
        let (user, password) = site.user();
        let base = format!(
            "ftp://{user}:{}@{}",
            password.replace(' ', "%20").replace('@', "%40"),
            site.ftp
        );
        let folder = site.local.path();
        succeed("tnftp", &words(["-o", "got", &format!("{base}/large.bin")]), folder);
        assert_same(&fs::read(site.local("got")).unwrap(), &file("large.bin"), "got");
        site.write_local("part", &file("large.bin")[..1_500_000]);
        succeed("tnftp", &words(["-R", "-o", "part", &format!("{base}/large.bin")]), folder);
        assert_same(&fs::read(site.local("part")).unwrap(), &file("large.bin"), "resumed");
        let sent = content(60, 400_000);
        site.write_local("sent", &sent);
        succeed("tnftp", &words(["-u", &format!("{base}/docs/sent"), "sent"]), folder);
        assert_same(&site.served("docs/sent"), &sent, "sent");
    }
}

#[test]
fn ncftp_gets_puts_and_resumes() {
    for login in EVERY_LOGIN {
        let site = Site::start(login);
        let (user, password) = site.user();
        let (host, port) = (site.ftp.ip().to_string(), site.ftp.port().to_string());
        let (user, folder) = (["-P", &port, "-u", user, "-p", password], site.local.path());
        let with = |options: &[&str], last: &[&str]| {
            let all = [options, &user, &[&host], last].concat();
            all.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        succeed("ncftpget", &with(&["-V"], &[".", "/large.bin"]), folder);
        assert_same(&fs::read(site.local("large.bin")).unwrap(), &file("large.bin"), "got");
        fs::write(site.local("large.bin"), &file("large.bin")[..100_000]).unwrap();
        succeed("ncftpget", &with(&["-V", "-z"], &[".", "/large.bin"]), folder);
        assert_same(&fs::read(site.local("large.bin")).unwrap(), &file("large.bin"), "resumed");
        let sent = content(61, 400_000);
        site.write_local("sent", &sent);
        succeed("ncftpput", &with(&["-V"], &["/docs", "sent"]), folder);
        assert_same(&site.served("docs/sent"), &sent, "sent");
        succeed("ncftpget", &with(&["-V", "-R"], &["tree", "/docs"]), &site.local.folder("."));
        assert_same(&fs::read(site.local("tree/docs/sent")).unwrap(), &sent, "recursive");
    }
}

/// A recursive listing in one answer is not offered. These clients say so, or list each folder.
#[test]
fn recursive_listings_are_refused_or_done_by_the_client() {
    let site = Site::start(Login::Anonymous);
    let (host, port) = (site.ftp.ip().to_string(), site.ftp.port().to_string());
    let folder = site.local.path();
    let url = format!("ftp://{host}/docs/");
    let refused = run("ncftpls", &words(["-R", "-P", &port, &url]), folder);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    let listed = succeed("ncftpls", &words(["-P", &port, &url]), folder);
    assert!(listed.contains("a name with spaces.txt"), "{listed}");
    let lftp = |command: &str| {
        run("lftp", &words(["-c", &format!("open -p {port} {host}; {command}")]), folder)
    };
    let refused = lftp("ls -R");
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && errors.contains("504"), "{refused:?}");
    let found = lftp("find");
    let names = String::from_utf8_lossy(&found.stdout);
    assert!(names.contains("./docs/a name with spaces.txt"), "{names}");
}

#[test]
fn wget_mirrors_and_resumes() {
    for login in EVERY_LOGIN {
        let site = Site::start(login);
        let (user, password) = site.user();
        for tls in EVERY_TLS {
            let mut options = words([
                "-nv",
                "--no-check-certificate",
                "--tries=2",
                "--user",
                user,
                "--password",
                password,
            ]);
            if tls == Tls::Implicit {
                options.push("--ftps-implicit".to_owned());
            }
            let scheme = if tls == Tls::Clear { "ftp" } else { "ftps" };
            let base = format!("{scheme}://{}", site.addr(tls));
            let folder = site.local.folder(&format!("{tls:?}"));
            let with = |more: &[&str]| {
                let more = more.iter().map(|word| (*word).to_owned());
                options.iter().cloned().chain(more).collect::<Vec<_>>()
            };
            succeed("wget", &with(&["-m", "-nH", &format!("{base}/")]), &folder);
            for name in ["large.bin", "docs/a name with spaces.txt", "docs/ümläut.txt"] {
                assert_same(
                    &fs::read(folder.join(name)).unwrap(),
                    &file(name),
                    &format!("{tls:?} {name}"),
                );
            }
            fs::write(folder.join("large.bin"), &file("large.bin")[..2_000_000]).unwrap();
            succeed("wget", &with(&["-c", &format!("{base}/large.bin")]), &folder);
            assert_same(
                &fs::read(folder.join("large.bin")).unwrap(),
                &file("large.bin"),
                "resumed",
            );
        }
    }
}

#[test]
fn aria2_gets_in_parallel_and_resumes() {
    for login in EVERY_LOGIN {
        let site = Site::start(login);
        let (user, password) = site.user();
        let (user, password) = (format!("--ftp-user={user}"), format!("--ftp-passwd={password}"));
        let url = format!("ftp://{}/large.bin", site.ftp);
        let options = ["-q", "--no-conf", "-x", "4", "-s", "4", "-k", "1M", &user, &password];
        let with = |more: &[&str]| {
            options.iter().chain(more).map(|word| (*word).to_owned()).collect::<Vec<_>>()
        };
        succeed("aria2c", &with(&["-o", "got", &url]), site.local.path());
        assert_same(&fs::read(site.local("got")).unwrap(), &file("large.bin"), "parallel");
        site.write_local("part", &file("large.bin")[..1_000_000]);
        succeed("aria2c", &with(&["-c", "-o", "part", &url]), site.local.path());
        assert_same(&fs::read(site.local("part")).unwrap(), &file("large.bin"), "resumed");
    }
}

#[test]
fn rclone_syncs_and_checks() {
    for login in EVERY_LOGIN {
        let site = Site::start(login);
        let (user, password) = site.user();
        let folder = site.local.path();
        let obscured = succeed("rclone", &words(["obscure", password]), folder).trim().to_owned();
        for tls in EVERY_TLS {
            let addr = site.addr(tls);
            let tls_options = match tls {
                Tls::Clear => "",
                Tls::Explicit => ",explicit_tls=true,no_check_certificate=true",
                Tls::Implicit => ",tls=true,no_check_certificate=true",
            };
            let remote = |path: &str| {
                format!(
                    ":ftp,host={},port={},user={user},pass={obscured}{tls_options}:{path}",
                    addr.ip(),
                    addr.port()
                )
            };
            let (down, up) = (format!("down-{tls:?}"), format!("up-{tls:?}"));
            succeed("rclone", &words(["copy", &remote("docs"), &down]), folder);
            let got = fs::read(site.local(&down).join("ümläut.txt")).unwrap();
            assert_same(&got, &file("docs/ümläut.txt"), "copied");
            for n in 0..20 {
                site.write_local(&format!("{up}/{}/{n}", n % 2), &content(n, 3000));
            }
            succeed("rclone", &words(["sync", &up, &remote(&up)]), folder);
            succeed("rclone", &words(["check", "--download", &up, &remote(&up)]), folder);
            succeed("rclone", &words(["purge", &remote(&up)]), folder);
            assert!(!site.slave.root.join(&up).exists(), "{login:?} {tls:?}");
        }
    }
}

#[test]
fn a_wrong_password_lets_no_client_in() {
    let site = Site::start(Login::Account);
    for user in ["ann:wrong", "bob:correct horse", "anonymous:guest"] {
        let url = format!("ftp://{}/large.bin", site.ftp);
        let args = words(["-sS", "-k", "--ssl-reqd", "-u", user, "-o", "got", &url]);
        let output = crate::site::run("curl", &args, site.local.path());
        assert_eq!(output.status.code(), Some(67), "{user}: curl reports a denied login");
    }
}
