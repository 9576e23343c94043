//! Any message of a cluster link.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use relais_proto::{
    Annotations, Change, ChangeId, ChangeRequest, ClusterId, CommittedEntry, ContentHashes,
    DiskSpace, FileContent, FolderId, ForwardedLogin, Heartbeat, HistoryHash, HttpListeners,
    LinkMessage, ListedPath, Lock, LockRequest, LockToken, LogEntry, LogOut, Lsn, Operation,
    PathList, PathPage, PeerSlave, Property, PropertyChange, PropertyName, Refusal, Registration,
    ReplicaPosition, Scrub, Sha256, SlaveId, SlaveReport, SlaveState, TicketRenewal, Timeline,
    ToMaster, ToSlave, TreeEntry, TreePage, UploadKeys, limits,
};

use super::{
    addr, attributes, digest, expect, id16, lsn, metrics, mode, path, refusal, text, time,
};

/// Longest list in a message of which a frame holds any: entries have long paths.
const FEW: usize = 12;

pub fn state() -> impl Strategy<Value = SlaveState> {
    proptest::sample::select(&[
        SlaveState::InService,
        SlaveState::CatchingUp,
        SlaveState::Draining,
        SlaveState::Down,
    ])
}

fn change_id() -> impl Strategy<Value = ChangeId> {
    id16().prop_map(ChangeId)
}

fn folder() -> impl Strategy<Value = FolderId> {
    id16().prop_map(FolderId)
}

fn chain() -> impl Strategy<Value = HistoryHash> {
    any::<[u8; 32]>().prop_map(HistoryHash)
}

fn size() -> impl Strategy<Value = u64> {
    0..=limits::FILE_SIZE
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (path(), size(), digest(), time(), mode()).prop_map(|(path, size, digest, mtime, mode)| {
            Change::Put { path, size, digest, mtime, mode }
        }),
        (path(), mode()).prop_map(|(path, mode)| Change::MakeFolder { path, mode }),
        (path(), attributes())
            .prop_map(|(path, attributes)| Change::SetAttributes { path, attributes }),
        (path(), any::<bool>()).prop_map(|(path, recursive)| Change::Remove { path, recursive }),
        (path(), path()).prop_map(|(from, to)| Change::Move { from, to }),
        lsn().prop_map(|of| Change::Withdraw { of }),
        (path(), vec((property_name(), option::of(property_value())), 0..4)).prop_map(
            |(path, changes)| Change::SetProperties {
                path,
                changes: changes
                    .into_iter()
                    .map(|(name, value)| PropertyChange { name, value })
                    .collect(),
            }
        ),
        (path(), lock()).prop_map(|(path, lock)| {
            let Lock { token, user, owner, exclusive, deep, expires_ms, .. } = lock;
            let seconds =
                u32::try_from(expires_ms % u64::from(limits::LOCK_SECONDS + 1)).unwrap_or(0);
            let lock = LockRequest { token, user, owner, exclusive, deep, seconds };
            Change::Lock { path, lock }
        }),
        (path(), token()).prop_map(|(path, token)| Change::Unlock { path, token }),
        (lsn(), hashes()).prop_map(|(put, hashes)| Change::RecordSha256 { put, hashes }),
    ]
}

fn property_name() -> impl Strategy<Value = PropertyName> {
    (text(limits::PROPERTY_NAMESPACE), text(limits::PROPERTY_LOCAL))
        .prop_map(|(namespace, local)| PropertyName { namespace, local })
}

fn property_value() -> impl Strategy<Value = String> {
    text(1000)
}

fn token() -> impl Strategy<Value = LockToken> {
    id16().prop_map(LockToken)
}

fn lock() -> impl Strategy<Value = Lock> {
    let flags = any::<(bool, bool)>();
    (token(), any::<u32>(), text(limits::USER), text(1000), flags, any::<u64>()).prop_map(
        |(token, account, user, owner, (exclusive, deep), expires_ms)| Lock {
            token,
            account,
            user,
            owner,
            exclusive,
            deep,
            expires_ms,
        },
    )
}

fn hashes() -> impl Strategy<Value = ContentHashes> {
    let hash = || any::<[u8; 32]>().prop_map(Sha256);
    (hash(), 20..63_u32, vec(hash(), 0..100)).prop_map(|(sha256, power, pieces)| ContentHashes {
        sha256,
        piece_size: 1 << power,
        pieces,
    })
}

