//! Messages between a master, its slaves and operators.
//!
//! A link begins with `Hello` and `LinkOpen` in one packet. The master answers `Welcome` and
//! `LinkChallenge`; the challenge first proves that the master has the cluster key. Then the other
//! side sends `LinkProof` and its first message.

use std::net::SocketAddr;

use crate::message::{decode_addrs, encode_addrs};
use crate::{
    ClusterId, Counters, Decode, Decoder, Encoder, FolderId, FrameType, Lsn, SlaveId, ToMaster,
    ToSlave, TreePage, WireError, encode_frame, limits,
};

/// State of a slave, as the master sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlaveState {
    /// The slave gets sessions.
    InService,
    /// The slave is connected but not ready for sessions yet.
    CatchingUp,
    /// The slave gets no new sessions.
    Draining,
    /// The slave does not answer, or none of its workers does.
    Down,
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

    fn encode(self, to: &mut Encoder<'_>) {
        to.u8(match self {
            Self::InService => 0,
            Self::CatchingUp => 1,
            Self::Draining => 2,
            Self::Down => 3,
        });
    }
}

impl Decode for SlaveState {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        match from.u8()? {
            0 => Ok(Self::InService),
            1 => Ok(Self::CatchingUp),
            2 => Ok(Self::Draining),
            3 => Ok(Self::Down),
            other => Err(WireError::BadValue { what: "slave state", value: other.into() }),
        }
    }
}

/// Registration of a slave at its master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The folder that it serves.
    pub folder: FolderId,
    /// Listening addresses; the unspecified address means all interfaces.
    pub listen: Vec<SocketAddr>,
    /// Address for clients, `HOST:PORT`; empty for the listening addresses.
    pub advertise: String,
    /// Latest change that the slave has applied.
    pub lsn: Lsn,
}

/// A slave's heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The slave's own view of its state; never `Down`.
    pub state: SlaveState,
    /// Latest change that the slave has applied.
    pub lsn: Lsn,
    /// Counters of pool and folder.
    pub counters: Counters,
    /// Last error of the slave; empty if there was none.
    pub last_error: String,
    /// Space in the folder's file system.
    pub disk: DiskSpace,
    /// Progress of the scrub.
    pub scrub: Scrub,
}

/// Space in a file system, in bytes. Both values are 0 if the file system does not report it.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskSpace {
    pub free: u64,
    pub size: u64,
}

impl DiskSpace {
    /// Free space below this value counts as low, in bytes; on a small disk a fiftieth of its size.
    pub const FLOOR: u64 = 64 * 1024 * 1024;

    /// Returns whether there is hardly any space left for files.
    #[must_use]
    pub fn is_low(self) -> bool {
        self.free < Self::FLOOR.min(self.size / 50)
    }

    fn encode(self, to: &mut Encoder<'_>) {
        to.u64(self.free).u64(self.size);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self { free: from.u64()?, size: from.u64()? })
    }
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

impl Scrub {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.u64(self.order).bool(self.done);
        for n in [self.files, self.read, self.damaged, self.repaired, self.unreadable] {
            to.u64(n);
        }
    }
}

impl Decode for Scrub {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self {
            order: from.u64()?,
            done: from.bool()?,
            files: from.u64()?,
            read: from.u64()?,
            damaged: from.u64()?,
            repaired: from.u64()?,
            unreadable: from.u64()?,
        })
    }
}

/// A list of paths that the master can request from a slave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathList {
    /// Names in the folder that are not served.
    Skipped,
    /// Paths where the disk differs from the tree.
    Unapplied,
}

impl PathList {
    fn encode(self, to: &mut Encoder<'_>) {
        to.u8(match self {
            Self::Skipped => 0,
            Self::Unapplied => 1,
        });
    }
}

impl Decode for PathList {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        match from.u8()? {
            0 => Ok(Self::Skipped),
            1 => Ok(Self::Unapplied),
            other => Err(WireError::BadValue { what: "list of paths", value: other.into() }),
        }
    }
}

/// A path in a [`PathList`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPath {
    /// The path, with unsafe characters escaped.
    pub path: String,
    /// Reason for the entry.
    pub reason: String,
    /// Start of the condition in milliseconds since 1970 UTC; 0 if unknown.
    pub since_ms: u64,
}

impl ListedPath {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.short_text(&self.path[..self.path.floor_char_boundary(limits::SHOWN_PATH)])
            .message(&self.reason)
            .u64(self.since_ms);
    }
}

