//! Clients that are killed in the middle of an upload leave no part of it under its name.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{SOON, content, eventually, staged_bytes};
use crate::site::{Login, Site, Tls, assert_same, file};

/// Kills a client once the slave has received a part of its upload; then nothing is published.
#[track_caller]
fn kill_in_upload(site: &Site, program: &str, args: &[String]) {
    let mut client = Command::new(program)
        .args(args)
        .current_dir(site.local.path())
        .env("HOME", site.local.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually(SOON, "a part of the upload has come", || {
        (staged_bytes(&site.slave.root) >= 600_000).then_some(())
    });
    client.kill().unwrap();
    client.wait().unwrap();
    // A wrong server publishes what it has as soon as it notices the end of the data.
    let until = std::time::Instant::now() + Duration::from_secs(2);
    while std::time::Instant::now() < until {
        assert_same(&site.served("large.bin"), &file("large.bin"), "the old file stays");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn killed_uploads_in_the_clear_are_not_published() {
    let site = Site::start(Login::Account);
    let sent = content(9, 6_000_000);
    site.write_local("sent", &sent);
    let url = crate::curl::url(&site, Tls::Clear, "large.bin");
    let mut curl = ["-s", "--limit-rate", "400k", "-T", "sent"].map(str::to_owned).to_vec();
    curl.extend(site.curl_user());
    curl.push(url);
    kill_in_upload(&site, "curl", &curl);
    // The upload that waits continues where the slave has it.
    crate::curl::curl(&site, Tls::Clear, &["-C", "-", "-T", "sent"], "large.bin");
    assert_same(&site.served("large.bin"), &sent, "resumed");
}

#[test]
fn killed_ftplib_uploads_are_not_published() {
    let site = Site::start(Login::Account);
    let script = "
import ftplib, sys, time
ftp = ftplib.FTP(); ftp.connect(sys.argv[1], int(sys.argv[2])); ftp.login(sys.argv[3], sys.argv[4])
data = ftp.transfercmd('STOR large.bin')
while True:
    data.sendall(b'x' * 50000)
    time.sleep(0.05)
";
    let (user, password) = site.user();
    let (host, port) = (site.ftp.ip().to_string(), site.ftp.port().to_string());
    let args = ["-c", script, &host, &port, user, password].map(str::to_owned);
    kill_in_upload(&site, "/usr/bin/python3", &args);
}
