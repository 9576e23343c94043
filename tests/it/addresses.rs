//! How many sessions one address may have.

use nix::sys::signal::{Signal, kill};

use crate::harness::{
    Client, Network, Program, SOON, Setup, TestDir, children, eventually, write_old,
};

/// A client that has a session and keeps it.
struct Held {
    client: Client,
    program: Program,
}

#[test]
fn an_address_has_so_many_sessions_and_gives_them_back() {
    let network = Network::new();
    let dir = TestDir::new();
    let root = dir.folder("root");
    write_old(&root.join("f"), b"content");
    let mut slave = Setup::new("ftpslave", dir.path())
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
        eventually(SOON, "a session, or none", || {
            (program.stdout.text().contains('/') || program.try_status().is_some()).then_some(())
        });
        Held { client, program }
    };
    let mut held = [hold(Network::ADDRESS), hold(Network::ADDRESS)];
    assert!(held.iter_mut().all(|held| held.program.try_status().is_none()));
    let mut refused = hold(Network::ADDRESS);
    let output = Client::finish(&mut refused.program).fails(3);
    assert!(output.stderr.contains("your address has as many sessions"), "{output:?}");
    // Not for the machine itself.
    let mut inside: Vec<Held> = (0..4).map(|_| hold("127.0.0.1")).collect();
    assert!(inside.iter_mut().all(|held| held.program.try_status().is_none()));
    // One leaves, and another one comes.
    held[0].program.type_in("bye\n");
    assert_eq!(held[0].program.wait(SOON), 0);
    held[0] = hold(Network::ADDRESS);
    assert!(held[0].program.try_status().is_none());
    // The sessions of workers that die are given back, and so are those of clients that do.
    for held in &mut held {
        held.program.kill();
    }
    eventually(SOON, "room for one", || {
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
    eventually(SOON, "room for two", || {
        let mut two = [hold(Network::ADDRESS), hold(Network::ADDRESS)];
        two.iter_mut().all(|held| held.program.try_status().is_none()).then_some(())
    });
}
