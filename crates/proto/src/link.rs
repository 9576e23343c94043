//! What a master, its slaves and its operators say to each other.
//!
//! A link begins with `Hello` and `LinkOpen`, sent together. The master
//! answers `Welcome` and `LinkChallenge`, which proves first that it has the
//! cluster key; then the other side sends `LinkProof`, and behind it what it wants.

use std::net::SocketAddr;

use crate::message::{decode_addrs, encode_addrs};
use crate::{
    ClusterId, Counters, Decode, Decoder, Encoder, FolderId, FrameType, Lsn, SlaveId, ToMaster,
    ToSlave, TreePage, WireError, encode_frame, limits,
};

/// A state in which the master has a slave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlaveState {
    /// It gets sessions.
    InService,
    /// It is there and not ready for sessions yet.
    CatchingUp,
    /// It gets no new sessions.
    Draining,
    /// It does not answer, or none of its workers does.
    Down,
}

impl SlaveState {
    /// The state's name, as in `status --json`.
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

/// What a slave says of itself when it registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The folder that it serves.
    pub folder: FolderId,
    /// Where it listens; the unspecified address means all interfaces.
    pub listen: Vec<SocketAddr>,
    /// Where clients shall be sent instead, `HOST:PORT`; empty: nowhere else.
    pub advertise: String,
    /// The latest change that it has.
    pub lsn: Lsn,
}

/// A slave's heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// What the slave thinks of itself; never `Down`.
    pub state: SlaveState,
    /// The latest change that it has.
    pub lsn: Lsn,
    /// Pool and folder.
    pub counters: Counters,
    /// Its last error; empty where there was none.
    pub last_error: String,
    /// The room in the folder's file system.
    pub disk: DiskSpace,
    /// How far reading and checking of all contents has come.
    pub scrub: Scrub,
}

/// The room in a file system, in bytes. Both are 0 where it does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskSpace {
    /// What can still be written.
    pub free: u64,
    /// All of it.
    pub size: u64,
}

impl DiskSpace {
    /// Less than this is hardly any room for files, in bytes; on a small disk it is a fiftieth.
    pub const FLOOR: u64 = 64 * 1024 * 1024;

    /// Whether there is hardly any room left for files.
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

/// How far a slave has come with reading and checking all its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scrub {
    /// The order that it follows, as in the answer to a heartbeat; 0 for none on this link.
    pub order: u64,
    /// Whether all was read.
    pub done: bool,
    /// Files that are to be read.
    pub files: u64,
    /// Files that were read.
    pub read: u64,
    /// Files whose content was not what it should be.
    pub damaged: u64,
    /// Those of them whose content came anew.
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

/// A list of paths that a slave can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathList {
    /// Names in the folder that are not served.
    Skipped,
    /// Paths at which the disk is not as the tree says.
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

/// A path of such a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPath {
    /// The path, with all that cannot be shown escaped.
    pub path: String,
    /// Why it is in the list.
    pub reason: String,
    /// Since when, in milliseconds since 1970 UTC; 0 where that is not known.
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

/// Some paths of a slave's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPage {
    /// The number of the question.
    pub query: u64,
    /// At most [`limits::LINK_LIST`], and [`limits::SHOWN_PATHS`] in all parts together.
    pub paths: Vec<ListedPath>,
    /// How many there are, also those that are not named.
    pub total: u64,
    /// Whether this is the last part.
    pub last: bool,
}

/// One slave as the master sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlaveReport {
    /// Which slave.
    pub id: SlaveId,
    /// Which folder it serves.
    pub folder: FolderId,
    /// Where clients on the asker's host are sent to; none while it is unknown.
    pub addrs: Vec<SocketAddr>,
    /// Its state.
    pub state: SlaveState,
    /// The latest change that it has.
    pub lsn: Lsn,
    /// Its counters.
    pub counters: Counters,
    /// Its last error; empty where there was none.
    pub last_error: String,
    /// Milliseconds since its last heartbeat, or [`Self::NOT_HEARD`].
    pub silent_ms: u64,
}

impl SlaveReport {
    /// The silence of a slave that has not registered since the master started.
    pub const NOT_HEARD: u64 = u64::MAX;

    /// Milliseconds since its last heartbeat; none where it has not registered since the master started.
    #[must_use]
    pub fn silence_ms(&self) -> Option<u64> {
        (self.silent_ms != Self::NOT_HEARD).then_some(self.silent_ms)
    }
}

/// A slave as other slaves know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSlave {
    /// Which slave.
    pub slave: SlaveId,
    /// The folder that it serves.
    pub folder: FolderId,
    /// Where the slave that is told can reach it.
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