impl Decode for ListedPath {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self {
            path: from.short_text("shown path", limits::SHOWN_PATH)?.to_owned(),
            reason: from.short_text("reason", limits::TEXT)?.to_owned(),
            since_ms: from.u64()?,
        })
    }
}

/// One page of a [`PathList`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPage {
    /// Number of the query.
    pub query: u64,
    /// At most [`limits::LINK_LIST`] paths; [`limits::SHOWN_PATHS`] in all pages together.
    pub paths: Vec<ListedPath>,
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
    pub addrs: Vec<SocketAddr>,
    pub state: SlaveState,
    /// Latest change that the slave has applied.
    pub lsn: Lsn,
    pub counters: Counters,
    /// Last error of the slave; empty if there was none.
    pub last_error: String,
    /// Milliseconds since its last heartbeat, or [`Self::NOT_HEARD`].
    pub silent_ms: u64,
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

/// A slave as the other slaves of the cluster see it.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSlave {
    pub slave: SlaveId,
    pub folder: FolderId,
    /// Addresses where the receiving slave can reach it.
    pub addrs: Vec<SocketAddr>,
}

impl PeerSlave {
    fn encode(&self, to: &mut Encoder<'_>) {
        self.slave.encode(to);
        self.folder.encode(to);
        encode_addrs(&self.addrs, to);
    }
}

impl Decode for PeerSlave {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self {
            slave: SlaveId::decode(from)?,
            folder: FolderId::decode(from)?,
            addrs: decode_addrs(from)?,
        })
    }
}

/// A command of an operator. It names a slave by id or address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Drains a slave: it gets no new sessions, and its sessions move to other slaves.
    Drain(String),
    /// Ends the drain of a slave.
    Ready(String),
    /// Removes a slave from the cluster for good.
    Forget(String),
    /// Shows the differences between the slaves' trees and the master's.
    Diff,
    /// Makes every slave verify all its contents and fetch damaged ones again.
    Scrub {
        /// Whether the operator gets progress lines until the end.
        wait: bool,
    },
    /// Rebuilds the master's tree from the slaves' trees.
    Recover {
        /// Whether to recover; otherwise the plan is only shown.
        go: bool,
    },
    /// Exports the journal.
    Export,
    /// Lists the names in the slaves' folders that are not served.
    Skipped,
}

impl Operation {
    fn encode(&self, to: &mut Encoder<'_>) {
        match self {
            Self::Drain(slave) => to.u8(0).message(slave),
            Self::Ready(slave) => to.u8(1).message(slave),
            Self::Forget(slave) => to.u8(2).message(slave),
            Self::Diff => to.u8(3),
            Self::Scrub { wait } => to.u8(4).bool(*wait),
            Self::Recover { go } => to.u8(5).bool(*go),
            Self::Export => to.u8(6),
            Self::Skipped => to.u8(7),
        };
    }
}

impl Decode for Operation {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let slave =
            |from: &mut Decoder<'_>| from.short_text("slave", limits::TEXT).map(str::to_owned);
        Ok(match from.u8()? {
            0 => Self::Drain(slave(from)?),
            1 => Self::Ready(slave(from)?),
            2 => Self::Forget(slave(from)?),
            3 => Self::Diff,
            4 => Self::Scrub { wait: from.bool()? },
            5 => Self::Recover { go: from.bool()? },
            6 => Self::Export,
            7 => Self::Skipped,
            other => return Err(WireError::BadValue { what: "operation", value: other.into() }),
        })
    }
}

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
    /// Requests the state of all slaves.
    AskReport,
    /// State of one slave.
    SlaveReport(SlaveReport),
    /// End of the slaves' states.
    ReportEnd {
        /// Latest change.
        lsn: Lsn,
        /// Reason why changes are halted; empty if they are not.
        halted: String,
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
        peers: Vec<PeerSlave>,
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
    Line(String),
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
        chain: String,
        /// Seconds until the slave requests a new certificate.
        renew_s: u64,
    },
}

