//! Any message, any name, any page: what the round trips are tried with.

use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use relais_proto::{
    Attributes, Capabilities, ChangeId, ClusterId, ContentHeader, Digest, Endpoint, Entry,
    EntryResult, ErrorCode, EventKind, Expect, FileTime, GetRequest, Hello, Identity, IfMatch,
    Kind, Login, Lsn, Metrics, Mode, PageBuilder, PathEvent, PutRequest, Refusal, Reply, Request,
    Role, ServerRole, SlaveId, TreePath, WaitReason, check_part, limits,
};

#[path = "any_link.rs"]
pub mod link;

pub fn id16() -> impl Strategy<Value = [u8; 16]> {
    any::<[u8; 16]>()
}

pub fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

pub fn lsn() -> impl Strategy<Value = Lsn> {
    any::<(u32, u64)>().prop_map(|(epoch, number)| Lsn { epoch, number })
}

/// Any text of at most `cap` bytes, often a long one.
pub fn text(cap: usize) -> BoxedStrategy<String> {
    let cut = move |text: String| text[..text.floor_char_boundary(cap)].to_owned();
    prop_oneof![4 => ".{0,20}".prop_map(cut), 1 => ("\\PC{0,4}", 0..=cap).prop_map(move |(t, n)| cut(t + &"é".repeat(n)))].boxed()
}

pub fn part() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z .é日-]{1,12}", 1 => "[^/\\x00-\\x1f\\x7f-\\u{9f}]{1,60}", 1 => Just("x".repeat(limits::NAME_PART))]
        .prop_filter("a good part", |part| check_part(part).is_ok())
}

pub fn path() -> impl Strategy<Value = TreePath> {
    vec(part(), 0..5)
        .prop_filter_map("the reserved folder", |parts| TreePath::new(parts.join("/")).ok())
}

pub fn addr() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ];
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

pub fn endpoint(least: usize) -> impl Strategy<Value = Endpoint> {
    (id16(), vec(addr(), least..=limits::ADDRESSES))
        .prop_map(|(id, addrs)| Endpoint { id: SlaveId(id), addrs })
}

pub fn time() -> impl Strategy<Value = FileTime> {
    (any::<i64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| FileTime { seconds, nanos })
}

pub fn mode() -> impl Strategy<Value = Mode> {
    (0..=0o777_u32).prop_map(Mode::new)
}

pub fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![Just(Kind::File), Just(Kind::Folder)];
    (part(), kind, mode(), 0..=limits::FILE_SIZE, time(), option::of(lsn())).prop_map(
        |(name, kind, mode, size, mtime, version)| Entry { name, kind, mode, size, mtime, version },
    )
}

pub fn metrics() -> impl Strategy<Value = Metrics> {
    let pair = ("relais_[a-z0-9_]{1,57}", any::<u64>());
    vec(pair, 0..=limits::METRICS).prop_map(|pairs| {
        pairs.iter().fold(Metrics::default(), |all, (name, value)| all.with(name, *value))
    })
}

pub fn wanted() -> impl Strategy<Value = IfMatch> {
    prop_oneof![
        Just(IfMatch::Any),
        digest().prop_map(IfMatch::Digest),
        id16().prop_map(|id| IfMatch::Identity(Identity(id)))
    ]
}

pub fn hello() -> impl Strategy<Value = Request> {
    let role =
        prop_oneof![Just(Role::Client), Just(Role::Slave), Just(Role::Operator), Just(Role::Peer)];
    (role, any::<(u16, u16)>(), any::<u64>(), text(limits::TEXT)).prop_map(
        |(role, versions, bits, agent)| {
            let capabilities = Capabilities(bits);
            Request::Hello(Hello { role, versions, capabilities, agent })
        },
    )
}

pub fn login() -> impl Strategy<Value = Request> {
    let avoid = vec(id16().prop_map(SlaveId), 0..=limits::AVOID);
    (
        text(limits::USER),
        vec(any::<u8>(), 0..=limits::PASSWORD),
        lsn(),
        avoid,
        option::of(id16().prop_map(SlaveId)),
    )
        .prop_map(|(user, password, lsn, avoid, prefer)| {
            Request::Login(Login { user, password, lsn, avoid, prefer })
        })
}

