//! Messages between a master, its slaves and operators.
//!
//! A link begins with `Hello` and `LinkOpen` in one packet. The master answers `Welcome` and
//! `LinkChallenge`; the challenge first proves that the master has the cluster key. Then the other
//! side sends `LinkProof` and its first message.

use std::net::SocketAddr;

use crate::codec::wire_messages;
use crate::{
    ClusterId, FolderId, Lsn, Metrics, PasswordBytes, Refusal, SlaveId, ToMaster, ToSlave,
    TreePage, TreePath, limits, wire_enum, wire_struct,
};

wire_enum! {
    /// State of a slave, as the master sees it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum SlaveState: "slave state" {
        /// The slave gets sessions.
        0 => InService,
        /// The slave is connected but not ready for sessions yet.
        1 => CatchingUp,
        /// The slave gets no new sessions.
        2 => Draining,
        /// The slave does not answer, or none of its workers does.
        3 => Down,
    }

    /// A list of paths that the master can request from a slave.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum PathList: "list of paths" {
        /// Names in the folder that are not served.
        0 => Skipped,
        /// Paths where the disk differs from the tree.
        1 => Unapplied,
    }

    /// A command of an operator. It names a slave by id or address.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Operation: "operation" {
        /// Drains a slave: it gets no new sessions, and its sessions move to other slaves.
        0 => Drain(String [limits::TEXT]),
        /// Ends the drain of a slave.
        1 => Ready(String [limits::TEXT]),
        /// Removes a slave from the cluster for good.
        2 => Forget(String [limits::TEXT]),
        /// Shows the differences between the slaves' trees and the master's.
        3 => Diff,
        /// Makes every slave verify all its contents and fetch damaged ones again.
        4 => Scrub {
            /// Whether the operator gets progress lines until the end.
            wait: bool,
        },
        /// Rebuilds the master's tree from the slaves' trees.
        5 => Recover {
            /// Whether to recover; otherwise the plan is only shown.
            go: bool,
        },
        /// Exports the journal.
        6 => Export,
        /// Lists the names in the slaves' folders that are not served.
        7 => Skipped,
    }
}