fn annotations() -> impl Strategy<Value = Annotations> {
    let property = (path(), property_name(), property_value())
        .prop_map(|(path, name, value)| (path, Property { name, value }));
    (vec(property, 0..2), vec((path(), lock()), 0..2), vec((lsn(), hashes()), 0..2))
        .prop_map(|(properties, locks, hashes)| Annotations { properties, locks, hashes })
}

fn position() -> impl Strategy<Value = ReplicaPosition> {
    (lsn(), chain(), any::<u32>()).prop_map(|(applied, chain, epoch)| ReplicaPosition {
        applied,
        chain,
        epoch,
    })
}

fn entry() -> impl Strategy<Value = TreeEntry> {
    let content = (lsn(), digest(), size(), time())
        .prop_map(|(put, digest, size, mtime)| FileContent { put, digest, size, mtime });
    (lsn(), mode(), option::of(content)).prop_map(|(version, mode, content)| TreeEntry {
        version,
        mode,
        content,
    })
}

fn ids() -> impl Strategy<Value = Vec<(ChangeId, Lsn)>> {
    vec((change_id(), lsn()), 0..200)
}

fn committed() -> impl Strategy<Value = CommittedEntry> {
    let log_entry = (lsn(), change_id(), any::<u64>(), change())
        .prop_map(|(version, id, time_ms, change)| LogEntry { version, id, time_ms, change });
    let restored = vec((path(), option::of(entry())), 0..3);
    (log_entry, vec(folder(), 0..=limits::HOLDERS), restored)
        .prop_map(|(entry, holders, restored)| CommittedEntry { entry, holders, restored })
}

fn to_master() -> impl Strategy<Value = ToMaster> {
    prop_oneof![
        (id16(), folder(), position()).prop_map(|(slave, folder, position)| ToMaster::Join {
            slave: SlaveId(slave),
            folder,
            position
        }),
        (lsn(), vec(lsn(), 0..=limits::LINK_LIST), any::<bool>())
            .prop_map(|(upto, puts, last)| ToMaster::MissingContents { upto, puts, last }),
        (
            change_id(),
            change(),
            expect(),
            any::<(bool, bool)>(),
            any::<u16>(),
            vec(token(), 0..=limits::LOCK_TOKENS)
        )
            .prop_map(|(id, change, expect, (keep_mode, found), copies, tokens)| {
                ToMaster::Propose {
                    request: ChangeRequest { id, change, expect, keep_mode, tokens },
                    found,
                    copies,
                }
            }),
        change_id().prop_map(|id| ToMaster::QueryChange { id }),
        lsn().prop_map(|upto| ToMaster::Applied { upto }),
        (lsn(), any::<bool>()).prop_map(|(put, has)| ToMaster::Holds { put, has }),
        lsn().prop_map(|of| ToMaster::PublishFailed { of }),
        lsn().prop_map(|put| ToMaster::GivenUp { put }),
        lsn().prop_map(|put| ToMaster::FindHolders { put }),
        Just(ToMaster::Ready),
    ]
}

fn to_slave() -> impl Strategy<Value = ToSlave> {
    let given_up = || vec(lsn(), 0..=limits::GIVEN_UP);
    let about = (refusal(), option::of(path()))
        .prop_map(|(refusal, path)| Err(Refusal { path, ..refusal }));
    let answer = prop_oneof![lsn().prop_map(Ok), about];
    prop_oneof![
        (any::<u32>(), lsn(), chain(), given_up(), timelines()).prop_map(
            |(epoch, lsn, chain, given_up, timelines)| ToSlave::Follow {
                epoch,
                lsn,
                chain,
                given_up,
                timelines,
            }
        ),
        (any::<u32>(), lsn(), given_up()).prop_map(|(epoch, lsn, given_up)| ToSlave::Compare {
            epoch,
            lsn,
            given_up
        }),
        (vec((path(), entry()), 0..FEW), ids(), annotations())
            .prop_map(|(entries, ids, annotations)| ToSlave::Page { entries, ids, annotations }),
        (lsn(), chain(), timelines(), any::<u64>()).prop_map(|(lsn, chain, timelines, entries)| {
            ToSlave::End { lsn, chain, timelines, entries }
        }),
        vec(committed(), 0..8).prop_map(|changes| ToSlave::Commit { changes }),
        (change_id(), answer).prop_map(|(id, answer)| ToSlave::ProposalResult { id, answer }),
        (lsn(), any::<u16>()).prop_map(|(put, copies)| ToSlave::Copies { put, copies }),
        lsn().prop_map(|put| ToSlave::GiveUp { put }),
        (lsn(), vec(folder(), 0..=limits::HOLDERS))
            .prop_map(|(put, holders)| ToSlave::Holders { put, holders }),
        (any::<u32>(), refusal()).prop_map(|(epoch, why)| ToSlave::Refuse { epoch, why }),
    ]
}

