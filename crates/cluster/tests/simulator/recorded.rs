//! Recordings of the simulated masters and slaves: a replay has the same actions.
//!
//! `RELAIS_REPLAY=file cargo test -p relais-cluster --test simulator replays` runs a recording that
//! a real master or slave has made.

use std::collections::BTreeSet;
use std::time::Duration;

use relais_cluster::record::Recorder;
use relais_cluster::replica::{self, MissingContent};
use relais_cluster::{CoordinatorAction, CoordinatorEvent, MasterState, ReplicaPosition, ToMaster};
use relais_proto::{ChangeId, FolderId};

use crate::net::{MASTERS, SLAVES};
use crate::replay::{Difference, RecordError, Replayed, replay_coordinator, replay_replica};
use crate::rng::Rng;
use crate::world::{World, folder, slave_id};

/// Recording of one start of a machine.
struct Recording {
    recorder: Recorder,
    bytes: Vec<u8>,
    /// Offsets of the start of each event and of the end of its actions.
    places: Vec<(usize, usize)>,
}

impl Recording {
    fn begin(begin: impl FnOnce(&mut Vec<u8>) -> Recorder) -> Self {
        let mut bytes = Vec::new();
        Self { recorder: begin(&mut bytes), bytes, places: Vec::new() }
    }
}

/// All recordings of a world; none if `on` is false.
#[derive(Default)]
pub struct Recordings {
    on: bool,
    masters: [Vec<Recording>; MASTERS],
    slaves: [Vec<Recording>; SLAVES],
    /// Event that replaces the first proposal of a slave in the recording.
    plant: Option<CoordinatorEvent>,
}

impl Recordings {
    pub fn master_starts(
        &mut self,
        master: usize,
        state: &MasterState,
        folders: &BTreeSet<FolderId>,
    ) {
        if self.on {
            let begin = |to: &mut Vec<u8>| Recorder::coordinator(state, folders, to).unwrap();
            self.masters[master].push(Recording::begin(begin));
        }
    }

    pub fn master_event(&mut self, master: usize, event: &CoordinatorEvent, now: u64) {
        let Some(last) = self.masters[master].last_mut() else { return };
        let start = last.bytes.len();
        let planted =
            matches!(event, CoordinatorEvent::Received { message: ToMaster::Propose { .. }, .. })
                .then(|| self.plant.take())
                .flatten();
        last.recorder.event(planted.as_ref().unwrap_or(event), now, &mut last.bytes).unwrap();
        last.places.push((start, start));
    }

    pub fn master_actions(&mut self, master: usize, actions: &[CoordinatorAction]) {
        let Some(last) = self.masters[master].last_mut() else { return };
        last.recorder.actions(actions, &mut last.bytes).unwrap();
        last.places.last_mut().unwrap().1 = last.bytes.len();
    }

    pub fn slave_starts(
        &mut self,
        slave: usize,
        position: &ReplicaPosition,
        missing: &[MissingContent],
        staged: &BTreeSet<ChangeId>,
    ) {
        if self.on {
            let begin = |to: &mut Vec<u8>| {
                Recorder::replica(slave_id(slave), folder(slave), position, missing, staged, to)
                    .unwrap()
            };
            self.slaves[slave].push(Recording::begin(begin));
        }
    }

    pub fn slave_event(&mut self, slave: usize, event: &replica::Event, now: Duration) {
        let Some(last) = self.slaves[slave].last_mut() else { return };
        let start = last.bytes.len();
        last.recorder.event(event, now.as_nanos(), &mut last.bytes).unwrap();
        last.places.push((start, start));
    }

    pub fn slave_actions(&mut self, slave: usize, actions: &[replica::Action]) {
        let Some(last) = self.slaves[slave].last_mut() else { return };
        last.recorder.actions(actions, &mut last.bytes).unwrap();
        last.places.last_mut().unwrap().1 = last.bytes.len();
    }
}

/// Runs one seed with recordings.
fn recorded(seed: u64, plant: Option<CoordinatorEvent>) -> Recordings {
    let mut world =
        World::new(seed, None, false, Recordings { on: true, plant, ..Recordings::default() });
    assert!(crate::drive(&mut world).is_ok(), "seed {seed}");
    world.recordings
}