wire_struct! {
    /// Registration of a slave at its master.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Registration {
        /// The folder that it serves.
        pub folder: FolderId,
        /// Listening addresses; the unspecified address means all interfaces.
        pub listen: Vec<SocketAddr> [limits::ADDRESSES],
        /// Address for clients, `HOST:PORT`; empty for the listening addresses.
        pub advertise: String [limits::TEXT],
        /// Latest change that the slave has applied.
        pub lsn: Lsn,
        optional {
            /// Listeners for HTTP clients.
            1 => pub http: Option<HttpListeners>,
        }
    }

    /// Listening addresses of a slave for HTTP clients, as in [`Registration::listen`].
    #[derive(Debug, Clone, PartialEq, Eq, Default)]
    pub struct HttpListeners {
        /// Those in the clear.
        pub clear: Vec<SocketAddr> [limits::ADDRESSES],
        /// Those with TLS.
        pub encrypted: Vec<SocketAddr> [limits::ADDRESSES],
    }

    /// A slave's heartbeat.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Heartbeat {
        /// The slave's own view of its state; never `Down`.
        pub state: SlaveState,
        /// Latest change that the slave has applied.
        pub lsn: Lsn,
        /// Metrics of pool and folder.
        pub metrics: Metrics,
        /// Last error of the slave; empty if there was none.
        pub last_error: String [limits::TEXT],
        /// Space in the folder's file system.
        pub disk: DiskSpace,
        /// Progress of the scrub.
        pub scrub: Scrub,
        optional {}
    }

    /// Login of a client that has sent its password to a slave, for the master to verify.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ForwardedLogin {
        /// Number of the query, chosen by the slave.
        pub query: u64,
        /// Address of the client, which the slave is trusted to report.
        pub client: SocketAddr,
        /// Whether all listeners of the slave are on loopback.
        pub local: bool,
        /// User name, as the client has sent it.
        pub user: String [limits::USER],
        /// Password of at most [`limits::PASSWORD`] bytes.
        pub password: PasswordBytes [limits::PASSWORD],
    }

    /// Request for a new ticket with the present rights of the user.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TicketRenewal {
        /// Number of the query, chosen by the slave.
        pub query: u64,
        /// Address of the client, which the slave is trusted to report.
        pub client: SocketAddr,
        /// Whether all listeners of the slave are on loopback.
        pub local: bool,
        /// The former ticket.
        pub ticket: Vec<u8> [limits::TICKET],
    }

    /// Unfinished uploads by path, each by its key: what has come, and what has ended.
    #[derive(Debug, Clone, PartialEq, Eq, Default)]
    pub struct UploadKeys {
        /// Whether `pending` begins a list of all, so that what was known before is void.
        pub all: bool,
        /// Uploads that have begun.
        pub pending: Vec<[u8; 16]> [limits::UPLOAD_KEYS],
        /// Uploads that are complete or were discarded.
        pub ended: Vec<[u8; 16]> [limits::UPLOAD_KEYS],
    }

    /// A ticket that no server accepts any more, because its user has logged out.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct LogOut {
        /// Number of the user's part of the table, a hash.
        pub part: u8,
        /// Number of the ticket: the end of its tag.
        pub ticket: u64,
        /// Time in milliseconds since 1970 UTC after which nothing accepts the ticket in any case.
        pub until_ms: u64,
    }

    /// Space in a file system, in bytes. Both values are 0 if the file system does not report it.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct DiskSpace {
        pub free: u64,
        pub size: u64,
    }

    /// Progress of a scrub: the slave reads and verifies all its contents.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Scrub {
        /// Number of the scrub order, as in the heartbeat answer; 0 for none on this link.
        pub order: u64,
        /// Whether all files were read.
        pub done: bool,
        /// Files to read.
        pub files: u64,
        /// Files read so far.
        pub read: u64,
        /// Files with damaged content.
        pub damaged: u64,
        /// Damaged files whose content was fetched again.
        pub repaired: u64,
        /// Files that could not be read.
        pub unreadable: u64,
    }

    /// A path in a [`PathList`].
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ListedPath {
        /// The path, with unsafe characters escaped.
        pub path: String [limits::SHOWN_PATH],
        /// Reason for the entry.
        pub reason: String [limits::TEXT],
        /// Start of the condition in milliseconds since 1970 UTC; 0 if unknown.
        pub since_ms: u64,
    }

    /// One page of a [`PathList`].
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PathPage {
        /// Number of the query.
        pub query: u64,
        /// At most [`limits::LINK_LIST`] paths; [`limits::SHOWN_PATHS`] in all pages together.
        pub paths: Vec<ListedPath> [limits::LINK_LIST],
        /// Number of all paths, including those that no page names.
        pub total: u64,
        /// Whether this is the last page.
        pub last: bool,
    }

    /// State of one slave, for an operator.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct SlaveReport {
        pub id: SlaveId,
        pub folder: FolderId,
        /// Addresses for clients on the operator's host; empty while they are unknown.
        pub addrs: Vec<SocketAddr> [limits::ADDRESSES],
        pub state: SlaveState,
        /// Latest change that the slave has applied.
        pub lsn: Lsn,
        pub metrics: Metrics,
        /// Last error of the slave; empty if there was none.
        pub last_error: String [limits::TEXT],
        /// Milliseconds since its last heartbeat, or [`Self::NOT_HEARD`].
        pub silent_ms: u64,
    }

    /// A slave as the other slaves of the cluster see it.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PeerSlave {
        pub slave: SlaveId,
        pub folder: FolderId,
        /// Addresses where the receiving slave can reach it.
        pub addrs: Vec<SocketAddr> [limits::ADDRESSES],
    }
}

