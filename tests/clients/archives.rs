//! Archives of folders, unpacked by GNU tar and by Python's zipfile, in the clear and by TLS.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::harness::{SOON, Standalone, TestDir, content, eventually, write_old};
use crate::site::{ready, succeed, words};

/// Checks sums, attributes and names of an archive, then unpacks it.
const UNZIP: &str = "\
import sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None
for info in archive.infolist():
    assert info.create_system == 3, info
    assert info.is_dir() == (info.external_attr >> 28 == 4), info
archive.extractall('zip')";

/// Starts a slave with a tree that has long, deep and odd names; returns its HTTP addresses.
fn start() -> (Standalone, [SocketAddr; 2]) {
    let dir = TestDir::new();
    let root = dir.folder("root");
    write_old(&root.join("top/large"), &content(1, 3_000_001));
    write_old(&root.join("top/empty file"), b"");
    write_old(&root.join("top/ümläut \"quoted\" $(x)"), b"odd");
    write_old(&root.join(format!("top/{}", "x".repeat(255))), b"long");
    write_old(&root.join(format!("top/{}deep", "folder/".repeat(60))), b"deep");
    fs::create_dir(root.join("top/empty")).unwrap();
    let args = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0"];
    let slave = Standalone::start_in(dir, root, &args, &[]);
    let addrs = ["http", "https"].map(|protocol| ready(&slave.program, protocol));
    (slave, addrs)
}

fn fetch(url: &str, name: &str, folder: &Path) {
    let mut args = words(["-sS", "-k", "-f", "-o", name]);
    args.push(url.to_owned());
    succeed("curl", &args, folder);
}

/// Compares what was unpacked with what is served.
fn compare(unpacked: &str, slave: &Standalone, folder: &Path) {
    let served = slave.root.join("top").display().to_string();
    succeed("diff", &words(["-r", unpacked, &served]), folder);
}

#[test]
fn tar_and_python_unpack_archives() {
    let (slave, [clear, encrypted]) = start();
    let deep = format!("http://{clear}/top/{}deep", "folder/".repeat(60));
    let local = TestDir::new();
    eventually(SOON, "the tree is published", || {
        let args = words(["-s", "-o", "/dev/null", "-w", "%{http_code}", &deep]);
        (succeed("curl", &args, local.path()) == "200").then_some(())
    });
    for url in [format!("http://{clear}/top/"), format!("https://{encrypted}/top/")] {
        let local = TestDir::new();
        fetch(&format!("{url}?tar"), "top.tar", local.path());
        succeed("tar", &words(["-xpf", "top.tar"]), local.path());
        compare("top", &slave, local.path());
        let served = fs::metadata(slave.root.join("top/large")).unwrap();
        let unpacked = fs::metadata(local.path().join("top/large")).unwrap();
        assert_eq!(unpacked.permissions(), served.permissions());
        let seconds = |meta: &fs::Metadata| {
            let since = meta.modified().unwrap().duration_since(std::time::UNIX_EPOCH);
            since.unwrap().as_secs()
        };
        assert_eq!(seconds(&unpacked), seconds(&served));
        fetch(&format!("{url}?zip"), "top.zip", local.path());
        succeed("python3", &words(["-c", UNZIP, "top.zip"]), local.path());
        compare("zip/top", &slave, local.path());
    }
}
