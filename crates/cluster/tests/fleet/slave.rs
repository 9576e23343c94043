//! A slave of the fleet: its replica, and a disk that never fails.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use relais_cluster::replica::{Action, Event, Replica, SessionId};
use relais_cluster::{LinkId, MasterState, ReplicaPosition, ToMaster, ToSlave};
use relais_proto::{Change, ChangeId, FolderId, Lsn, SlaveId};

/// What a slave wants done.
#[derive(Debug, Default)]
pub struct News {
    pub messages: Vec<ToMaster>,
    pub fetches: Vec<(Lsn, FolderId)>,
}

pub struct Slave {
    pub link: LinkId,
    pub is_linked: bool,
    pub folder: FolderId,
    pub replica: Replica,
    /// Changes whose contents were staged here.
    pub staged: BTreeSet<ChangeId>,
    pub sent: VecDeque<ToMaster>,
    pub arriving: VecDeque<ToSlave>,
    pub fetching: VecDeque<(Lsn, FolderId)>,
    /// Answered proposals.
    pub answered: usize,
}

impl Slave {
    /// Makes a slave that has applied all changes and holds all contents.
    pub fn new(n: usize, state: &MasterState) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        let folder = FolderId(bytes);
        let position =
            ReplicaPosition { applied: state.last(), chain: state.chain(), epoch: state.epoch() };
        Self {
            link: LinkId(n as u64),
            is_linked: false,
            folder,
            replica: Replica::new(SlaveId(bytes), folder, position, Vec::new(), BTreeSet::new()),
            staged: BTreeSet::new(),
            sent: VecDeque::new(),
            arriving: VecDeque::new(),
            fetching: VecDeque::new(),
            answered: 0,
        }
    }

    /// Stages a content and proposes it.
    pub fn proposal(&mut self, number: u64) -> Event {
        let id = super::change_id(number);
        self.staged.insert(id);
        let request = relais_cluster::ChangeRequest {
            id,
            change: super::put(number),
            expect: relais_proto::Expect::Any,
            keep_mode: false,
            tokens: Vec::new(),
        };
        Event::Proposed { session: Some(SessionId(number)), request, copies: 1 }
    }

    /// Loses the link, and all messages on it.
    pub fn lose_link(&mut self, now: Duration) {
        self.is_linked = false;
        self.sent.clear();
        self.arriving.clear();
        self.on(Event::Unlinked, now);
    }

    /// Handles an event and all that the disk answers.
    pub fn on(&mut self, event: Event, now: Duration) -> News {
        let (mut news, mut events) = (News::default(), VecDeque::from([event]));
        while let Some(event) = events.pop_front() {
            for action in self.replica.on(event, now) {
                match action {
                    Action::Send(message) => news.messages.push(message),
                    Action::Fetch { put, from, .. } => news.fetches.push((put, from)),
                    Action::Apply { changes, .. } => {
                        let is_missing = |change: &Change, id| {
                            matches!(change, Change::Put { .. }) && !self.staged.contains(id)
                        };
                        let missing = changes
                            .iter()
                            .map(|committed| &committed.entry)
                            .filter(|entry| is_missing(&entry.change, &entry.id))
                            .map(|entry| entry.version)
                            .collect();
                        events.push_back(Event::Applied { missing, failed: Vec::new() });
                    }
                    Action::Reply { .. } => self.answered += 1,
                    Action::RaiseEpoch(_)
                    | Action::BeginHistory(_)
                    | Action::SetTimelines(_)
                    | Action::Discard(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        news
    }
}