wire_messages! {
    /// A message of a cluster link, in either direction.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum LinkMessage {
        /// Opens the link with an id and a fresh nonce.
        LinkOpen {
            /// Id of the slave; random for an operator.
            id: SlaveId,
            nonce: [u8; 32],
        },
        /// Nonce and proof of the master.
        LinkChallenge {
            cluster: ClusterId,
            nonce: [u8; 32],
            /// Proof of the key over role, ids and both nonces.
            proof: [u8; 32],
        },
        /// Proof of the other side.
        LinkProof {
            /// Proof of the key over role, ids and both nonces.
            proof: [u8; 32],
        },
        /// Registers a slave.
        Register(Registration),
        /// Confirms the registration.
        Registered {
            /// Latest change.
            lsn: Lsn,
            /// Time of the master in milliseconds since 1970 UTC.
            time_ms: u64,
        },
        /// A slave's heartbeat.
        Heartbeat(Heartbeat),
        /// Answer to a heartbeat.
        HeartbeatAck {
            /// Latest change.
            lsn: Lsn,
            /// Time of the master in milliseconds since 1970 UTC.
            time_ms: u64,
            /// Generation of the accounts; tickets of older generations are rejected.
            generation: u64,
            /// Whether the slave is being drained.
            draining: bool,
            /// Number of scrubs that were ordered since the master started.
            scrubs: u64,
            /// Disks that must hold the content of a put if the client names no number.
            copies: u16,
            /// Number of `ready` commands for this slave since the master started.
            ///
            /// The slave then retries the changes that its disk refused.
            retries: u64,
        },
        /// Unfinished uploads by path of a slave: all of them once, then changes.
        PathUploads(UploadKeys),
        /// Those of the other slaves, in the same way.
        ///
        /// The slave discards an upload of its own that begins on another one.
        OtherUploads(UploadKeys),
        /// Log-outs at a slave: all that it knows once, then new ones.
        LogOuts(Vec<LogOut> [limits::LOG_OUTS]),
        /// Log-outs that the master knows, in the same way.
        OtherLogOuts(Vec<LogOut> [limits::LOG_OUTS]),
        /// Requests the state of all slaves.
        AskReport,
        /// State of one slave.
        SlaveReport(SlaveReport),
        /// End of the slaves' states.
        ReportEnd {
            /// Latest change.
            lsn: Lsn,
            /// Reason why changes are halted; empty if they are not.
            halted: String [limits::TEXT],
            /// Contents that no slave is known to hold.
            lost: u64,
            /// Number of removal records.
            removals: u64,
            /// Highest number of removal records.
            removals_cap: u64,
        },
        /// Replication message of a slave.
        ToMaster(ToMaster),
        /// Replication message of the master.
        ToSlave(ToSlave),
        /// Slaves of the cluster, in pages. The list counts once the last page has arrived.
        Peers {
            /// At most [`limits::PEERS`].
            peers: Vec<PeerSlave> [limits::PEERS],
            last: bool,
        },
        /// Requests a slave's tree.
        AskTree {
            /// Number of the query.
            query: u64,
            /// Whether the ids of changes are requested too.
            ids: bool,
        },
        /// One page of a slave's tree.
        TreePage(TreePage),
        /// Requests a list of a slave's paths, for an operator.
        AskPaths {
            /// Number of the query.
            query: u64,
            list: PathList,
        },
        /// One page of such a list.
        PathPage(PathPage),
        /// Announces that the cluster is recovered in this epoch.
        ///
        /// The slave no longer follows an earlier epoch.
        Recovering { epoch: u32 },
        /// Command of an operator.
        Operate(Operation),
        /// One line of output for the operator, without the line end.
        Line(String [limits::LINE]),
        /// End of the output.
        LineEnd {
            /// Whether the command succeeded.
            ok: bool,
        },
        /// Requests a certificate for a public key: a point of the curve P-256, uncompressed.
        AskCertificate { point: [u8; limits::POINT] },
        /// Certificate for a slave.
        Certificate {
            /// Certificates of the slave and of the authority, in PEM.
            chain: String [limits::CERTIFICATE],
            /// Seconds until the slave requests a new certificate.
            renew_s: u64,
        },
        /// Asks the master to verify a client's password.
        ForwardedLogin(ForwardedLogin),
        /// Asks the master for a new ticket.
        TicketRenewal(TicketRenewal),
        /// Has a slave compute the SHA-256 hashes of a file's content, and record them.
        ///
        /// There is no answer but the change that records them.
        HashContent { path: TreePath },
        /// Ticket for a login or a renewal.
        TicketIssued {
            /// Number of the query.
            query: u64,
            /// Latest change, which the user may have seen on another slave.
            lsn: Lsn,
            ticket: Vec<u8> [limits::TICKET],
        },
        /// Refusal of a login or a renewal.
        LoginRefused {
            /// Number of the query.
            query: u64,
            why: Refusal,
        },
    }
}

impl SlaveState {
    /// Returns the name of the state, as in `status --json`.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::InService => "in-service",
            Self::CatchingUp => "catching-up",
            Self::Draining => "draining",
            Self::Down => "down",
        }
    }
}

impl DiskSpace {
    /// Free space below this value counts as low, in bytes; on a small disk a fiftieth of its size.
    pub const FLOOR: u64 = 64 * 1024 * 1024;

    /// Returns whether there is hardly any space left for files.
    #[must_use]
    pub fn is_low(self) -> bool {
        self.free < Self::FLOOR.min(self.size / 50)
    }
}

impl SlaveReport {
    /// Silence of a slave that has not registered since the master started.
    pub const NOT_HEARD: u64 = u64::MAX;

    /// Returns the milliseconds since the last heartbeat.
    ///
    /// `None` if the slave has not registered since the master started.
    #[must_use]
    pub fn silence_ms(&self) -> Option<u64> {
        (self.silent_ms != Self::NOT_HEARD).then_some(self.silent_ms)
    }
}
