//! The HAProxy configuration of docs/monitoring.md: slaves behind a proxy that checks their health.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use crate::harness::{
    Client, Cluster, Program, ProgramBuilder, SOON, TestDir, content, eventually,
};
use crate::site::{assert_same, ready, run, succeed, words};

/// Returns the configuration of the document.
fn configuration() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring.md");
    let document = fs::read_to_string(path).unwrap();
    let (_, block) = document.split_once("```haproxy\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

/// Starts HAProxy in front of two slaves; its answers name the server in `X-Server`.
fn proxy(dir: &TestDir, slaves: [SocketAddr; 2]) -> (Program, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = configuration()
        .replace("bind :80", &format!("bind 127.0.0.1:{port}"))
        .replace("192.0.2.11:8080", &slaves[0].to_string())
        .replace("192.0.2.12:8080", &slaves[1].to_string())
        + "    http-response set-header X-Server %s\n";
    let config = dir.path().join("haproxy.cfg");
    fs::write(&config, text).unwrap();
    let command = [Path::new("haproxy"), Path::new("-db"), Path::new("-f"), &config];
    let program = ProgramBuilder::of(&command, dir.path()).start();
    (program, format!("http://127.0.0.1:{port}"))
}

/// Returns the servers that answer four requests in a row; none if one fails.
fn servers(url: &str, folder: &Path) -> Option<Vec<String>> {
    let server = || {
        let args = words(["-sS", "-f", "--max-time", "5", "-D", "-", "-o", "got", url]);
        let output = run("curl", &args, folder);
        let head = String::from_utf8_lossy(&output.stdout).to_lowercase();
        let line = head.lines().find_map(|line| line.strip_prefix("x-server: "))?;
        output.status.success().then(|| line.trim().to_owned())
    };
    let mut names = (0..4).map(|_| server()).collect::<Option<Vec<_>>>()?;
    names.sort_unstable();
    names.dedup();
    Some(names)
}

fn operate(cluster: &Cluster, words: &[&str]) {
    let key = cluster.key();
    let mut program = ProgramBuilder::new("ftpmaster", cluster.dir.path())
        .args(words)
        .args(["--master", &cluster.addr.to_string(), "--cluster-key"])
        .args([&key])
        .start();
    Client::finish(&mut program).ok();
}

#[test]
fn a_drained_slave_gets_no_requests() {
    let sent = content(81, 2_000_000);
    let args = ["--http", "127.0.0.1:0", "--trusted-proxy", "127.0.0.1"];
    let cluster = Cluster::of(2).slave_args(&args).file("f", &sent).start();
    cluster.wait_hashed();
    let slaves = [0, 1].map(|slave| ready(&cluster.slaves[slave].program, "http"));
    let local = TestDir::new();
    let (mut program, url) = proxy(&local, slaves);
    let file = format!("{url}/f");
    let become_servers = |what: &str, expected: &[&str]| {
        eventually(SOON, what, || (servers(&file, local.path())? == expected).then_some(()));
    };
    become_servers("both slaves answer", &["slave1", "slave2"]);
    assert_same(&fs::read(local.path().join("got")).unwrap(), &sent, "by the proxy");
    // Without accounts only clients on this host may write: the proxy names the client.
    fs::write(local.path().join("sent"), &sent).unwrap();
    succeed("curl", &words(["-sS", "-f", "-T", "sent", &format!("{url}/new")]), local.path());
    let status = cluster.status_json().unwrap();
    let id = |slave: usize| {
        let addr = cluster.slaves[slave].public().to_string();
        let all = status["slaves"].as_array().unwrap();
        let found = all.iter().find(|entry| entry["addr"] == addr.as_str()).unwrap();
        found["id"].as_str().unwrap().to_owned()
    };
    operate(&cluster, &["drain", &id(0)]);
    become_servers("the drained slave is out of rotation", &["slave2"]);
    operate(&cluster, &["ready", &id(0)]);
    become_servers("the slave is back", &["slave1", "slave2"]);
    // The pages of the servers are not for the clients of the proxy.
    let refused = run("curl", &words(["-s", "-f", &format!("{url}/-/metrics")]), local.path());
    assert_eq!(refused.status.code(), Some(22), "{refused:?}");
    program.kill();
}
