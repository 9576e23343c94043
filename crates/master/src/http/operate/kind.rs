//! The operations that the web page offers.

use relais_proto::{Operation, SlaveId};

/// An operation that the page offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum OperationKind {
    Drain,
    Ready,
    Scrub,
    Diff,
}

impl OperationKind {
    /// All of them.
    const ALL: [Self; 4] = [Self::Drain, Self::Ready, Self::Scrub, Self::Diff];

    /// The name, as that of the command of `ftpmaster`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Ready => "ready",
            Self::Scrub => "scrub",
            Self::Diff => "diff",
        }
    }

    /// Parses the output of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it is for one slave.
    pub(super) fn is_for_slave(self) -> bool {
        matches!(self, Self::Drain | Self::Ready)
    }

    pub(super) fn operation(self, slave: Option<SlaveId>) -> Operation {
        let name = slave.map(|slave| slave.to_string()).unwrap_or_default();
        match self {
            Self::Drain => Operation::Drain(name),
            Self::Ready => Operation::Ready(name),
            Self::Scrub => Operation::Scrub { wait: true },
            Self::Diff => Operation::Diff,
        }
    }

    /// What has been done, for the log.
    pub(super) fn done(self, slave: Option<SlaveId>) -> String {
        let slave = slave.map(|slave| slave.to_string()).unwrap_or_default();
        match self {
            Self::Drain => format!("drained slave {slave}"),
            Self::Ready => format!("made slave {slave} ready"),
            Self::Scrub => "had all slaves verify their contents".to_owned(),
            Self::Diff => "compared the trees of all slaves".to_owned(),
        }
    }
}
