//! The simulated world: masters, slaves, clients and the schedule of events.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use relais_cluster::replica::{MissingContent, ProposalResult, ReceivedTree, SessionId};
use relais_cluster::{CommittedEntry, LinkId, ReplicaPosition};
use relais_proto::{ChangeId, FolderId, LogEntry, Lsn, SlaveId, TreePath};

use crate::bugs::Bug;
use crate::check::{Checks, Violation};
use crate::client::Client;
use crate::counts::Counts;
use crate::master::Master;
use crate::net::{Conn, MASTERS, NODES, SLAVES};
use crate::readers::Reader;
use crate::recorded::Recordings;
use crate::rng::Rng;
use crate::slave::Slave;

/// A running operation of a slave's shell, with its end.
#[derive(Debug, Clone)]
pub enum Work {
    Carry { changes: Vec<CommittedEntry>, position: ReplicaPosition },
    Adopt { listing: ReceivedTree, position: ReplicaPosition },
    Fetch { put: Lsn, lack: MissingContent, from: FolderId },
    Place { id: ChangeId, put: Lsn },
}

/// Answer to a client.
#[derive(Debug, Clone)]
pub enum Reply {
    Change(ProposalResult),
    /// The change that the answer carries, and that of the catalogue that was read.
    Read {
        lsn: Lsn,
        saw: Lsn,
    },
    Moved,
    Elsewhere,
}

#[derive(Debug, Clone)]
pub enum Due {
    Up(LinkId),
    Down(LinkId),
    Connect {
        slave: usize,
        life: u64,
    },
    Journal {
        master: usize,
        life: u64,
        batch: Vec<LogEntry>,
    },
    Work {
        slave: usize,
        life: u64,
        work: Work,
    },
    Opened {
        master: usize,
        life: u64,
    },
    /// During a write or the application of a batch.
    CrashMaster {
        life: u64,
    },
    CrashSlave {
        slave: usize,
        life: u64,
    },
    ClientNext {
        client: usize,
    },
    ClientPatience {
        client: usize,
        request: u64,
    },
    Request {
        client: usize,
        request: u64,
    },
    Reply {
        client: usize,
        request: u64,
        reply: Reply,
    },
    Reader {
        session: SessionId,
    },
    Tick,
}

#[derive(Debug)]
struct Later(u64, u64, Due);

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Later {}
impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

pub struct World {
    pub rng: Rng,
    pub now: u64,
    pub steps: u64,
    due: BinaryHeap<Reverse<Later>>,
    serial: u64,
    pub masters: [Master; MASTERS],
    pub slaves: Vec<Slave>,
    pub clients: Vec<Client>,
    pub conns: BTreeMap<LinkId, Conn>,
    pub cut: [[bool; NODES]; NODES],
    pub sessions: BTreeMap<SessionId, (usize, u64)>,
    pub readers: BTreeMap<SessionId, Reader>,
    pub checks: Checks,
    pub counts: Counts,
    pub recordings: Recordings,
    pub bug: Option<Bug>,
    pub trace: bool,
    /// Ends the faults; the world must become consistent.
    pub quiet: bool,
    pub copies: u16,
    /// Disks that may still be lost.
    pub spare: u16,
    /// This run restores a backup of the master's disk, with writes on both sides.
    pub branching: bool,
    /// Whether that has happened.
    pub branched: bool,
    /// Both masters run on copies of one state.
    pub copies_run: bool,
    /// Master of each slave during that time.
    pub home: [usize; SLAVES],
    /// The first lost disk is the master's.
    pub master_first: bool,
    pub paths: Vec<TreePath>,
}

pub fn folder(slave: usize) -> FolderId {
    FolderId([u8::try_from(slave).unwrap() + 1; 16])
}

pub fn slave_id(slave: usize) -> SlaveId {
    SlaveId(folder(slave).0)
}

pub fn slave_of(folder: FolderId) -> usize {
    usize::from(folder.0[0]) - 1
}

