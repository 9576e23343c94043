//! A foreign server that claims the id of a known cluster gets none of the client's data.

use std::fs;
use std::sync::{Arc, Mutex};

use relais_proto::{Capabilities, ClusterId, Lsn, Reply, Request, ServerRole, SlaveId, VERSIONS};

use super::{CommandFixture, write};
use crate::harness::{
    Client, FakeServer, Fault, Program, ProgramBuilder, Proxy, Pty, SOON, content, polite,
};

const FORGED: Lsn = Lsn { epoch: u32::MAX, number: 7 };

/// Starts a server that claims this id and the highest LSN, and records its requests.
fn claiming(cluster: ClusterId) -> (FakeServer, Arc<Mutex<Vec<Request>>>) {
    let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let server = FakeServer::start(move |request| {
        seen.lock().unwrap().push(request.clone());
        let reply = match request {
            Request::Hello(_) => Reply::Welcome {
                version: VERSIONS.1,
                role: ServerRole::Standalone,
                cluster,
                capabilities: Capabilities::default(),
                agent: "fake".to_owned(),
            },
            Request::Login(_) => {
                Reply::Opened { slave: SlaveId([8; 16]), lsn: FORGED, writable: true }
            }
            other => return (polite(other), false),
        };
        (FakeServer::encoded(&[reply]), false)
    });
    (server, asked)
}

/// Runs a client in the same folders against another server.
fn setup(client: &Client, server: impl std::fmt::Display) -> ProgramBuilder {
    ProgramBuilder::new("ftpclient", client.home())
        .args([server.to_string().as_str(), "-d"])
        .args([client.folder()])
}

#[track_caller]
fn prompt(setup: ProgramBuilder) -> Program {
    let (mut pty, mut program) = Pty::start(setup);
    pty.screen.wait_for(SOON, "the prompt", |screen| screen.contains("> ").then_some(()));
    pty.press("bye\r");
    program.wait(SOON);
    program
}

#[test]
fn a_server_with_a_claimed_cluster_id_gets_no_upload() {
    let fixture = CommandFixture::new(&[("there", b"1")]);
    let proxy = Proxy::to(fixture.slave.addr);
    let client = Client::new(proxy.addr());
    let bytes = content(1, 12 << 20);
    write(&client.folder().join("secret"), &bytes);
    proxy.fault_at_data(4 << 20, Fault::Stall);
    let mut program = client.start(&["-c", "put secret"]);
    proxy.wait_struck();
    program.kill();
    proxy.cut_all();
    proxy.disarm();
    let log = fs::read(client.folder().join(".log")).unwrap();
    let cluster = client.command("status").ok().json()["cluster"].as_str().unwrap().to_owned();

    // On another host: it gets no upload, and its LSN does not count for the cluster.
    let (fake, asked) = claiming(cluster.parse().unwrap());
    prompt(setup(&client, fake.addr));
    let mut script = setup(&client, fake.addr).args(["-c", "ls"]).start();
    Client::finish(&mut script).ok();
    for request in asked.lock().unwrap().iter() {
        assert!(
            !matches!(request, Request::Put(_) | Request::Resume { .. } | Request::Ticket { .. }),
            "{request:?}"
        );
        if let Request::Login(login) = request {
            assert_eq!((login.lsn, login.prefer), (Lsn::default(), None));
        }
    }
    assert!(fs::read(client.folder().join(".log")).unwrap() == log);
    let output = client.run(&["-c", "ls"]).ok();
    assert!(output.stderr.is_empty() && output.stdout.contains("there"), "{output:?}");

    // On the known host, in clear text: its LSN is dropped as soon as the real host answers again.
    proxy.set_target(fake.addr);
    client.run(&["-c", "ls"]).ok();
    proxy.set_target(fixture.slave.addr);
    let output = client.run(&["-c", "ls"]).ok();
    assert!(output.stdout.contains("there"), "{output:?}");
    assert!(output.stderr.contains("warning: change 4294967295-7 was seen"), "{output:?}");
    let output = client.run(&["-c", "ls"]).ok();
    assert!(output.stderr.is_empty(), "the warning is repeated: {output:?}");
    client.resume_at_a_prompt();
    assert!(fixture.served("secret") == bytes);
}
