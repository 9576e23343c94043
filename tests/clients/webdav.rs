//! WebDAV: the test suite litmus, and the clients cadaver, rclone and davfs2.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{SOON, Standalone, TestDir, content, eventually, write_old};
use crate::site::{EVERY_LOGIN, Login, PASSWORD, add_user, assert_same, ready, succeed, words};

/// A standalone slave with HTTP, and a folder for the client.
struct DavSite {
    slave: Standalone,
    http: SocketAddr,
    local: TestDir,
}

impl DavSite {
    #[track_caller]
    fn start(login: Login) -> Self {
        let dir = TestDir::new();
        let root = dir.folder("root");
        write_old(&root.join("docs/a name with spaces.txt"), &content(1, 70_000));
        write_old(&root.join("docs/ümläut.txt"), &content(2, 3_000_001));
        if login == Login::Account {
            add_user(&dir, &dir.folder("state"), "ann");
        }
        let slave = Standalone::start_in(dir, root, &["--http", "127.0.0.1:0"], &[]);
        let http = ready(&slave.program, "http");
        Self { slave, http, local: TestDir::new() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.http)
    }

    fn served(&self, name: &str) -> Vec<u8> {
        fs::read(self.slave.root.join(name)).unwrap_or_default()
    }

    fn write_local(&self, name: &str, bytes: &[u8]) {
        let path = self.local.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn litmus_passes_completely() {
    for login in EVERY_LOGIN {
        let site = DavSite::start(login);
        let mut made = words(["-sSf", "-X", "MKCOL", &site.url("tests/")]);
        if login == Login::Account {
            made.extend(words(["-u", &format!("ann:{PASSWORD}")]));
        }
        succeed("curl", &made, site.local.path());
        let mut args = vec!["-k".to_owned(), site.url("tests/")];
        if login == Login::Account {
            args.extend(words(["ann", PASSWORD]));
        }
        let output = succeed("litmus", &args, site.local.path());
        for suite in ["basic", "copymove", "props", "locks", "http"] {
            let summary = format!("<- summary for `{suite}': ");
            let (_, rest) = output.split_once(&summary).unwrap_or_else(|| panic!("{output}"));
            let line = rest.lines().next().unwrap();
            assert!(line.ends_with(" passed, 0 failed. 100.0%"), "{line}\n{output}");
        }
        assert!(!output.contains("WARNING"), "{output}");
        assert!(!output.contains("SKIPPED"), "{output}");
    }
}

#[test]
fn cadaver_gets_puts_locks_and_sets_properties() {
    for login in EVERY_LOGIN {
        let site = DavSite::start(login);
        if login == Login::Account {
            let netrc = format!("machine {} login ann password \"{PASSWORD}\"\n", site.http.ip());
            site.write_local(".netrc", netrc.as_bytes());
            let path = site.local.path().join(".netrc");
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        site.write_local("sent", &content(5, 100_000));
        let script = "ls docs\nget docs/ümläut.txt got\nmkcol new\nput sent new/sent\n\
             lock new/sent\ndiscover new/sent\nunlock new/sent\n\
             propset new/sent color blue\npropget new/sent color\n\
             copy new/sent new/copy\nmove new/copy new/moved\ndelete new/moved\nquit\n";
        let mut child = Command::new("cadaver")
            .arg(site.url(""))
            .current_dir(site.local.path())
            .env("HOME", site.local.path())
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains("failed"), "{login:?}: {text}");
        assert!(text.contains("blue"), "{login:?}: {text}");
        let got = fs::read(site.local.path().join("got")).unwrap();
        assert_same(&got, &content(2, 3_000_001), "got");
        assert_same(&site.served("new/sent"), &content(5, 100_000), "sent");
        assert!(!site.slave.root.join("new/moved").exists());
    }
}

#[test]
fn rclone_syncs_and_keeps_times() {
    for login in EVERY_LOGIN {
        let site = DavSite::start(login);
        let folder = site.local.path();
        let mut options = format!(":webdav,url='{}',vendor=owncloud", site.url(""));
        if login == Login::Account {
            let obscured = succeed("rclone", &words(["obscure", PASSWORD]), folder);
            options.push_str(&format!(",user=ann,pass={}", obscured.trim()));
        }
        let remote = |path: &str| format!("{options}:{path}");
        succeed("rclone", &words(["copy", &remote("docs"), "down"]), folder);
        assert_same(
            &fs::read(folder.join("down/ümläut.txt")).unwrap(),
            &content(2, 3_000_001),
            "got",
        );
        for n in 0..20 {
            site.write_local(&format!("up/{}/{n}", n % 2), &content(n, 3000));
        }
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_500_000_000);
        fs::File::open(folder.join("up/0/0")).unwrap().set_modified(old).unwrap();
        succeed("rclone", &words(["sync", "up", &remote("up")]), folder);
        succeed("rclone", &words(["check", "--download", "up", &remote("up")]), folder);
        let time = fs::metadata(site.slave.root.join("up/0/0")).unwrap().modified().unwrap();
        assert_eq!(time, old, "the time is kept");
        succeed("rclone", &words(["moveto", &remote("up/0/0"), &remote("moved")]), folder);
        assert_same(&site.served("moved"), &content(0, 3000), "moved");
        succeed("rclone", &words(["purge", &remote("up")]), folder);
        assert!(!site.slave.root.join("up").exists(), "{login:?}");
    }
}

/// Unmounts and removes a mount point, also if the test fails.
struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).output();
    }
}

#[test]
fn davfs2_mounts_reads_and_writes() {
    if !Path::new("/dev/fuse").exists() || !rustix::process::geteuid().is_root() {
        eprintln!("davfs2 was not tried: it needs root and /dev/fuse");
        return;
    }
    let site = DavSite::start(Login::Account);
    let folder = site.local.path();
    let (point, secrets) = (site.local.folder("mnt"), folder.join("secrets"));
    let login = format!("{} ann \"{PASSWORD}\"\n", site.url(""));
    site.write_local("secrets", login.as_bytes());
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).unwrap();
    // davfs2 lists no folder with smaller buffers on Linux from 6.16 on.
    let options = "delay_upload 0\nuse_locks 1\nbuf_size 64\n";
    let config = format!("secrets {}\n{options}", secrets.display());
    site.write_local("davfs2.conf", config.as_bytes());
    let conf = format!("conf={},uid=0", folder.join("davfs2.conf").display());
    let point_text = point.to_str().unwrap();
    succeed("mount.davfs", &words(["-o", &conf, &site.url(""), point_text]), folder);
    let mounted = Mount(&point);
    let listed = fs::read_dir(point.join("docs")).unwrap().count();
    assert_eq!(listed, 2);
    let got = fs::read(point.join("docs/ümläut.txt")).unwrap();
    assert_same(&got, &content(2, 3_000_001), "got");
    fs::create_dir(point.join("new")).unwrap();
    fs::write(point.join("new/file"), content(9, 200_000)).unwrap();
    fs::rename(point.join("docs/a name with spaces.txt"), point.join("new/renamed")).unwrap();
    eventually(SOON, "the file is sent", || {
        (site.served("new/file") == content(9, 200_000)).then_some(())
    });
    assert_same(&site.served("new/renamed"), &content(1, 70_000), "renamed");
    fs::remove_file(point.join("new/renamed")).unwrap();
    drop(mounted);
    assert!(!site.slave.root.join("new/renamed").exists());
}
