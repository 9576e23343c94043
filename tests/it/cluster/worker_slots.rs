//! Slaves and clients do not take each other's places.

use std::fs;
use std::time::Duration;

use super::tree_equality::wait_equal;
use crate::harness::{Cluster, SOON, eventually};

#[test]
fn with_one_place_a_worker_slaves_fetch_from_each_other_and_clients_get_in() {
    let pool = ["--workers", "2", "--sessions-per-worker", "1", "--queue", "2"];
    let cluster = Cluster::of(2).slave_args(&pool).start();
    let client = cluster.client();
    fs::create_dir(client.folder().join("d")).unwrap();
    for n in 0..60 {
        fs::write(client.folder().join("d").join(format!("f{n}")), [n; 2000]).unwrap();
    }
    client.run(&["-c", "put -r d"]).ok();
    wait_equal(&cluster);
    // At both of them, time and again.
    for _ in 0..6 {
        let program = &mut client.start(&["-c", "ls d"]);
        assert_eq!(program.wait(Duration::from_secs(20)), 0);
    }
    // Clients that hold all places keep no slave from the others' contents.
    let mut held: Vec<_> = (0..4)
        .map(|_| {
            let client = cluster.client();
            let mut program = client.setup(&[]).with_stdin().start();
            program.type_in("pwd\n");
            (program, client)
        })
        .collect();
    eventually(SOON, "all places are taken", || {
        held.iter().all(|(program, _)| program.stdout.text().contains('/')).then_some(())
    });
    fs::write(cluster.slaves[0].root.join("by-hand"), "put there").unwrap();
    eventually(SOON, "the other slave has it", || {
        cluster.slaves[1].root.join("by-hand").exists().then_some(())
    });
    held.iter_mut().for_each(|(program, _)| program.kill());
}
