//! Many slaves and a master in one process: the pure state machines and a clock of their own.
//!
//! Each slave is a [`Replica`] on a disk that does everything at once and never fails. A message
//! takes a millisecond, and so does a fetch. The master handles one event after the other; the time
//! that it needs is the processor time of this thread, so other programs do not change it.

pub mod master;
pub mod restart;
pub mod slave;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use relais_cluster::replica::Event;
use relais_cluster::{CoordinatorAction, CoordinatorEvent, LinkId, MasterState, ToMaster};
use relais_proto::{Change, Digest, FileTime, LogEntry, Lsn, Mode, TreePath};

use self::master::Master;
use self::slave::Slave;

/// Time that a message or a fetch takes.
pub const DELAY: Duration = Duration::from_millis(1);

/// What happens at some time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The slave connects.
    Connect(usize),
    /// A message of a slave is at the master.
    ToMaster(usize),
    /// A message of the master is at a slave.
    ToSlave(usize),
    /// A fetch of a slave has ended.
    Fetched(usize),
}

/// A master and its slaves.
pub struct Fleet {
    pub master: Master,
    pub slaves: Vec<Slave>,
    pub now: Duration,
    steps: BinaryHeap<Reverse<(Duration, u64, Step)>>,
    count: u64,
}

impl Fleet {
    /// Makes a master with a tree of so many files, and slaves that hold all of them.
    pub fn new(slaves: usize, files: u64) -> Self {
        let mut state = MasterState::default();
        for number in 1..=files {
            let version = Lsn { epoch: 1, number };
            let change = put(number);
            let id = change_id(number);
            state.apply(LogEntry { version, id, time_ms: number, change });
        }
        let slaves: Vec<Slave> = (0..slaves).map(|n| Slave::new(n, &state)).collect();
        let folders = slaves.iter().map(|slave| slave.folder).collect();
        Self {
            master: Master::new(state, folders),
            slaves,
            now: Duration::ZERO,
            steps: BinaryHeap::new(),
            count: 0,
        }
    }

    pub fn at(&mut self, time: Duration, step: Step) {
        self.count += 1;
        self.steps.push(Reverse((time, self.count, step)));
    }

    /// Connects all slaves at once, and runs until nothing is left to do.
    pub fn connect_all(&mut self) {
        (0..self.slaves.len()).for_each(|n| self.at(self.now, Step::Connect(n)));
        self.run();
    }

    /// Runs until nothing is left to do.
    pub fn run(&mut self) {
        while self.step().is_some() {}
    }

    /// Runs the next step; returns its time.
    pub fn step(&mut self) -> Option<Duration> {
        let Reverse((time, _, step)) = self.steps.pop()?;
        self.now = time;
        match step {
            Step::Connect(n) => {
                self.slaves[n].is_linked = true;
                self.slave(n, Event::Linked);
            }
            Step::ToMaster(n) => {
                if let Some(message) = self.slaves[n].sent.pop_front() {
                    self.tell_master(n, message);
                }
            }
            Step::ToSlave(n) => {
                if let Some(message) = self.slaves[n].arriving.pop_front() {
                    self.slave(n, Event::Received(message));
                }
            }
            Step::Fetched(n) => {
                if let Some((put, from)) = self.slaves[n].fetching.pop_front() {
                    self.slave(n, Event::Fetched { put, from, fault: None });
                }
            }
        }
        Some(time)
    }

    /// Gives an event to a slave, and sends what follows from it.
    pub fn slave(&mut self, n: usize, event: Event) {
        let news = self.slaves[n].on(event, self.now);
        for message in news.messages {
            self.slaves[n].sent.push_back(message);
            self.at(self.now + DELAY, Step::ToMaster(n));
        }
        for fetch in news.fetches {
            self.slaves[n].fetching.push_back(fetch);
            self.at(self.now + DELAY, Step::Fetched(n));
        }
    }

    fn tell_master(&mut self, n: usize, message: ToMaster) {
        if !self.slaves[n].is_linked {
            return;
        }
        let link = self.slaves[n].link;
        let mut events = vec![CoordinatorEvent::Received { link, message }];
        while let Some(event) = events.pop() {
            for action in self.master.on(event) {
                match action {
                    CoordinatorAction::Write(_) => events.push(CoordinatorEvent::Written),
                    CoordinatorAction::Send { link: LinkId(to), message } => {
                        let to = usize::try_from(to).unwrap();
                        self.slaves[to].arriving.push_back(message);
                        self.at(self.now + DELAY, Step::ToSlave(to));
                    }
                    CoordinatorAction::AddFolder { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

/// Returns the put of a small file, as a change of some slave.
pub fn put(number: u64) -> Change {
    let path = TreePath::new(format!("file-{number:08}.bin")).unwrap();
    let mut digest = Digest([0; 32]);
    digest.0[..8].copy_from_slice(&number.to_be_bytes());
    let mtime = FileTime { seconds: 1_790_000_000, nanos: 123_456_789 };
    Change::Put { path, size: 1024, digest, mtime, mode: Mode::new(0o644) }
}

pub fn change_id(number: u64) -> relais_proto::ChangeId {
    let mut id = [1; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    relais_proto::ChangeId(id)
}
