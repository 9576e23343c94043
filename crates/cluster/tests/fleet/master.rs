//! The master of the fleet, and what it costs.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use relais_cluster::{Coordinator, CoordinatorAction, CoordinatorEvent, MasterState};
use relais_proto::{FolderId, LinkMessage};

/// What a master has received, sent and used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    pub received: u64,
    pub sent: u64,
    pub bytes_sent: u64,
    pub processor: Duration,
    /// Longest event.
    pub longest: Duration,
}

pub struct Master {
    pub coordinator: Coordinator,
    folders: BTreeSet<FolderId>,
    pub cost: Cost,
}

impl Master {
    pub fn new(state: MasterState, folders: BTreeSet<FolderId>) -> Self {
        let coordinator = Coordinator::new(state, folders.clone());
        Self { coordinator, folders, cost: Cost::default() }
    }

    /// Handles an event; sending is encoding, as often as there are links.
    pub fn on(&mut self, event: CoordinatorEvent) -> Vec<CoordinatorAction> {
        let begun = processor_time();
        let actions = self.coordinator.on(event, 1_790_000_000_000);
        for action in &actions {
            if let CoordinatorAction::Send { message, .. } = action {
                let mut bytes = Vec::new();
                LinkMessage::ToSlave(message.clone()).encode(&mut bytes);
                self.cost.sent += 1;
                self.cost.bytes_sent += bytes.len() as u64;
            }
        }
        let used = processor_time().saturating_sub(begun);
        self.cost.received += 1;
        self.cost.processor += used;
        self.cost.longest = self.cost.longest.max(used);
        actions
    }

    /// Ends this master, and starts another one from its state.
    pub fn restart(&mut self) {
        let state = self.coordinator.state().clone();
        *self = Self::new(state, self.folders.clone());
    }
}

/// Returns the processor time of this thread (`/proc/thread-self/schedstat`, proc(5)).
fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}
