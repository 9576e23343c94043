//! The limit of sessions for each address.

use nix::sys::signal::{Signal, kill};

use crate::harness::{
    Client, Network, Program, ProgramBuilder, SOON, TestDir, children, eventually, write_old,
};

/// A client that keeps its session open.
struct HeldSession {
    client: Client,
    program: Program,
}

#[test]
fn sessions_of_an_address_are_limited_and_released() {
    let network = Network::new();
    let dir = TestDir::new();
    let root = dir.folder("root");
    write_old(&root.join("f"), b"content");
    let mut slave = ProgramBuilder::new("ftpslave", dir.path())
        .args([
            "0",
            "--standalone",
            "--listen",
            "0.0.0.0",
            "--workers",
            "2",
            "--sessions-per-address",
            "2",
            "--root",
        ])
        .args([&root])
        .under(&network.under())
        .start();
    let port = slave.ready().port();
    let hold = |host: &str| {
        let client = Client::new(format!("{host}:{port}"));
        let mut program =
            client.setup(&["--retry", "0"]).under(&network.under()).with_stdin().start();
        program.type_in("pwd\n");
        eventually(SOON, "a session or a refusal", || {
            (program.stdout.text().contains('/') || program.try_status().is_some()).then_some(())
        });
        HeldSession { client, program }
    };
    let mut held = [hold(Network::ADDRESS), hold(Network::ADDRESS)];
    assert!(held.iter_mut().all(|held| held.program.try_status().is_none()));
    let mut refused = hold(Network::ADDRESS);
    let output = Client::finish(&mut refused.program).fails(3);
    assert!(output.stderr.contains("your address has as many sessions"), "{output:?}");
    // Loopback has no limit.
    let mut inside: Vec<HeldSession> = (0..4).map(|_| hold("127.0.0.1")).collect();
    assert!(inside.iter_mut().all(|held| held.program.try_status().is_none()));
    // One client leaves, and another is admitted.
    held[0].program.type_in("bye\n");
    assert_eq!(held[0].program.wait(SOON), 0);
    held[0] = hold(Network::ADDRESS);
    assert!(held[0].program.try_status().is_none());
    // Sessions of killed clients and of killed workers are released.
    for held in &mut held {
        held.program.kill();
    }
    eventually(SOON, "one free session", || {
        hold(Network::ADDRESS).program.try_status().is_none().then_some(())
    });
    let mut again = [hold(Network::ADDRESS), hold(Network::ADDRESS)];
    assert!(
        again
            .iter_mut()
            .all(|held| held.program.try_status().is_none() && held.client.home().exists())
    );
    for child in children(slave.pid()) {
        let _ = kill(child, Signal::SIGKILL);
    }
    eventually(SOON, "two free sessions", || {
        let mut two = [hold(Network::ADDRESS), hold(Network::ADDRESS)];
        two.iter_mut().all(|held| held.program.try_status().is_none()).then_some(())
    });
}
