//! Storm: six clients make all kinds of changes while programs and processes are killed or stopped.
//!
//! No client sees more than a delay. No acknowledged change is lost, no removed file comes back, no
//! wrong content is read, and all trees are equal at the end.
//!
//! `RELAIS_STORM_SEED` repeats the random choices of a failed run; the timing still differs.

mod faults;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use faults::inject_fault;
use worker::{SharedFolder, StormClient};

use super::helpers::{Tree, conflicts, open, operate, tree};
use super::tree_equality::wait_equal_but_uploads;
use crate::harness::{Cluster, SOON, eventually, make_folder};

const WORKERS: usize = 6;
/// Time between two faults.
const PAUSE: Duration = Duration::from_secs(3);

/// Pseudo-random numbers from a seed.
struct Rng {
    seed: u64,
    thrown: u64,
}

impl Rng {
    /// Creates a generator for each `stream`.
    fn new(seed: u64, stream: u64) -> Self {
        Self { seed: seed ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93), thrown: 0 }
    }

    fn number(&mut self) -> u64 {
        self.thrown += 1;
        let hash = blake3::hash(format!("{} {}", self.seed, self.thrown).as_bytes());
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap())
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % end as u64).unwrap()
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

fn seed() -> u64 {
    if let Ok(given) = std::env::var("RELAIS_STORM_SEED") {
        return given.parse().expect("RELAIS_STORM_SEED is a number");
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::from(now.subsec_nanos()) ^ now.as_secs() << 20
}

fn storm(length: Duration) {
    let seed = seed();
    // Printed if the test fails.
    eprintln!("to repeat it: RELAIS_STORM_SEED={seed}");
    let mut cluster = Cluster::of(3).start();
    let common = SharedFolder::new();
    eventually(SOON, "the common folder is made", || {
        open(&cluster, 0).change(&make_folder(worker::COMMON)).ok()
    });
    let over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..WORKERS)
        .map(|n| {
            let mut worker =
                StormClient::new(&cluster, n, Rng::new(seed, n as u64 + 1), Arc::clone(&common));
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                worker.begin();
                while !over.load(Ordering::SeqCst) {
                    worker.step();
                }
                worker
            })
        })
        .collect();
    let (began, mut rng) = (Instant::now(), Rng::new(seed, 0));
    while began.elapsed() < length && threads.iter().all(|thread| !thread.is_finished()) {
        std::thread::sleep(PAUSE);
        let struck = began.elapsed();
        let what = inject_fault(&mut cluster, &mut rng);
        eprintln!("after {struck:.1?}: {what}, until {:.1?}", began.elapsed());
    }
    over.store(true, Ordering::SeqCst);
    let ended: Vec<_> = threads.into_iter().map(std::thread::JoinHandle::join).collect();
    let workers: Vec<StormClient> = ended
        .into_iter()
        .map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        .collect();
    eprintln!("{:?} commands", workers.iter().map(|worker| worker.steps).collect::<Vec<_>>());
    assert_consistent(&cluster, &workers, &common);
}

/// Requires that the trees match all answers to the clients.
#[track_caller]
fn assert_consistent(cluster: &Cluster, workers: &[StormClient], common: &SharedFolder) {
    wait_equal_but_uploads(cluster);
    let found = tree(&cluster.slaves[0].root);
    let mut wanted = Tree::from([(worker::COMMON.to_owned(), "folder".to_owned())]);
    let versions = common.versions();
    let mut last = BTreeMap::new();
    for ((name, digest), version) in &versions {
        let newest = last.entry(name).or_insert((version, digest));
        *newest = (*newest).max((version, digest));
    }
    wanted.extend(last.into_iter().map(|(name, (_, digest))| (name.clone(), digest.clone())));
    for worker in workers {
        assert!(worker.steps > 10, "{} had only {} steps", worker.top, worker.steps);
        worker.assert_monotonic(&versions);
        wanted.extend(worker.wanted());
    }
    let names: BTreeSet<_> = wanted.keys().chain(found.keys()).collect();
    let wrong: Vec<_> =
        names.into_iter().filter(|name| wanted.get(*name) != found.get(*name)).collect();
    let wrong: Vec<_> = wrong
        .iter()
        .map(|name| {
            format!("{name}: acknowledged {:?}, found {:?}", wanted.get(*name), found.get(*name))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // There were no local changes.
    for slave in &cluster.slaves {
        let aside = conflicts(&slave.root);
        let log = slave.program.stderr.text();
        let said: Vec<_> = log
            .lines()
            .filter(|line| line.contains("quarantined") || line.contains(" ERROR "))
            .collect();
        assert!(
            aside.is_empty(),
            "{} files are quarantined in {}: {said:#?}",
            aside.len(),
            slave.root.display()
        );
    }
    operate(cluster, &["diff"]).ok();
}

#[test]
fn a_storm_of_a_quarter_of_a_minute() {
    storm(Duration::from_secs(15));
}

#[test]
#[ignore = "takes over a minute"]
fn a_storm_of_a_minute() {
    storm(Duration::from_secs(60));
}

#[test]
fn a_seed_repeats_its_numbers() {
    let throw = |seed, stream| {
        (0..4).scan(Rng::new(seed, stream), |rng, _| Some(rng.number())).collect::<Vec<_>>()
    };
    assert_eq!(throw(1, 2), throw(1, 2));
    assert_ne!(throw(1, 2), throw(1, 3));
    assert_ne!(throw(1, 2), throw(2, 2));
}