pub fn pieces() -> impl Strategy<Value = Request> {
    let number = 0..=limits::PIECES - u64::from(limits::PIECES_PER_PAGE);
    (path(), wanted(), number, 0..=limits::PIECES_PER_PAGE)
        .prop_map(|(path, if_match, first, count)| Request::Pieces { path, if_match, first, count })
}

pub fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        Just(Expect::Any),
        Just(Expect::Absent),
        Just(Expect::Unnumbered),
        lsn().prop_map(Expect::Lsn)
    ]
}

pub fn put() -> impl Strategy<Value = Request> {
    let span = option::of((0..=limits::FILE_SIZE).prop_flat_map(|size| (Just(size), 0..=size)));
    (id16(), path(), span, option::of(time()), option::of(mode()), expect(), any::<u16>()).prop_map(
        |(id, path, span, mtime, mode, expect, copies)| {
            let (size, offset) = (span.map(|(size, _)| size), span.map_or(0, |(_, offset)| offset));
            Request::Put(PutRequest {
                id: ChangeId(id),
                path,
                size,
                offset,
                mtime,
                mode,
                expect,
                copies,
            })
        },
    )
}

/// Attributes of which one is given at least.
pub fn attributes() -> impl Strategy<Value = Attributes> {
    prop_oneof![
        mode().prop_map(Attributes::mode),
        (time(), option::of(mode()))
            .prop_map(|(mtime, mode)| Attributes { mtime: Some(mtime), mode }),
    ]
}

fn event() -> impl Strategy<Value = PathEvent> {
    let kind = prop_oneof![
        Just(EventKind::Created),
        Just(EventKind::Changed),
        Just(EventKind::Removed),
        path().prop_map(EventKind::Moved),
    ];
    (lsn(), kind, path(), option::of(entry())).prop_map(|(lsn, kind, path, entry)| PathEvent {
        lsn,
        kind,
        path,
        entry,
    })
}

fn entry_result() -> impl Strategy<Value = EntryResult> {
    prop_oneof![
        (entry(), option::of(digest()))
            .prop_map(|(entry, digest)| EntryResult::Found { entry, digest }),
        refusal().prop_map(EntryResult::Refused),
    ]
}

pub fn change() -> impl Strategy<Value = Request> {
    let id = || id16().prop_map(ChangeId);
    prop_oneof![
        (id(), path(), 0..=limits::FILE_SIZE).prop_map(|(id, path, size)| Request::Resume {
            id,
            path,
            size
        }),
        (id(), path()).prop_map(|(id, path)| Request::MakeFolder { id, path }),
        (id(), path(), any::<bool>(), expect()).prop_map(|(id, path, recursive, expect)| {
            Request::Remove { id, path, recursive, expect }
        }),
        (id(), path(), expect(), attributes()).prop_map(|(id, path, expect, attributes)| {
            Request::SetAttributes { id, path, expect, attributes }
        }),
        (id(), path(), path(), wanted(), expect(), any::<u16>()).prop_map(
            |(id, from, to, if_match, expect, copies)| Request::Copy {
                id,
                from,
                to,
                if_match,
                expect,
                copies
            }
        ),
        (id(), path(), path(), expect()).prop_map(|(id, from, to, expect)| Request::Move {
            id,
            from,
            to,
            expect
        }),
    ]
}

pub fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        hello(),
        login(),
        (vec(any::<u8>(), 0..=limits::TICKET), lsn())
            .prop_map(|(ticket, lsn)| Request::Ticket { ticket, lsn }),
        (path(), text(limits::NAME_PART), any::<u32>())
            .prop_map(|(path, after, most)| Request::List { path, after, most }),
        put(),
        digest().prop_map(|digest| Request::PutEnd { digest }),
        change(),
        path().prop_map(Request::Stat),
        path().prop_map(Request::Hash),
        (path(), any::<(u64, u64)>(), wanted()).prop_map(|(path, (offset, length), if_match)| {
            Request::Get(GetRequest { path, offset, length, if_match })
        }),
        pieces(),
        vec(path(), 0..20).prop_map(|paths| Request::StatMany { paths }),
        (path(), option::of(lsn())).prop_map(|(path, after)| Request::Watch { path, after }),
        Just(Request::Status),
        Just(Request::Ping),
        Just(Request::FailedOver),
        lsn().prop_map(|lsn| Request::Seen { lsn }),
    ]
}

