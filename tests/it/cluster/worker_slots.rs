//! Worker slots: slaves and clients do not occupy each other's slots.

use std::fs;
use std::time::Duration;

use super::tree_equality::wait_equal;
use crate::harness::{Cluster, SOON, eventually};

#[test]
fn one_slot_per_worker_serves_slaves_and_clients() {
    let pool = ["--workers", "2", "--sessions-per-worker", "1", "--queue", "2"];
    let cluster = Cluster::of(2).slave_args(&pool).start();
    let client = cluster.client();
    fs::create_dir(client.folder().join("d")).unwrap();
    for n in 0..60 {
        fs::write(client.folder().join("d").join(format!("f{n}")), [n; 2000]).unwrap();
    }
    client.run(&["-c", "put -r d"]).ok();
    wait_equal(&cluster);
    // At both slaves, repeatedly.
    for _ in 0..6 {
        let program = &mut client.start(&["-c", "ls d"]);
        assert_eq!(program.wait(Duration::from_secs(20)), 0);
    }
    // Clients that occupy all slots do not block replication.
    let mut held: Vec<_> = (0..4)
        .map(|_| {
            let client = cluster.client();
            let mut program = client.setup(&[]).with_stdin().start();
            program.type_in("pwd\n");
            (program, client)
        })
        .collect();
    eventually(SOON, "all slots are occupied", || {
        held.iter().all(|(program, _)| program.stdout.text().contains('/')).then_some(())
    });
    fs::write(cluster.slaves[0].root.join("by-hand"), "put there").unwrap();
    eventually(SOON, "the other slave has the file", || {
        cluster.slaves[1].root.join("by-hand").exists().then_some(())
    });
    held.iter_mut().for_each(|(program, _)| program.kill());
}