/// What an operator wants done. A slave is named by its id or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// No new sessions for a slave, and those that it has move on.
    Drain(String),
    /// A drained slave gets sessions again.
    Ready(String),
    /// A slave will not come back.
    Forget(String),
    /// What differs between the slaves' trees and the master's.
    Diff,
    /// Every slave reads all its contents and fetches anew what is damaged.
    Scrub {
        /// Whether the operator hears how it goes, until the end.
        wait: bool,
    },
    /// The tree is built anew from the slaves'.
    Recover {
        /// Whether it is done, not only shown.
        go: bool,
    },
    /// The journal.
    Export,
    /// The names in the slaves' folders that are not served.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkMessage {
    /// Who we are, and a fresh nonce.
    LinkOpen {
        /// The slave's id; for an operator random.
        id: SlaveId,
        /// Fresh random bytes.
        nonce: [u8; 32],
    },
    /// The master's nonce and its proof.
    LinkChallenge {
        /// The cluster.
        cluster: ClusterId,
        /// Fresh random bytes.
        nonce: [u8; 32],
        /// Proof of the key over role, ids and both nonces.
        proof: [u8; 32],
    },
    /// The other side's proof.
    LinkProof {
        /// Proof of the key over role, ids and both nonces.
        proof: [u8; 32],
    },
    /// A slave offers its service.
    Register(Registration),
    /// It is known from now on.
    Registered {
        /// The latest change.
        lsn: Lsn,
        /// The master's time: milliseconds since 1970 UTC.
        time_ms: u64,
    },
    /// A slave's heartbeat.
    Heartbeat(Heartbeat),
    /// Answer to a heartbeat.
    HeartbeatAck {
        /// The latest change.
        lsn: Lsn,
        /// The master's time: milliseconds since 1970 UTC.
        time_ms: u64,
        /// Generation of the accounts; tickets of older ones are refused.
        generation: u64,
        /// Whether the slave is being drained.
        draining: bool,
        /// How often all contents were to be read and checked, since the master was started.
        scrubs: u64,
        /// How many disks must hold the content of a put whose client says nothing of it.
        copies: u16,
        /// How often an operator has made this slave ready since the master was started: what its disk refused is tried again then.
        retries: u64,
    },
    /// An operator asks for all slaves.
    AskReport,
    /// One slave.
    SlaveReport(SlaveReport),
    /// All slaves were named.
    ReportEnd {
        /// The latest change.
        lsn: Lsn,
        /// Why no changes are taken; empty where they are.
        halted: String,
        /// Contents that no slave is known to have.
        lost: u64,
        /// Removal records: how many there are.
        removals: u64,
        /// How many removal records there may be.
        removals_cap: u64,
    },
    /// What a slave says about changes.
    ToMaster(ToMaster),
    /// What the master says about changes.
    ToSlave(ToSlave),
    /// The slaves of the cluster, in pages; the list counts once the last has come.
    Peers {
        /// At most [`limits::PEERS`].
        peers: Vec<PeerSlave>,
        /// Whether this is the last page.
        last: bool,
    },
    /// The master asks for a slave's tree.
    AskTree {
        /// The number of the question.
        query: u64,
        /// Whether the ids of changes are wanted too.
        ids: bool,
    },
    /// A part of a slave's tree.
    TreePage(TreePage),
    /// The master asks for paths of a slave that need an operator's eye.
    AskPaths {
        /// The number of the question.
        query: u64,
        /// Which ones.
        list: PathList,
    },
    /// Some of them.
    PathPage(PathPage),
    /// The cluster is recovered in this epoch: nothing of an earlier one is followed any more.
    Recovering {
        /// The epoch.
        epoch: u32,
    },
    /// An operator wants something done.
    Operate(Operation),
    /// A line for the operator, without its end.
    Line(String),
    /// All is told.
    LineEnd {
        /// Whether it is done, and all is well.
        ok: bool,
    },
    /// A slave wants a certificate for this public key: a point of the curve P-256, uncompressed.
    AskCertificate {
        /// The point.
        point: [u8; limits::POINT],
    },
    /// A slave's certificate.
    Certificate {
        /// The slave's own and the authority's, in PEM.
        chain: String,
        /// Seconds after which the slave asks for another one.
        renew_s: u64,
    },
}

impl LinkMessage {
    /// The type of its frame.
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

    /// Reads the payload of a frame of type `kind`.
    ///
    /// # Errors
    /// [`WireError::Unexpected`] where `kind` is none of a link's, or what is wrong with the payload.
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