pub fn header() -> impl Strategy<Value = Reply> {
    let span = (0..=limits::FILE_SIZE)
        .prop_flat_map(|size| (Just(size), 0..=size))
        .prop_flat_map(|(size, offset)| (Just(size), Just(offset), 0..=size - offset));
    (span, 1..=limits::BLOCK_MAX, time(), mode(), option::of(lsn()), option::of(digest()), id16())
        .prop_map(|((size, offset, length), block_size, mtime, mode, version, digest, identity)| {
            Reply::ContentHeader(ContentHeader {
                size,
                offset,
                length,
                block_size,
                mtime,
                mode,
                version,
                digest,
                identity: Identity(identity),
            })
        })
}

pub fn refusal() -> impl Strategy<Value = Refusal> {
    (proptest::sample::select(ErrorCode::ALL), text(limits::TEXT), any::<u16>()).prop_map(
        |(code, message, retry_after)| Refusal { retry_after, ..Refusal::new(code, message) },
    )
}

pub fn opening() -> impl Strategy<Value = Reply> {
    let role = prop_oneof![
        Just(ServerRole::Master),
        Just(ServerRole::Slave),
        Just(ServerRole::Standalone)
    ];
    prop_oneof![
        (any::<u16>(), role, id16(), any::<u64>(), text(limits::TEXT)).prop_map(
            |(version, role, id, bits, agent)| {
                let (cluster, capabilities) = (ClusterId(id), Capabilities(bits));
                Reply::Welcome { version, role, cluster, capabilities, agent }
            }
        ),
        (
            vec(any::<u8>(), 0..=limits::TICKET),
            lsn(),
            vec(endpoint(1), 1..=limits::REDIRECT_SLAVES)
        )
            .prop_map(|(ticket, lsn, slaves)| Reply::Redirect { ticket, lsn, slaves }),
        (id16(), lsn(), any::<bool>()).prop_map(|(id, lsn, writable)| Reply::Opened {
            slave: SlaveId(id),
            lsn,
            writable
        }),
        proptest::sample::select(&[
            WaitReason::Queue,
            WaitReason::Hashing,
            WaitReason::Scanning,
            WaitReason::CatchingUp,
            WaitReason::Storing
        ])
        .prop_map(Reply::Wait),
        text(limits::TEXT).prop_map(Reply::AskMaster),
        refusal().prop_map(Reply::Error),
    ]
}

pub fn page(entries: &[Entry]) -> Reply {
    let mut page = PageBuilder::new();
    assert!(entries.iter().all(|entry| page.push(entry)));
    Reply::Entries(page.finish())
}

pub fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        3 => opening(),
        1 => vec(entry(), 0..20).prop_map(|entries| page(&entries)),
        1 => lsn().prop_map(|lsn| Reply::Done { lsn }),
        1 => (entry(), option::of(digest()), vec(endpoint(0), 0..=limits::REDIRECT_SLAVES), lsn())
            .prop_map(|(entry, digest, holders, lsn)| Reply::Details { entry, digest, holders, lsn }),
        2 => header(),
        1 => digest().prop_map(|digest| Reply::End { digest }),
        1 => (0..limits::PIECES - 50, vec(digest(), 0..50)).prop_map(|(first, values)| Reply::PieceValues { first, values }),
        1 => (id16(), lsn(), metrics(), text(limits::TEXT))
            .prop_map(|(id, lsn, metrics, last_error)| Reply::StatusReport { slave: SlaveId(id), lsn, metrics, last_error }),
        1 => vec(entry_result(), 0..20).prop_map(|results| Reply::EntryResults { results }),
        1 => (lsn(), vec(event(), 0..8)).prop_map(|(lsn, events)| Reply::Events { lsn, events }),
        1 => lsn().prop_map(|lsn| Reply::EventsLost { lsn }),
        1 => Just(Reply::Pong),
        1 => vec(endpoint(0), 0..=limits::REDIRECT_SLAVES).prop_map(|holders| Reply::Elsewhere { holders }),
        1 => any::<u64>().prop_map(|ms| Reply::MasterUnreachable { ms }),
        1 => (0..=limits::FILE_SIZE, expect()).prop_map(|(offset, current)| Reply::Staged { offset, current }),
        1 => (lsn(), any::<u16>(), lsn(), option::of(digest()), any::<bool>())
            .prop_map(|(version, copies, lsn, digest, current)| Reply::Committed { version, copies, lsn, digest, current }),
    ]
}
