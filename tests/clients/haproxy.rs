//! The HAProxy configuration of docs/ftp-cluster.md, with two slaves behind it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use nix::sys::signal::Signal;

use crate::harness::{Cluster, Program, ProgramBuilder, SOON, TestDir, content, eventually};
use crate::site::{assert_same, ready, run, succeed, words};

/// Address of the proxy; the slaves have others, so equal ports do not collide.
const PROXY: &str = "127.0.0.2";

/// Returns the configuration of the document.
fn configuration() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ftp-cluster.md");
    let document = fs::read_to_string(path).unwrap();
    let (_, block) = document.split_once("```haproxy\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

/// Starts a slave as the document does, behind the proxy.
#[track_caller]
fn start_slave(cluster: &Cluster, address: &str, passive: &str) -> (Program, SocketAddr) {
    let (root, ftp) = (cluster.dir.folder(address), format!("{address}:0"));
    let master = cluster.addr.to_string();
    let options = ["0", "--master", &master, "--ftp", &ftp, "--ftp-passive", passive];
    let proxy = ["--ftp-public", PROXY, "--trusted-proxy", "127.0.0.1/32"];
    let mut program = ProgramBuilder::new("ftpslave", cluster.dir.path())
        .args(options.iter().chain(&proxy))
        .args([Path::new("--root"), &root, Path::new("--cluster-key"), &cluster.key()])
        .start();
    program.ready();
    let addr = ready(&program, "ftp");
    (program, addr)
}

fn free_port() -> u16 {
    TcpListener::bind((PROXY, 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn the_documented_configuration_spreads_clients() {
    let mut cluster = Cluster::of(0).start();
    let (slave1, ftp1) = start_slave(&cluster, "127.0.0.11", "50000-50099");
    let (slave2, ftp2) = start_slave(&cluster, "127.0.0.12", "50100-50199");
    cluster.wait_in_service(2);
    let port = free_port();
    let text = configuration()
        .replace("bind :21\n", &format!("bind {PROXY}:{port}\n"))
        .replace("bind :", &format!("bind {PROXY}:"))
        .replace("192.0.2.11:2100", &ftp1.to_string())
        .replace("192.0.2.12:2100", &ftp2.to_string())
        .replace("192.0.2.11", "127.0.0.11")
        .replace("192.0.2.12", "127.0.0.12");
    let local = TestDir::new();
    let config = local.path().join("haproxy.cfg");
    fs::write(&config, text).unwrap();
    let command = [Path::new("haproxy"), Path::new("-db"), Path::new("-f"), &config];
    let mut proxy = ProgramBuilder::of(&command, local.path()).start();
    let url = format!("ftp://{PROXY}:{port}/");
    eventually(SOON, "the proxy passes connections", || {
        let listed = run("curl", &words(["-s", "--max-time", "5", &url]), local.path());
        listed.status.success().then_some(())
    });
    let sent = content(80, 3_000_000);
    fs::write(local.path().join("sent"), &sent).unwrap();
    // leastconn takes the slaves in turn while there is no load.
    for round in 0..4 {
        let target = format!("{url}file-{round}");
        let modes = if round % 2 == 0 { "--ftp-pasv" } else { "--disable-epsv" };
        succeed("curl", &words(["-sS", modes, "-T", "sent", &target]), local.path());
        // The next connection reaches the other slave.
        succeed("curl", &words(["-sS", modes, "-o", "got", &target]), local.path());
        assert_same(&fs::read(local.path().join("got")).unwrap(), &sent, &target);
    }
    for (slave, name) in [(&slave1, "the first"), (&slave2, "the second")] {
        let log = slave.stderr.text();
        assert!(log.contains("127.0.0.1:"), "{name} slave saw the client's address: {log}");
    }
    // A client that is no proxy has to come through the proxy.
    let direct = format!("ftp://{ftp1}/");
    let refused = run("curl", &words(["-s", "--max-time", "15", &direct]), local.path());
    assert!(!refused.status.success(), "a trusted proxy has to send the header");
    cluster.master.stop(Signal::SIGTERM);
    proxy.kill();
}
