//! The commands of docs/ftp.md, run as they are shown; only host, port and password are replaced.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::TestDir;
use crate::site::{Login, PASSWORD, Site, assert_same, certificate, file};

/// Returns the fenced blocks of the document with this info string.
fn block(info: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ftp.md");
    let document = fs::read_to_string(path).unwrap();
    let (_, block) = document.split_once(&format!("```{info}\n")).unwrap();
    assert!(!block.contains(&format!("```{info}\n")), "one block of {info}");
    block.split_once("```").unwrap().0.to_owned()
}

/// Starts a server with the files of the document and a certificate for its name.
fn start() -> (Site, String) {
    let dir = TestDir::new();
    let options = certificate(dir.path());
    let site = Site::start_with(Login::Account, &options.each_ref().map(String::as_str));
    site.write_local("report.pdf", &file("large.bin"));
    let trusted = site.local("trusted.pem");
    fs::copy(&options[1], &trusted).unwrap();
    (site, trusted.to_str().unwrap().to_owned())
}

/// Runs a program with a script in which host, port and login are those of the site.
#[track_caller]
fn run(site: &Site, trusted: &str, program: &[&str], script: &str) {
    let host = format!("localhost:{}", site.ftp.port());
    let script = script
        .replace("\"files.example\", 2100", &format!("\"localhost\", {}", site.ftp.port()))
        .replace("files.example:2100", &host)
        .replace("-u ann ", &format!("-u 'ann{}{PASSWORD}' ", separator(program[0])));
    let output = Command::new("timeout")
        .arg("60")
        .args(program)
        .arg(&script)
        .current_dir(site.local.path())
        .env("HOME", site.local.path())
        .env("CURL_CA_BUNDLE", trusted)
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}\n{output:?}");
}

/// Returns what is between name and password in a program's options.
fn separator(program: &str) -> char {
    if program == "lftp" { ',' } else { ':' }
}

#[test]
fn documented_curl_commands() {
    let (site, trusted) = start();
    run(&site, &trusted, &["bash", "-e", "-c"], &block("sh curl"));
    assert_same(&fs::read(site.local("lab.iso")).unwrap(), &file("lab.iso"), "got");
    assert_same(&site.served("inbox/report.pdf"), &file("large.bin"), "put");
}

#[test]
fn documented_lftp_commands() {
    let (site, trusted) = start();
    let setup = format!("set cmd:fail-exit yes; set ssl:ca-file {trusted}; ");
    let script = setup + &block("lftp").replace('\n', "; ");
    run(&site, &trusted, &["lftp", "--norc", "-c"], &script);
    assert_same(&fs::read(site.local("lab.iso")).unwrap(), &file("lab.iso"), "pget");
    let photo = fs::read(site.local("photos/one.jpg")).unwrap();
    assert_same(&photo, &file("photos/one.jpg"), "mirror");
    assert_same(&site.served("inbox/report.pdf"), &file("large.bin"), "put");
}

#[test]
fn documented_python() {
    let (site, trusted) = start();
    run(&site, &trusted, &["/usr/bin/python3", "-c"], &block("python"));
    assert_same(&fs::read(site.local("lab.iso")).unwrap(), &file("lab.iso"), "got");
}
