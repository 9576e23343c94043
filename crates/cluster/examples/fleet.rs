//! Simulates a thousand slaves and prints what they cost their master.
//!
//! `cargo run --release -p relais-cluster --example fleet -- [SLAVES] [FILES]`

#![allow(missing_docs, clippy::unwrap_used, reason = "an example")]
#![allow(clippy::print_stdout, reason = "its output")]

#[path = "../tests/fleet/mod.rs"]
mod fleet;
#[path = "../tests/simulator/rng.rs"]
#[allow(dead_code, reason = "the simulator uses the rest")]
mod rng;

use std::time::Duration;

use fleet::Fleet;
use fleet::master::Cost;
use rng::Rng;

/// Changes of each measurement.
const CHANGES: u64 = 20;

fn print(what: &str, cost: Cost, per: u64) {
    let per_change = |value: u64| value as f64 / per as f64;
    println!(
        "{what:32} {:9.1} received {:9.1} sent {:11.0} bytes {:10.1} us; longest event {:?}",
        per_change(cost.received),
        per_change(cost.sent),
        per_change(cost.bytes_sent),
        cost.processor.as_secs_f64() * 1e6 / per as f64,
        cost.longest
    );
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).map(|n| n.parse().unwrap()).collect();
    let slaves = numbers.first().copied().unwrap_or(1000);
    let files = numbers.get(1).copied().unwrap_or(100_000);
    let mut fleet = Fleet::new(usize::try_from(slaves).unwrap(), files);
    fleet.connect_all();
    println!("{slaves} slaves, {files} files");
    print("join, for each slave", std::mem::take(&mut fleet.master.cost), slaves);
    let begun = fleet.now;
    for number in 0..CHANGES {
        fleet.put(files + 1 + number, 1);
    }
    let visible = (fleet.now - begun) / u32::try_from(CHANGES).unwrap();
    print("single puts, for each", std::mem::take(&mut fleet.master.cost), CHANGES);
    println!("{:32} {visible:?} in simulated time", "until all slaves hold a put");
    fleet.put(files + 1 + CHANGES, CHANGES);
    print("puts at once, for each", std::mem::take(&mut fleet.master.cost), CHANGES);
    let mut rng = Rng::new(1);
    for down in [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(10)] {
        let restart = fleet.restart(down, || rng.next());
        print("restart, for each slave", std::mem::take(&mut fleet.master.cost), slaves);
        let (joins, time) = (restart.peak, restart.complete);
        println!(
            "down for {down:?}: {} attempts, at most {joins} joins in 100 ms, all after {time:?}",
            restart.attempts
        );
    }
}