/// Replays a recording of either machine.
fn replay(bytes: &[u8]) -> Result<Replayed, RecordError> {
    match replay_coordinator(bytes) {
        Err(RecordError::Kind(_)) => replay_replica(bytes),
        result => result,
    }
}

fn whole(places: &[(usize, usize)]) -> Replayed {
    Replayed { events: u64::try_from(places.len()).unwrap(), torn: false }
}

#[test]
fn recordings_replay_to_the_same_actions() {
    let (mut orders, mut replicas) = (0, 0);
    for seed in 0..40 {
        let all = recorded(seed, None);
        for one in all.masters.iter().flatten() {
            assert_eq!(replay_coordinator(&one.bytes).unwrap(), whole(&one.places), "seed {seed}");
            orders += one.places.len();
        }
        for one in all.slaves.iter().flatten() {
            assert_eq!(replay_replica(&one.bytes).unwrap(), whole(&one.places), "seed {seed}");
            replicas += one.places.len();
        }
    }
    assert!(orders > 10_000 && replicas > 10_000, "{orders} and {replicas} events");
}

#[test]
fn another_event_than_there_was_is_noticed() {
    for seed in 0..20 {
        // The checksums are right, but the recorded actions do not follow from this event.
        let all = recorded(seed, Some(CoordinatorEvent::GraceEnded));
        let found: Vec<Box<Difference>> = all
            .masters
            .iter()
            .flatten()
            .filter_map(|one| match replay_coordinator(&one.bytes) {
                Err(RecordError::Differs(found)) => Some(found),
                result => {
                    result.unwrap();
                    None
                }
            })
            .collect();
        assert_eq!(found.len(), 1, "seed {seed}: {found:?}");
        assert!(found[0].recorded != found[0].replayed && !found[0].event.is_empty());
    }
}

#[test]
fn an_event_that_was_altered_or_left_out_is_noticed() {
    let mut rng = Rng::new(1);
    for seed in 0..5 {
        let all = recorded(seed, None);
        let masters = all.masters.iter().flatten().map(|one| (&one.bytes, &one.places));
        for (bytes, places) in
            masters.chain(all.slaves.iter().flatten().map(|one| (&one.bytes, &one.places)))
        {
            for _ in 0..places.len().min(10) {
                let (start, end) = places[rng.index(places.len())];
                let mut altered = bytes.clone();
                altered[start + rng.index(end - start)] ^= 1 << rng.below(8);
                assert!(
                    replay(&altered).is_err(),
                    "seed {seed}: altered between {start} and {end}"
                );
                if end < bytes.len() {
                    let without = [&bytes[..start], &bytes[end..]].concat();
                    assert!(replay(&without).is_err(), "seed {seed}: without {start} to {end}");
                }
            }
        }
    }
}

#[test]
fn a_torn_end_leaves_what_was_before_it() {
    let mut rng = Rng::new(2);
    let all = recorded(3, None);
    let masters = all.masters.iter().flatten().map(|one| (&one.bytes, &one.places));
    for (bytes, places) in
        masters.chain(all.slaves.iter().flatten().map(|one| (&one.bytes, &one.places)))
    {
        let first = places.first().map_or(bytes.len(), |(start, _)| *start);
        for _ in 0..50 {
            let cut = rng.index(bytes.len());
            match replay(&bytes[..cut]) {
                Ok(shorter) => {
                    let (begun, ended) = (
                        places.iter().filter(|(start, _)| *start < cut).count() as u64,
                        places.iter().filter(|(_, end)| *end <= cut).count() as u64,
                    );
                    assert!(
                        (ended..=begun).contains(&shorter.events),
                        "cut at {cut}: {shorter:?}, not {ended} to {begun}"
                    );
                    assert!(shorter.torn || shorter.events == ended);
                }
                Err(error) => assert!(cut < first, "cut at {cut}: {error:?}"),
            }
        }
    }
}

#[test]
fn replays_the_file_in_relais_replay() {
    let Some(file) = std::env::var_os("RELAIS_REPLAY") else { return };
    let name = file.display();
    let bytes = std::fs::read(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
    match replay(&bytes) {
        Ok(Replayed { events, torn }) => {
            eprintln!(
                "{name}: {events} events, and the same followed from each{}",
                if torn { "; its end is torn off" } else { "" }
            );
        }
        Err(error) => panic!("{name}: {error:?}"),
    }
}