impl LinkMessage {
    /// Returns the type of the message's frame.
    #[must_use]
    pub fn frame_type(&self) -> FrameType {
        match self {
            Self::LinkOpen { .. } => FrameType::LinkOpen,
            Self::LinkChallenge { .. } => FrameType::LinkChallenge,
            Self::LinkProof { .. } => FrameType::LinkProof,
            Self::Register(_) => FrameType::Register,
            Self::Registered { .. } => FrameType::Registered,
            Self::Heartbeat(_) => FrameType::Heartbeat,
            Self::HeartbeatAck { .. } => FrameType::HeartbeatAck,
            Self::AskReport => FrameType::AskReport,
            Self::SlaveReport(_) => FrameType::SlaveReport,
            Self::ReportEnd { .. } => FrameType::ReportEnd,
            Self::ToMaster(_) => FrameType::ToMaster,
            Self::ToSlave(_) => FrameType::ToSlave,
            Self::Peers { .. } => FrameType::Peers,
            Self::AskTree { .. } => FrameType::AskTree,
            Self::TreePage(_) => FrameType::TreePage,
            Self::AskPaths { .. } => FrameType::AskPaths,
            Self::PathPage(_) => FrameType::PathPage,
            Self::Recovering { .. } => FrameType::Recovering,
            Self::Operate(_) => FrameType::Operate,
            Self::Line(_) => FrameType::Line,
            Self::LineEnd { .. } => FrameType::LineEnd,
            Self::AskCertificate { .. } => FrameType::AskCertificate,
            Self::Certificate { .. } => FrameType::Certificate,
        }
    }

    /// Appends the whole frame.
    pub fn encode(&self, to: &mut Vec<u8>) {
        encode_frame(to, self.frame_type(), |to| {
            let to = &mut Encoder::new(to);
            match self {
                Self::LinkOpen { id, nonce } => {
                    id.encode(to);
                    to.bytes(nonce);
                }
                Self::LinkChallenge { cluster, nonce, proof } => {
                    cluster.encode(to);
                    to.bytes(nonce).bytes(proof);
                }
                Self::LinkProof { proof } => {
                    to.bytes(proof);
                }
                Self::Register(r) => {
                    r.folder.encode(to);
                    encode_addrs(&r.listen, to);
                    to.message(&r.advertise);
                    r.lsn.encode(to);
                }
                Self::Registered { lsn, time_ms } => {
                    lsn.encode(to);
                    to.u64(*time_ms);
                }
                Self::Heartbeat(beat) => {
                    beat.state.encode(to);
                    beat.lsn.encode(to);
                    beat.counters.encode(to);
                    to.message(&beat.last_error);
                    beat.disk.encode(to);
                    beat.scrub.encode(to);
                }
                Self::HeartbeatAck {
                    lsn,
                    time_ms,
                    generation,
                    draining,
                    scrubs,
                    copies,
                    retries,
                } => {
                    lsn.encode(to);
                    to.u64(*time_ms).u64(*generation).bool(*draining).u64(*scrubs).u16(*copies);
                    to.u64(*retries);
                }
                Self::AskReport => {}
                Self::SlaveReport(r) => {
                    r.id.encode(to);
                    r.folder.encode(to);
                    encode_addrs(&r.addrs, to);
                    r.state.encode(to);
                    r.lsn.encode(to);
                    r.counters.encode(to);
                    to.message(&r.last_error).u64(r.silent_ms);
                }
                Self::ReportEnd { lsn, halted, lost, removals, removals_cap } => {
                    lsn.encode(to);
                    to.message(halted).u64(*lost).u64(*removals).u64(*removals_cap);
                }
                Self::ToMaster(message) => message.encode(to),
                Self::ToSlave(message) => message.encode(to),
                Self::Peers { peers, last } => {
                    to.list(peers, PeerSlave::encode).bool(*last);
                }
                Self::AskTree { query, ids } => {
                    to.u64(*query).bool(*ids);
                }
                Self::TreePage(part) => part.encode(to),
                Self::AskPaths { query, list } => list.encode(to.u64(*query)),
                Self::PathPage(part) => {
                    to.u64(part.query).list(&part.paths, ListedPath::encode);
                    to.u64(part.total).bool(part.last);
                }
                Self::Recovering { epoch } => {
                    to.u32(*epoch);
                }
                Self::Operate(operation) => operation.encode(to),
                Self::Line(line) => {
                    to.short_text(&line[..line.floor_char_boundary(limits::LINE)]);
                }
                Self::LineEnd { ok } => {
                    to.bool(*ok);
                }
                Self::AskCertificate { point } => {
                    to.bytes(point);
                }
                Self::Certificate { chain, renew_s } => {
                    to.short_text(&chain[..chain.floor_char_boundary(limits::CERTIFICATE)])
                        .u64(*renew_s);
                }
            }
        });
    }