impl World {
    pub fn new(seed: u64, bug: Option<Bug>, trace: bool, recordings: Recordings) -> Self {
        let mut rng = Rng::new(seed);
        let branching = rng.chance(500);
        // If disks are lost by design, only one copy is promised.
        let copies = if branching { 1 } else { u16::try_from(rng.between(1, 3)).unwrap() };
        let master_first = copies > 1 && rng.chance(500);
        let names = [
            "f0", "f1", "f2", "d0", "d1", "d0/f0", "d0/f1", "d0/e", "d0/e/f0", "d1/f0", "d1/d0",
            "d1/d0/f0", "d0-x",
        ];
        let mut world = Self {
            now: 0,
            steps: 0,
            due: BinaryHeap::new(),
            serial: 0,
            masters: [Master::new(true), Master::new(false)],
            slaves: (0..SLAVES).map(|_| Slave::default()).collect(),
            clients: (0..3).map(Client::new).collect(),
            conns: BTreeMap::new(),
            cut: [[false; NODES]; NODES],
            sessions: BTreeMap::new(),
            readers: BTreeMap::new(),
            checks: Checks::default(),
            counts: Counts::default(),
            recordings,
            bug,
            trace,
            quiet: false,
            copies,
            spare: copies - 1,
            branching,
            branched: false,
            copies_run: false,
            home: [0; SLAVES],
            master_first,
            paths: names.iter().map(|name| TreePath::new(*name).unwrap()).collect(),
            rng,
        };
        world.start_master(0);
        for slave in 0..SLAVES {
            world.start_slave(slave);
        }
        for client in 0..world.clients.len() {
            let wait = world.rng.below(500);
            world.later(wait, Due::ClientNext { client });
        }
        world.later(500, Due::Tick);
        world
    }

    pub fn later(&mut self, wait: u64, due: Due) {
        self.serial += 1;
        self.due.push(Reverse(Later(self.now + wait, self.serial, due)));
    }

    pub fn say(&self, text: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>8} {}", self.now, text());
        }
    }

    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Advances the time; returns the first violated invariant as an error.
    pub fn run(&mut self, for_ms: u64) -> Result<(), Violation> {
        let until = self.now + for_ms;
        while let Some(Reverse(Later(at, ..))) = self.due.peek() {
            if *at > until {
                break;
            }
            let Some(Reverse(Later(at, _, due))) = self.due.pop() else { break };
            self.now = self.now.max(at);
            self.steps += 1;
            self.step(due);
            if let Some(violation) = self.checks.violation.take() {
                return Err(violation);
            }
        }
        self.now = until;
        Ok(())
    }

    fn step(&mut self, due: Due) {
        match due {
            Due::Up(link) => self.deliver_up(link),
            Due::Down(link) => self.deliver_down(link),
            Due::Connect { slave, life } => self.connect(slave, life),
            Due::Journal { master, life, batch } => self.journaled(master, life, batch),
            Due::Work { slave, life, work } => self.worked(slave, life, work),
            Due::Opened { master, life } => self.opened(master, life),
            Due::CrashMaster { life } if !self.quiet && self.masters[0].life == life => {
                self.crash_master(0)
            }
            Due::CrashSlave { slave, life } if !self.quiet && self.slaves[slave].life == life => {
                self.crash_slave(slave)
            }
            Due::CrashMaster { .. } | Due::CrashSlave { .. } => {}
            Due::ClientNext { client } => self.client_next(client),
            Due::ClientPatience { client, request } => self.client_patience(client, request),
            Due::Request { client, request } => self.request(client, request),
            Due::Reply { client, request, reply } => self.reply(client, request, reply),
            Due::Reader { session } => self.reader_step(session),
            Due::Tick => self.tick(),
        }
    }

    fn tick(&mut self) {
        for slave in 0..SLAVES {
            self.slave_tick(slave);
        }
        let silent: Vec<LinkId> = self.conns.keys().copied().collect();
        for link in silent {
            self.watch_link(link);
        }
        self.conns.retain(|_, conn| {
            conn.slave_open || conn.master_open || !conn.up.is_empty() || !conn.down.is_empty()
        });
        self.later(500, Due::Tick);
    }
}