fn tree_part() -> impl Strategy<Value = TreePage> {
    let entries = || vec((path(), entry(), any::<bool>()), 0..FEW);
    (any::<u64>(), entries(), (ids(), annotations()), position(), timelines(), any::<bool>())
        .prop_map(|(query, entries, (ids, annotations), position, timelines, last)| TreePage {
            query,
            entries,
            ids,
            annotations,
            position,
            timelines,
            last,
        })
}

fn http_listeners() -> impl Strategy<Value = HttpListeners> {
    let addrs = || vec(addr(), 0..=limits::ADDRESSES);
    (addrs(), addrs()).prop_map(|(clear, encrypted)| HttpListeners { clear, encrypted })
}

fn opening() -> impl Strategy<Value = LinkMessage> {
    let addrs = vec(addr(), 0..=limits::ADDRESSES);
    prop_oneof![
        (id16(), any::<[u8; 32]>())
            .prop_map(|(id, nonce)| LinkMessage::LinkOpen { id: SlaveId(id), nonce }),
        (id16(), any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(id, nonce, proof)| {
            LinkMessage::LinkChallenge { cluster: ClusterId(id), nonce, proof }
        }),
        any::<[u8; 32]>().prop_map(|proof| LinkMessage::LinkProof { proof }),
        (folder(), addrs, text(limits::TEXT), lsn(), proptest::option::of(http_listeners()))
            .prop_map(|(folder, listen, advertise, lsn, http)| {
                LinkMessage::Register(Registration { folder, listen, advertise, lsn, http })
            }),
        path().prop_map(|path| LinkMessage::HashContent { path }),
        (lsn(), any::<u64>()).prop_map(|(lsn, time_ms)| LinkMessage::Registered { lsn, time_ms }),
    ]
}

fn service() -> impl Strategy<Value = LinkMessage> {
    let addrs = || vec(addr(), 0..=limits::ADDRESSES);
    let report =
        (id16(), folder(), addrs(), state(), lsn(), metrics(), text(limits::TEXT), any::<u64>())
            .prop_map(|(id, folder, addrs, state, lsn, metrics, last_error, silent_ms)| {
                LinkMessage::SlaveReport(SlaveReport {
                    id: SlaveId(id),
                    folder,
                    addrs,
                    state,
                    lsn,
                    metrics,
                    last_error,
                    silent_ms,
                })
            });
    let peer = (id16(), folder(), addrs()).prop_map(|(slave, folder, addrs)| PeerSlave {
        slave: SlaveId(slave),
        folder,
        addrs,
    });
    prop_oneof![
        (state(), lsn(), metrics(), text(limits::TEXT), any::<([u64; 8], bool)>()).prop_map(
            |(state, lsn, metrics, last_error, (n, done))| {
                let [order, files, read, damaged, repaired, unreadable, free, size] = n;
                let scrub = Scrub { order, done, files, read, damaged, repaired, unreadable };
                let disk = DiskSpace { free, size };
                LinkMessage::Heartbeat(Heartbeat { state, lsn, metrics, last_error, disk, scrub })
            }
        ),
        (lsn(), any::<[u64; 4]>(), any::<(bool, u16)>()).prop_map(
            |(lsn, [time_ms, generation, scrubs, retries], (draining, copies))| {
                LinkMessage::HeartbeatAck {
                    lsn,
                    time_ms,
                    generation,
                    draining,
                    scrubs,
                    copies,
                    retries,
                }
            }
        ),
        (vec(peer, 0..=limits::PEERS), any::<bool>())
            .prop_map(|(peers, last)| LinkMessage::Peers { peers, last }),
        Just(LinkMessage::AskReport),
        report,
        (lsn(), text(limits::TEXT), any::<[u64; 3]>()).prop_map(
            |(lsn, halted, [lost, removals, removals_cap])| LinkMessage::ReportEnd {
                lsn,
                halted,
                lost,
                removals,
                removals_cap
            }
        ),
    ]
}

fn path_list() -> impl Strategy<Value = PathList> {
    proptest::sample::select(&[PathList::Skipped, PathList::Unapplied])
}

