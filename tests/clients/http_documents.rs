//! The commands of docs/http.md and docs/redirector.md, run as they are shown.
//!
//! Only hosts, ports and passwords are replaced.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Cluster, SOON, Standalone, TestDir, content, eventually, write_old};
use crate::site::{PASSWORD, add_user, assert_same, certificate, ready};

/// Returns the fenced blocks of a document with this info string.
fn blocks(document: &str, info: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(document);
    let text = fs::read_to_string(path).unwrap();
    let fence = format!("```{info}\n");
    let blocks = text.split(&fence).skip(1);
    blocks.map(|block| block.split_once("```").unwrap().0.to_owned()).collect()
}

/// Runs the commands of a block in a folder; programs trust this certificate.
#[track_caller]
fn run(script: &str, folder: &Path, trusted: &Path) {
    let output = Command::new("timeout")
        .args(["60", "bash", "-e", "-c", script])
        .current_dir(folder)
        .env("HOME", folder)
        .env("CURL_CA_BUNDLE", trusted)
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}\n{output:?}");
}

#[test]
fn documented_http_commands() {
    let (dir, local) = (TestDir::new(), TestDir::new());
    let root = dir.folder("root");
    let image = content(5, 1_000_000);
    for (name, bytes) in
        [("photos/lake.jpg", &b"lake"[..]), ("report.pdf", b"report"), ("lab.iso", &image)]
    {
        write_old(&root.join(name), bytes);
    }
    fs::create_dir(root.join("inbox")).unwrap();
    fs::write(local.path().join("report.pdf"), "mine").unwrap();
    let options = certificate(dir.path());
    let listeners = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0"];
    let words: Vec<&str> =
        listeners.into_iter().chain(options.iter().map(String::as_str)).collect();
    let trusted = dir.path().join("cert.pem");
    let slave = Standalone::start_in(dir, root, &words, &[]);
    let [http, https] = ["http", "https"].map(|protocol| ready(&slave.program, protocol).port());
    let login = format!("-u 'ann:{PASSWORD}' ");
    let script = |text: &str| {
        text.replace("files.example:8080", &format!("localhost:{http}"))
            .replace("files.example:8443", &format!("localhost:{https}"))
            .replace("-u ann ", &login)
    };
    let [read, change] = <[String; 2]>::try_from(blocks("http.md", "sh curl")).unwrap();
    slave.wait_listed("lab.iso", true);
    // The commands without a login come before the account.
    let (open, with_login): (Vec<&str>, Vec<&str>) =
        read.lines().partition(|line| !line.contains("-u ann "));
    run(&script(&open.join("\n")), local.path(), &trusted);
    let got = |name: &str| fs::read(local.path().join(name)).unwrap();
    assert_eq!(got("lake.jpg"), b"lake");
    assert_same(&got("rest"), &image[1000..], "a range");
    add_user(&slave.dir, &slave.dir.folder("state"), "ann");
    eventually(SOON, "the account is in force", || {
        let refused = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_code}"])
            .arg(format!("http://localhost:{http}/"))
            .output()
            .unwrap();
        (refused.stdout == b"401").then_some(())
    });
    let first = change.lines().next().unwrap();
    run(&script(first), local.path(), &trusted);
    let stored = slave.root.join("inbox/report.pdf");
    assert_eq!(fs::read(&stored).unwrap(), b"mine");
    run(&script(&change.lines().skip(1).collect::<Vec<_>>().join("\n")), local.path(), &trusted);
    assert!(!stored.exists());
    run(&script(&with_login.join("\n")), local.path(), &trusted);
    assert_eq!(got("report.pdf"), b"report");
}

#[test]
fn documented_downloads_from_all_slaves() {
    let (certificates, local) = (TestDir::new(), TestDir::new());
    let options = certificate(certificates.path());
    let trusted = certificates.path().join("cert.pem");
    let image = content(6, 5_000_000);
    let [start] = <[String; 1]>::try_from(blocks("redirector.md", "sh master")).unwrap();
    let start = start
        .replace("--listen 0.0.0.0:2121 ", "")
        .replace("--http 80", "--http 127.0.0.1:0")
        .replace("--https 443", "--https 127.0.0.1:0");
    let mut words = start.split_whitespace();
    assert_eq!(words.next(), Some("ftpmaster"));
    let master: Vec<&str> = words.chain(options.iter().map(String::as_str)).collect();
    let mut slave = vec!["--https", "127.0.0.1:0"];
    slave.extend(options.iter().map(String::as_str));
    let cluster = Cluster::of(2)
        .master_args(&master)
        .slave_args(&slave)
        .file("images/disk.img", &image)
        .start();
    cluster.wait_hashed();
    let port = ready(&cluster.master, "https").port();
    eventually(SOON, "the master knows that both slaves have the file", || {
        let url = format!("https://localhost:{port}/images/disk.img");
        let head = Command::new("curl").args(["-skI", &url]).output().unwrap().stdout;
        String::from_utf8_lossy(&head).contains("rel=duplicate").then_some(())
    });
    let ca = format!("ca-certificate={}\n", trusted.display());
    fs::create_dir(local.path().join(".aria2")).unwrap();
    fs::write(local.path().join(".aria2/aria2.conf"), &ca).unwrap();
    fs::write(local.path().join(".wget2rc"), &ca).unwrap();
    let [downloads] = <[String; 1]>::try_from(blocks("redirector.md", "sh metalink")).unwrap();
    for line in downloads.lines() {
        let _ = fs::remove_file(local.path().join("disk.img"));
        let line = line.replace("files.example.org", &format!("localhost:{port}"));
        run(&line, local.path(), &trusted);
        assert_same(&fs::read(local.path().join("disk.img")).unwrap(), &image, &line);
    }
}
