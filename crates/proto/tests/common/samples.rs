//! Real messages, one or more for each type of frame: each with its fields as
//! small and as large as they may be. Corpus and tests are made from them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use relais_proto::{
    Attributes, Capabilities, ChangeId, ClusterId, ContentHeader, Digest, Endpoint, EntriesPage,
    Entry, EntryResult, ErrorCode, EventKind, Expect, FileTime, FrameType, GetRequest, Hello,
    Identity, IfMatch, Kind, LinkMessage, Login, Lsn, Metrics, Mode, PageBuilder, PathEvent,
    PutRequest, Refusal, Reply, Request, Role, ServerRole, SlaveId, TreePath, WaitReason, limits,
};

use crate::frames::read_frame;

#[path = "samples_link.rs"]
mod link;

/// A name for a sample, and its whole frame.
pub type Sample = (String, Vec<u8>);

pub const LOW: Lsn = Lsn { epoch: 0, number: 0 };
pub const HIGH: Lsn = Lsn { epoch: u32::MAX, number: u64::MAX };

/// A valid path of `len` bytes.
pub fn path_of(len: usize) -> TreePath {
    let mut text = "abcdefg/".repeat(len / 8 + 1);
    text.truncate(len);
    if text.ends_with('/') {
        text.replace_range(len - 1.., "h");
    }
    path(&text)
}

pub fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

pub fn addrs(count: usize) -> Vec<SocketAddr> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 2122));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, u16::MAX));
    [v4, v6].into_iter().cycle().take(count).collect()
}

pub fn slaves(count: usize, addresses: usize) -> Vec<Endpoint> {
    let id = |n: usize| SlaveId([u8::try_from(n).unwrap_or(u8::MAX); 16]);
    (0..count).map(|n| Endpoint { id: id(n), addrs: addrs(addresses) }).collect()
}

pub fn entry(name: &str) -> Entry {
    Entry {
        name: name.into(),
        kind: Kind::File,
        mode: Mode::new(0),
        size: 0,
        mtime: FileTime::default(),
        version: None,
    }
}

pub fn full_entry() -> Entry {
    Entry {
        name: "é".repeat(127) + "x",
        kind: Kind::Folder,
        mode: Mode::new(0o777),
        size: limits::FILE_SIZE,
        mtime: FileTime { seconds: i64::MIN, nanos: 999_999_999 },
        version: Some(HIGH),
    }
}

/// A page of as many of these entries as fit, at most `count`.
pub fn page(count: usize, entry: &Entry) -> EntriesPage {
    let mut page = PageBuilder::new();
    for _ in 0..count {
        if !page.push(entry) {
            break;
        }
    }
    page.finish()
}

pub fn full_metrics() -> Metrics {
    let name = |n| format!("relais_{n:0width$}", width = limits::METRIC_NAME - 7);
    (0..limits::METRICS).fold(Metrics::default(), |all, n| all.with(&name(n), u64::MAX))
}