fn path_part() -> impl Strategy<Value = LinkMessage> {
    let note = (text(4000), text(limits::TEXT), any::<u64>())
        .prop_map(|(path, reason, since_ms)| ListedPath { path, reason, since_ms });
    (any::<[u64; 2]>(), vec(note, 0..=FEW), any::<bool>()).prop_map(
        |([query, total], paths, last)| {
            LinkMessage::PathPage(PathPage { query, paths, total, last })
        },
    )
}

fn timelines() -> impl Strategy<Value = Vec<Timeline>> {
    let one = (lsn(), any::<[u8; 16]>()).prop_map(|(after, id)| Timeline { after, id });
    vec(one, 0..=limits::TIMELINES)
}

fn operator() -> impl Strategy<Value = LinkMessage> {
    let slave = || text(limits::TEXT);
    let operation = prop_oneof![
        slave().prop_map(Operation::Drain),
        slave().prop_map(Operation::Ready),
        slave().prop_map(Operation::Forget),
        Just(Operation::Diff),
        any::<bool>().prop_map(|wait| Operation::Scrub { wait }),
        Just(Operation::Skipped),
        any::<bool>().prop_map(|go| Operation::Recover { go }),
        Just(Operation::Export),
    ];
    prop_oneof![
        operation.prop_map(LinkMessage::Operate),
        text(limits::LINE).prop_map(LinkMessage::Line),
        any::<bool>().prop_map(|ok| LinkMessage::LineEnd { ok }),
        proptest::array::uniform32(any::<u8>()).prop_map(|half| {
            let mut point = [4; limits::POINT];
            point[1..33].copy_from_slice(&half);
            LinkMessage::AskCertificate { point }
        }),
        (text(limits::CERTIFICATE), any::<u64>())
            .prop_map(|(chain, renew_s)| LinkMessage::Certificate { chain, renew_s }),
    ]
}

fn login() -> impl Strategy<Value = LinkMessage> {
    let head = || (any::<u64>(), addr(), any::<bool>());
    let ticket = || vec(any::<u8>(), 0..=limits::TICKET);
    prop_oneof![
        (head(), text(limits::USER), vec(any::<u8>(), 0..=limits::PASSWORD)).prop_map(
            |((query, client, local), user, password)| {
                let password = password.as_slice().into();
                LinkMessage::ForwardedLogin(ForwardedLogin { query, client, local, user, password })
            }
        ),
        (head(), ticket()).prop_map(|((query, client, local), ticket)| {
            LinkMessage::TicketRenewal(TicketRenewal { query, client, local, ticket })
        }),
        (any::<u64>(), lsn(), ticket())
            .prop_map(|(query, lsn, ticket)| LinkMessage::TicketIssued { query, lsn, ticket }),
        (any::<u64>(), refusal()).prop_map(|(query, why)| LinkMessage::LoginRefused { query, why }),
    ]
}

fn uploads() -> impl Strategy<Value = LinkMessage> {
    let keys = || vec(any::<[u8; 16]>(), 0..8);
    (any::<[bool; 2]>(), keys(), keys()).prop_map(|([all, others], pending, ended)| {
        let keys = UploadKeys { all, pending, ended };
        if others { LinkMessage::OtherUploads(keys) } else { LinkMessage::PathUploads(keys) }
    })
}

fn log_outs() -> impl Strategy<Value = LinkMessage> {
    let row = any::<(u8, u64, u64)>().prop_map(|(part, ticket, until_ms)| LogOut {
        part,
        ticket,
        until_ms,
    });
    (any::<bool>(), vec(row, 0..8)).prop_map(|(others, rows)| {
        if others { LinkMessage::OtherLogOuts(rows) } else { LinkMessage::LogOuts(rows) }
    })
}

pub fn link() -> impl Strategy<Value = LinkMessage> {
    prop_oneof![
        2 => opening(),
        2 => service(),
        4 => to_master().prop_map(LinkMessage::ToMaster),
        4 => to_slave().prop_map(LinkMessage::ToSlave),
        1 => (any::<u64>(), any::<bool>()).prop_map(|(query, ids)| LinkMessage::AskTree { query, ids }),
        1 => tree_part().prop_map(LinkMessage::TreePage),
        1 => (any::<u64>(), path_list()).prop_map(|(query, list)| LinkMessage::AskPaths { query, list }),
        1 => path_part(),
        1 => any::<u32>().prop_map(|epoch| LinkMessage::Recovering { epoch }),
        1 => operator(),
        1 => login(),
        1 => uploads(),
        1 => log_outs(),
    ]
}