    /// Decodes the payload of a frame of type `kind`.
    ///
    /// # Errors
    /// [`WireError::Unexpected`] if `kind` is not a type of a link, or the defect of the payload.
    pub fn decode(kind: FrameType, payload: &[u8]) -> Result<Self, WireError> {
        let mut decoder = Decoder::new(payload);
        let from = &mut decoder;
        let message = match kind {
            FrameType::LinkOpen => {
                Self::LinkOpen { id: SlaveId::decode(from)?, nonce: from.array()? }
            }
            FrameType::LinkChallenge => Self::LinkChallenge {
                cluster: ClusterId::decode(from)?,
                nonce: from.array()?,
                proof: from.array()?,
            },
            FrameType::LinkProof => Self::LinkProof { proof: from.array()? },
            FrameType::Register => Self::Register(Registration {
                folder: FolderId::decode(from)?,
                listen: decode_addrs(from)?,
                advertise: from.short_text("advertised address", limits::TEXT)?.to_owned(),
                lsn: Lsn::decode(from)?,
            }),
            FrameType::Registered => {
                Self::Registered { lsn: Lsn::decode(from)?, time_ms: from.u64()? }
            }
            FrameType::Heartbeat => Self::Heartbeat(Heartbeat {
                state: SlaveState::decode(from)?,
                lsn: Lsn::decode(from)?,
                counters: Counters::decode(from)?,
                last_error: from.short_text("last error", limits::TEXT)?.to_owned(),
                disk: DiskSpace::decode(from)?,
                scrub: Scrub::decode(from)?,
            }),
            FrameType::HeartbeatAck => Self::HeartbeatAck {
                lsn: Lsn::decode(from)?,
                time_ms: from.u64()?,
                generation: from.u64()?,
                draining: from.bool()?,
                scrubs: from.u64()?,
                copies: from.u16()?,
                retries: from.u64()?,
            },
            FrameType::AskReport => Self::AskReport,
            FrameType::SlaveReport => Self::SlaveReport(SlaveReport {
                id: SlaveId::decode(from)?,
                folder: FolderId::decode(from)?,
                addrs: decode_addrs(from)?,
                state: SlaveState::decode(from)?,
                lsn: Lsn::decode(from)?,
                counters: Counters::decode(from)?,
                last_error: from.short_text("last error", limits::TEXT)?.to_owned(),
                silent_ms: from.u64()?,
            }),
            FrameType::ReportEnd => Self::ReportEnd {
                lsn: Lsn::decode(from)?,
                halted: from.short_text("reason", limits::TEXT)?.to_owned(),
                lost: from.u64()?,
                removals: from.u64()?,
                removals_cap: from.u64()?,
            },
            FrameType::ToMaster => Self::ToMaster(ToMaster::decode(from)?),
            FrameType::ToSlave => Self::ToSlave(ToSlave::decode(from)?),
            FrameType::Peers => {
                Self::Peers { peers: from.list("slaves", limits::PEERS)?, last: from.bool()? }
            }
            FrameType::AskTree => Self::AskTree { query: from.u64()?, ids: from.bool()? },
            FrameType::TreePage => Self::TreePage(TreePage::decode(from)?),
            FrameType::AskPaths => {
                Self::AskPaths { query: from.u64()?, list: PathList::decode(from)? }
            }
            FrameType::PathPage => Self::PathPage(PathPage {
                query: from.u64()?,
                paths: from.list("paths", limits::LINK_LIST)?,
                total: from.u64()?,
                last: from.bool()?,
            }),
            FrameType::Recovering => Self::Recovering { epoch: from.u32()? },
            FrameType::Operate => Self::Operate(Operation::decode(from)?),
            FrameType::Line => Self::Line(from.short_text("line", limits::LINE)?.to_owned()),
            FrameType::LineEnd => Self::LineEnd { ok: from.bool()? },
            FrameType::AskCertificate => Self::AskCertificate { point: from.array()? },
            FrameType::Certificate => Self::Certificate {
                chain: from.short_text("certificate", limits::CERTIFICATE)?.to_owned(),
                renew_s: from.u64()?,
            },
            other => return Err(WireError::Unexpected(other.number())),
        };
        decoder.finish()?;
        Ok(message)
    }
}