pub fn requests() -> Vec<(&'static str, Request)> {
    let long = || path_of(limits::PATH);
    let login = Login {
        user: "u".repeat(limits::USER),
        password: vec![0xff; limits::PASSWORD],
        lsn: HIGH,
        avoid: vec![SlaveId([9; 16]); limits::AVOID],
        prefer: Some(SlaveId([8; 16])),
    };
    let (low_id, high_id) = (ChangeId([0; 16]), ChangeId([0xff; 16]));
    let small_put = PutRequest {
        id: low_id,
        path: path("a"),
        size: None,
        offset: 0,
        mtime: None,
        mode: None,
        expect: Expect::Any,
        copies: 0,
    };
    let full_put = PutRequest {
        id: high_id,
        path: long(),
        size: Some(limits::FILE_SIZE),
        offset: limits::FILE_SIZE,
        mtime: Some(FileTime { seconds: i64::MIN, nanos: 999_999_999 }),
        mode: Some(Mode::new(0o777)),
        expect: Expect::Lsn(HIGH),
        copies: u16::MAX,
    };
    vec![
        ("hello-min", Request::Hello(Hello::new(Role::Client, ""))),
        (
            "hello-slave",
            Request::Hello(Hello { versions: (1, 2), ..Hello::new(Role::Slave, "ftpslave 0.1.0") }),
        ),
        ("hello-peer", Request::Hello(Hello::new(Role::Peer, "ftpslave 0.1.0"))),
        (
            "hello-max",
            Request::Hello(Hello {
                role: Role::Operator,
                versions: (0, u16::MAX),
                capabilities: Capabilities(u64::MAX),
                agent: "a".repeat(limits::TEXT),
            }),
        ),
        ("login-min", Request::Login(Login::default())),
        ("login-max", Request::Login(login)),
        ("ticket-min", Request::Ticket { ticket: Vec::new(), lsn: LOW }),
        ("ticket-max", Request::Ticket { ticket: vec![0xa5; limits::TICKET], lsn: HIGH }),
        ("list-min", Request::List { path: TreePath::root(), after: String::new(), most: 0 }),
        (
            "list-max",
            Request::List { path: long(), after: "n".repeat(limits::NAME_PART), most: u32::MAX },
        ),
        ("stat-min", Request::Stat(TreePath::root())),
        ("stat-max", Request::Stat(long())),
        ("hash-min", Request::Hash(path("a"))),
        ("hash-max", Request::Hash(long())),
        (
            "get-min",
            Request::Get(GetRequest {
                path: path("a"),
                offset: 0,
                length: 0,
                if_match: IfMatch::Any,
            }),
        ),
        (
            "get-resume",
            Request::Get(GetRequest {
                path: path("naïve/日本.bin"),
                offset: 1 << 32,
                length: u64::MAX,
                if_match: IfMatch::Identity(Identity([7; 16])),
            }),
        ),
        (
            "get-max",
            Request::Get(GetRequest {
                path: long(),
                offset: u64::MAX,
                length: u64::MAX,
                if_match: IfMatch::Digest(Digest([0xff; 32])),
            }),
        ),
        (
            "pieces-min",
            Request::Pieces { path: path("a"), if_match: IfMatch::Any, first: 0, count: 0 },
        ),
        (
            "pieces-max",
            Request::Pieces {
                path: long(),
                if_match: IfMatch::Digest(Digest([1; 32])),
                first: limits::PIECES - u64::from(limits::PIECES_PER_PAGE),
                count: limits::PIECES_PER_PAGE,
            },
        ),
        ("stat-many-min", Request::StatMany { paths: Vec::new() }),
        ("stat-many-max", Request::StatMany { paths: vec![long(), path("a"), TreePath::root()] }),
        ("watch-min", Request::Watch { path: TreePath::root(), after: None }),
        ("watch-max", Request::Watch { path: long(), after: Some(HIGH) }),
        ("status", Request::Status),
        ("ping", Request::Ping),
        ("failed-over", Request::FailedOver),
        ("seen-min", Request::Seen { lsn: LOW }),
        ("seen-max", Request::Seen { lsn: HIGH }),
        ("put-min", Request::Put(small_put)),
        ("put-max", Request::Put(full_put)),
        ("put-end", Request::PutEnd { digest: Digest([3; 32]) }),
        ("resume-min", Request::Resume { id: low_id, path: path("a"), size: 0 }),
        ("resume-max", Request::Resume { id: high_id, path: long(), size: limits::FILE_SIZE }),
        ("make-folder-min", Request::MakeFolder { id: low_id, path: path("a") }),
        ("make-folder-max", Request::MakeFolder { id: high_id, path: long() }),
        (
            "remove-min",
            Request::Remove { id: low_id, path: path("a"), recursive: false, expect: Expect::Any },
        ),
        (
            "remove-max",
            Request::Remove {
                id: high_id,
                path: long(),
                recursive: true,
                expect: Expect::Lsn(HIGH),
            },
        ),
        (
            "set-attributes-min",
            Request::SetAttributes {
                id: low_id,
                path: path("a"),
                expect: Expect::Any,
                attributes: Attributes::mode(Mode::new(0)),
            },
        ),
        (
            "set-attributes-max",
            Request::SetAttributes {
                id: high_id,
                path: long(),
                expect: Expect::Lsn(HIGH),
                attributes: Attributes {
                    mtime: Some(FileTime { seconds: i64::MIN, nanos: 999_999_999 }),
                    mode: Some(Mode::new(0o777)),
                },
            },
        ),
        (
            "copy-min",
            Request::Copy {
                id: low_id,
                from: path("a"),
                to: path("b"),
                if_match: IfMatch::Any,
                expect: Expect::Any,
                copies: 0,
            },
        ),
        (
            "copy-max",
            Request::Copy {
                id: high_id,
                from: long(),
                to: long(),
                if_match: IfMatch::Digest(Digest([0xff; 32])),
                expect: Expect::Lsn(HIGH),
                copies: u16::MAX,
            },
        ),
        (
            "move-min",
            Request::Move { id: low_id, from: path("a"), to: path("b"), expect: Expect::Any },
        ),
        (
            "move-max",
            Request::Move { id: high_id, from: long(), to: long(), expect: Expect::Lsn(HIGH) },
        ),
    ]
}

