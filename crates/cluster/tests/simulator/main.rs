//! Deterministic simulator of the pure cluster logic: a master, three slaves and clients under
//! faults.
//!
//! `RELAIS_SEED=n cargo test -p relais-cluster --test simulator` runs one seed with a trace.
//! `RELAIS_SEEDS=n` runs more or fewer seeds.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod bugs;
mod check;
mod client;
mod counts;
mod disk;
mod faults;
mod links;
mod master;
mod mounts;
mod net;
mod readers;
mod recorded;
#[path = "../replay/mod.rs"]
mod replay;
#[path = "../replay/tests.rs"]
mod replay_tests;
mod rng;
mod slave;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bugs::Bug;
use check::Violation;
use counts::Counts;
use recorded::Recordings;
use world::World;

/// Number of seeds in a whole run.
const SEEDS: u64 = 10_000;
/// Steps with faults for each seed.
const EVENTS: u64 = 400;
/// Lowest number of occurrences of each fault and transition in a whole run.
const OFTEN: u64 = 500;

fn run(seed: u64, bug: Option<Bug>, trace: bool) -> (Result<(), Violation>, Counts) {
    let mut world = World::new(seed, bug, trace, Recordings::default());
    let result = drive(&mut world);
    (result, world.counts)
}

fn drive(world: &mut World) -> Result<(), Violation> {
    for _ in 0..EVENTS {
        let wait = world.rng.below(300);
        world.run(wait)?;
        world.fault()?;
    }
    world.settle()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Runs seeds on two threads until one fails; returns the counts and the failure.
fn run_all(seeds: u64) -> (Counts, Option<(u64, Violation)>) {
    let (next, all) =
        (AtomicU64::new(0), Mutex::new((Counts::default(), None::<(u64, Violation)>)));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut counts = Counts::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    let (result, some) = run(seed, None, false);
                    counts.join(&some);
                    if let Err(violation) = result {
                        next.store(seeds, Ordering::Relaxed);
                        all.lock().unwrap().1 = Some((seed, violation));
                    }
                }
                all.lock().unwrap().0.join(&counts);
            });
        }
    });
    all.into_inner().unwrap()
}

#[test]
fn whatever_happens_the_invariants_hold() {
    if let Some(seed) = number("RELAIS_SEED") {
        let (result, _) = run(seed, None, true);
        assert!(result.is_ok(), "seed {seed}: {result:?}");
        return;
    }
    let seeds = number("RELAIS_SEEDS").unwrap_or(SEEDS);
    let (counts, failure) = run_all(seeds);
    if let Some((seed, violation)) = failure {
        panic!("seed {seed}: {}: {}\nRELAIS_SEED={seed} tells more", violation.of, violation.what);
    }
    if number("RELAIS_COUNTS").is_some() {
        counts.iter().for_each(|(what, n)| eprintln!("{n:>10} {what}"));
    }
    if seeds >= SEEDS {
        let rare: Vec<_> = counts::all()
            .filter(|what| counts.of(what) < OFTEN)
            .map(|what| (what, counts.of(what)))
            .collect();
        assert!(rare.is_empty(), "these came up less than {OFTEN} times: {rare:?}");
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in 0..5 {
        let (first, again) = (run(seed, None, false), run(seed, None, false));
        assert!(first.1.iter().eq(again.1.iter()), "seed {seed}");
    }
}

#[test]
fn each_planted_bug_is_found() {
    if number("RELAIS_SEED").is_some() {
        return;
    }
    for (bug, by) in Bug::ALL {
        // The bug may break other invariants too, and be detected there first.
        let found = (0..3000).find(
            |seed| matches!(run(*seed, Some(bug), false).0, Err(violation) if violation.of == by),
        );
        assert!(found.is_some(), "{bug:?} was not found as: {by}");
    }
}
