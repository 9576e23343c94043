//! A master's work must grow with the number of slaves no faster than the number itself.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

#[path = "fleet/mod.rs"]
mod fleet;
#[path = "simulator/rng.rs"]
#[allow(dead_code, reason = "the simulator uses the rest")]
mod rng;

use std::time::Duration;

use fleet::Fleet;
use fleet::master::Cost;
use rng::Rng;

const FILES: u64 = 2_000;
const CHANGES: u64 = 20;

/// Returns what changes and a restart cost a master of so many slaves.
fn costs(slaves: usize) -> (Cost, Cost) {
    let mut fleet = Fleet::new(slaves, FILES);
    fleet.connect_all();
    fleet.master.cost = Cost::default();
    for number in 0..CHANGES {
        fleet.put(FILES + 1 + number, 1);
    }
    let changes = fleet.master.cost;
    let mut rng = Rng::new(1);
    let restart = fleet.restart(Duration::from_secs(3), || rng.next());
    // The joins of a second are spread: 100 ms have at most three times their share.
    assert!(restart.attempts <= slaves * 10, "{restart:?}");
    assert!(restart.peak <= (slaves * 3 / 10).max(10), "{restart:?}");
    assert!(restart.complete < Duration::from_secs(2), "{restart:?}");
    (changes, fleet.master.cost)
}

#[test]
fn messages_grow_with_the_slaves_and_no_faster() {
    let (few, many) = (costs(25), costs(100));
    for (few, many) in [(few.0, many.0), (few.1, many.1)] {
        assert!(many.received <= few.received * 5, "{few:?} {many:?}");
        assert!(many.sent <= few.sent * 5, "{few:?} {many:?}");
        assert!(many.bytes_sent <= few.bytes_sent * 5, "{few:?} {many:?}");
    }
    // A change costs each slave a handful of messages.
    assert!(many.0.sent <= CHANGES * 100 * 3, "{many:?}");
    assert!(many.0.received <= CHANGES * 100 * 4, "{many:?}");
}

#[test]
fn a_restart_does_not_walk_the_tree_for_each_slave() {
    // A walk of 20,000 files for each of 40 slaves would cost many times as much.
    let mut fleet = Fleet::new(40, 20_000);
    fleet.connect_all();
    let small = {
        let mut fleet = Fleet::new(40, 1_000);
        fleet.connect_all();
        fleet.master.cost.processor
    };
    let large = fleet.master.cost.processor;
    assert!(large < small * 10 + Duration::from_millis(100), "{small:?} {large:?}");
}