pub fn replies() -> Vec<(&'static str, Reply)> {
    let text = || "m".repeat(limits::TEXT);
    let full_header = ContentHeader {
        size: limits::FILE_SIZE,
        offset: 1,
        length: limits::FILE_SIZE - 1,
        block_size: limits::BLOCK_MAX,
        mtime: FileTime { seconds: i64::MAX, nanos: 999_999_999 },
        mode: Mode::new(0o777),
        version: Some(HIGH),
        digest: Some(Digest([3; 32])),
        identity: Identity([4; 16]),
    };
    let small_header = ContentHeader {
        size: 0,
        offset: 0,
        length: 0,
        block_size: 1,
        mtime: FileTime::default(),
        mode: Mode::new(0),
        version: None,
        digest: None,
        identity: Identity([0; 16]),
    };
    let all_slaves = || slaves(limits::REDIRECT_SLAVES, limits::ADDRESSES);
    vec![
        (
            "welcome-min",
            Reply::Welcome {
                version: 1,
                role: ServerRole::Master,
                cluster: ClusterId([0; 16]),
                capabilities: Capabilities::default(),
                agent: String::new(),
            },
        ),
        (
            "welcome-max",
            Reply::Welcome {
                version: u16::MAX,
                role: ServerRole::Standalone,
                cluster: ClusterId([0xff; 16]),
                capabilities: Capabilities(u64::MAX),
                agent: text(),
            },
        ),
        ("redirect-min", Reply::Redirect { ticket: Vec::new(), lsn: LOW, slaves: slaves(1, 1) }),
        (
            "redirect-max",
            Reply::Redirect { ticket: vec![0x5a; limits::TICKET], lsn: HIGH, slaves: all_slaves() },
        ),
        ("opened-min", Reply::Opened { slave: SlaveId([0; 16]), lsn: LOW, writable: false }),
        ("opened-max", Reply::Opened { slave: SlaveId([0xff; 16]), lsn: HIGH, writable: true }),
        ("wait-min", Reply::Wait(WaitReason::Queue)),
        ("wait-max", Reply::Wait(WaitReason::Storing)),
        ("ask-master-min", Reply::AskMaster(String::new())),
        ("ask-master", Reply::AskMaster("master.example:2121".into())),
        ("error-min", Reply::Error(Refusal::new(ErrorCode::NotFound, ""))),
        (
            "error-max",
            Reply::Error(Refusal {
                code: ErrorCode::BadServer,
                message: text(),
                retry_after: u16::MAX,
                path: None,
            }),
        ),
        ("entries-none", Reply::Entries(PageBuilder::new().finish())),
        ("entries-one", Reply::Entries(page(1, &entry("a")))),
        ("entries-long", Reply::Entries(page(8, &full_entry()))),
        ("done-min", Reply::Done { lsn: LOW }),
        ("done-max", Reply::Done { lsn: HIGH }),
        (
            "details-min",
            Reply::Details { entry: entry(""), digest: None, holders: Vec::new(), lsn: LOW },
        ),
        (
            "details-max",
            Reply::Details {
                entry: full_entry(),
                digest: Some(Digest([2; 32])),
                holders: all_slaves(),
                lsn: HIGH,
            },
        ),
        ("entry-results-min", Reply::EntryResults { results: Vec::new() }),
        (
            "entry-results-max",
            Reply::EntryResults {
                results: vec![
                    EntryResult::Found { entry: full_entry(), digest: Some(Digest([2; 32])) },
                    EntryResult::Refused(Refusal::new(ErrorCode::NotFound, text())),
                    EntryResult::Found { entry: entry(""), digest: None },
                ],
            },
        ),
        ("events-min", Reply::Events { lsn: LOW, events: Vec::new() }),
        ("events-max", Reply::Events { lsn: HIGH, events: events() }),
        ("events-lost-min", Reply::EventsLost { lsn: LOW }),
        ("events-lost-max", Reply::EventsLost { lsn: HIGH }),
        ("header-min", Reply::ContentHeader(small_header)),
        ("header-max", Reply::ContentHeader(full_header)),
        ("end", Reply::End { digest: Digest([6; 32]) }),
        ("piece-values-min", Reply::PieceValues { first: 0, values: Vec::new() }),
        (
            "piece-values",
            Reply::PieceValues { first: limits::PIECES - 64, values: vec![Digest([5; 32]); 64] },
        ),
        (
            "status-report-min",
            Reply::StatusReport {
                slave: SlaveId([0; 16]),
                lsn: LOW,
                metrics: Metrics::default(),
                last_error: String::new(),
            },
        ),
        (
            "status-report-max",
            Reply::StatusReport {
                slave: SlaveId([1; 16]),
                lsn: HIGH,
                metrics: full_metrics(),
                last_error: text(),
            },
        ),
        ("pong", Reply::Pong),
        ("elsewhere-min", Reply::Elsewhere { holders: Vec::new() }),
        ("elsewhere-max", Reply::Elsewhere { holders: all_slaves() }),
        ("alone-min", Reply::MasterUnreachable { ms: 0 }),
        ("alone-max", Reply::MasterUnreachable { ms: u64::MAX }),
        ("staged-min", Reply::Staged { offset: 0, current: Expect::Absent }),
        ("staged-max", Reply::Staged { offset: limits::FILE_SIZE, current: Expect::Lsn(HIGH) }),
        (
            "committed-min",
            Reply::Committed { version: LOW, copies: 0, lsn: LOW, digest: None, current: false },
        ),
        (
            "committed-max",
            Reply::Committed {
                version: HIGH,
                copies: u16::MAX,
                lsn: HIGH,
                digest: Some(Digest([0xff; 32])),
                current: true,
            },
        ),
    ]
}

/// An event of each kind.
fn events() -> Vec<PathEvent> {
    let long = || path_of(limits::PATH);
    let kinds =
        [EventKind::Created, EventKind::Changed, EventKind::Removed, EventKind::Moved(long())];
    let event = |(n, kind): (u64, EventKind)| PathEvent {
        lsn: Lsn { epoch: 1, number: n },
        entry: (kind != EventKind::Removed).then(full_entry),
        kind,
        path: long(),
    };
    (0..).zip(kinds).map(event).collect()
}

/// Messages that fill a frame; too long for the corpus.
pub fn giants() -> Vec<Sample> {
    let values = vec![Digest([5; 32]); limits::PIECES_PER_PAGE as usize];
    let mut giants = vec![
        frame("entries-short-names", &Reply::Entries(page(usize::MAX, &entry("a"))), Reply::encode),
        frame(
            "entries-long-names",
            &Reply::Entries(page(usize::MAX, &full_entry())),
            Reply::encode,
        ),
        frame("piece-values-max", &Reply::PieceValues { first: 0, values }, Reply::encode),
    ];
    giants.extend(
        link::giants().iter().map(|(name, message)| frame(name, message, LinkMessage::encode)),
    );
    giants
}

/// All messages of a client, then a server's, then a link's, as frames.
pub fn all() -> Vec<Sample> {
    let mut all = Vec::new();
    all.extend(requests().iter().map(|(name, message)| frame(name, message, Request::encode)));
    all.extend(replies().iter().map(|(name, message)| frame(name, message, Reply::encode)));
    all.extend(
        link::samples().iter().map(|(name, message)| frame(name, message, LinkMessage::encode)),
    );
    all
}

fn frame<M>(name: &str, message: &M, encode: impl Fn(&M, &mut Vec<u8>)) -> Sample {
    let mut bytes = Vec::new();
    encode(message, &mut bytes);
    (name.to_owned(), bytes)
}

/// Type and payload of a whole frame.
pub fn open(frame: &[u8]) -> (FrameType, Vec<u8>) {
    let mut payload = Vec::new();
    match read_frame(&mut &*frame, &mut payload) {
        Ok(Some(kind)) => (kind, payload),
        other => panic!("a sample is no frame: {other:?}"),
    }
}

/// A type byte and a payload, as the checks of single messages take them.
pub fn bare(kind: FrameType, payload: &[u8]) -> Vec<u8> {
    [&[kind.number()], payload].concat()
}
