//! The messages of cluster links.

use std::net::SocketAddr;

use relais_proto::{
    Annotations, Attributes, Change, ChangeId, ChangeRequest, ClusterId, CommittedEntry,
    ContentHashes, Digest, DiskSpace, ErrorCode, Expect, FileContent, FileTime, FolderId,
    ForwardedLogin, Heartbeat, HistoryHash, HttpListeners, LinkMessage, ListedPath, Lock,
    LockRequest, LockToken, LogEntry, LogOut, Lsn, Metrics, Mode, Operation, PathList, PathPage,
    PeerSlave, Property, PropertyChange, PropertyName, Refusal, Registration, ReplicaPosition,
    Scrub, Sha256, SlaveId, SlaveReport, SlaveState, TicketRenewal, Timeline, ToMaster, ToSlave,
    TreeEntry, TreePage, TreePath, UploadKeys, limits,
};

use super::{HIGH, LOW, addrs, full_metrics, path, path_of};

type Named = (&'static str, LinkMessage);

const FULL_TIME: FileTime = FileTime { seconds: i64::MIN, nanos: 999_999_999 };
const SMALL_ID: ChangeId = ChangeId([0; 16]);
const FULL_ID: ChangeId = ChangeId([0xff; 16]);
const FOLDER: TreeEntry = TreeEntry { version: LOW, mode: Mode::new(0), content: None };
const FULL_TIMELINE: Timeline = Timeline { after: HIGH, id: [0xff; 16] };
const FULL_CHAIN: HistoryHash = HistoryHash([0xff; 32]);
const FULL_STANDING: ReplicaPosition =
    ReplicaPosition { applied: HIGH, chain: FULL_CHAIN, epoch: u32::MAX };

fn full_content() -> FileContent {
    FileContent { put: HIGH, digest: Digest([9; 32]), size: limits::FILE_SIZE, mtime: FULL_TIME }
}

fn full_file() -> TreeEntry {
    TreeEntry { version: HIGH, mode: Mode::new(0o777), content: Some(full_content()) }
}

fn full_refusal() -> Refusal {
    Refusal {
        retry_after: u16::MAX,
        ..Refusal::new(ErrorCode::NoContent, "m".repeat(limits::TEXT))
    }
}

/// A file, whose name is as long as can be, and a folder.
fn two_entries() -> Vec<(TreePath, TreeEntry)> {
    vec![(path_of(limits::PATH), full_file()), (path("naïve/日本"), FOLDER)]
}

fn tokens(count: u16) -> Vec<LockToken> {
    vec![LockToken([0xee; 16]); usize::from(count).min(limits::LOCK_TOKENS)]
}

fn full_name() -> PropertyName {
    PropertyName {
        namespace: "n".repeat(limits::PROPERTY_NAMESPACE),
        local: "l".repeat(limits::PROPERTY_LOCAL),
    }
}

fn full_properties() -> Change {
    let changes = vec![
        PropertyChange { name: full_name(), value: Some("<v xmlns=\"\">ä</v>".into()) },
        PropertyChange {
            name: PropertyName { namespace: String::new(), local: "x".into() },
            value: None,
        },
    ];
    Change::SetProperties { path: path_of(limits::PATH), changes }
}

fn full_lock_request() -> Change {
    let Lock { token, user, owner, exclusive, deep, .. } = full_lock();
    let seconds = limits::LOCK_SECONDS;
    Change::Lock {
        path: TreePath::root(),
        lock: LockRequest { token, user, owner, exclusive, deep, seconds },
    }
}

fn full_lock() -> Lock {
    Lock {
        token: LockToken([0xfe; 16]),
        account: u32::MAX,
        user: "u".repeat(limits::USER),
        owner: "<o/>".repeat(limits::LOCK_OWNER / 4),
        exclusive: true,
        deep: true,
        expires_ms: u64::MAX,
    }
}

fn full_hashes() -> ContentHashes {
    ContentHashes {
        sha256: Sha256([0xab; 32]),
        piece_size: limits::PIECE,
        pieces: vec![Sha256([1; 32]), Sha256([2; 32])],
    }
}

fn full_annotations() -> Annotations {
    Annotations {
        properties: vec![(path("a"), Property { name: full_name(), value: "v".into() })],
        locks: vec![(path("a"), full_lock())],
        hashes: vec![(HIGH, full_hashes())],
    }
}

fn full_put() -> Change {
    Change::Put {
        path: path_of(limits::PATH),
        size: limits::FILE_SIZE,
        digest: Digest([9; 32]),
        mtime: FULL_TIME,
        mode: Mode::new(0o777),
    }
}

fn committed(version: Lsn, change: Change) -> CommittedEntry {
    let entry = LogEntry { version, id: FULL_ID, time_ms: u64::MAX, change };
    CommittedEntry { entry, holders: Vec::new(), restored: Vec::new() }
}

fn peer(n: u8, addresses: usize) -> PeerSlave {
    PeerSlave { slave: SlaveId([n; 16]), folder: FolderId([n; 16]), addrs: addrs(addresses) }
}

/// One or more for each type, the shortest of each first.
pub fn samples() -> Vec<Named> {
    let mut all = opening();
    all.extend(service());
    all.extend(
        to_master().into_iter().map(|(name, message)| (name, LinkMessage::ToMaster(message))),
    );
    all.extend(to_slave().into_iter().map(|(name, message)| (name, LinkMessage::ToSlave(message))));
    all.extend(trees());
    all.extend(operations());
    all.extend(logins());
    all.extend(uploads());
    all.extend(log_outs());
    all
}

fn opening() -> Vec<Named> {
    let text = || "t".repeat(limits::TEXT);
    let register = |listen, advertise, lsn, http| {
        let folder = FolderId([2; 16]);
        LinkMessage::Register(Registration { folder, listen, advertise, lsn, http })
    };
    let http =
        HttpListeners { clear: addrs(limits::ADDRESSES), encrypted: addrs(limits::ADDRESSES) };
    vec![
        ("link-open-min", LinkMessage::LinkOpen { id: SlaveId([0; 16]), nonce: [0; 32] }),
        ("link-open-max", LinkMessage::LinkOpen { id: SlaveId([0xff; 16]), nonce: [0xff; 32] }),
        (
            "link-challenge",
            LinkMessage::LinkChallenge {
                cluster: ClusterId([1; 16]),
                nonce: [2; 32],
                proof: [3; 32],
            },
        ),
        ("link-proof", LinkMessage::LinkProof { proof: [4; 32] }),
        ("register-min", register(Vec::new(), String::new(), LOW, None)),
        ("register-max", register(addrs(limits::ADDRESSES), text(), HIGH, Some(http))),
        ("hash-content-min", LinkMessage::HashContent { path: path("a") }),
        ("hash-content-max", LinkMessage::HashContent { path: path_of(limits::PATH) }),
        ("registered-min", LinkMessage::Registered { lsn: LOW, time_ms: 0 }),
        ("registered-max", LinkMessage::Registered { lsn: HIGH, time_ms: u64::MAX }),
    ]
}

/// Heartbeats, and what is known of the slaves.
fn service() -> Vec<Named> {
    let text = || "t".repeat(limits::TEXT);
    let small_report = SlaveReport {
        id: SlaveId([0; 16]),
        folder: FolderId([0; 16]),
        addrs: Vec::new(),
        state: SlaveState::InService,
        lsn: LOW,
        metrics: Metrics::default(),
        last_error: String::new(),
        silent_ms: 0,
    };
    let full_report = SlaveReport {
        id: SlaveId([0xff; 16]),
        folder: FolderId([0xff; 16]),
        addrs: addrs(limits::ADDRESSES),
        state: SlaveState::Down,
        lsn: HIGH,
        metrics: full_metrics(),
        last_error: text(),
        silent_ms: u64::MAX,
    };
    let full_scrub = Scrub {
        order: u64::MAX,
        done: true,
        files: u64::MAX,
        read: u64::MAX,
        damaged: u64::MAX,
        repaired: u64::MAX,
        unreadable: u64::MAX,
    };
    let beat = |state, lsn, metrics: Metrics, last_error, scrub| {
        let full = if metrics == Metrics::default() { 0 } else { u64::MAX };
        let disk = DiskSpace { free: full, size: full };
        LinkMessage::Heartbeat(Heartbeat { state, lsn, metrics, last_error, disk, scrub })
    };
    let report_end = |lsn, halted, n| LinkMessage::ReportEnd {
        lsn,
        halted,
        lost: n,
        removals: n,
        removals_cap: n,
    };
    let beat_ack = |lsn, n, draining| LinkMessage::HeartbeatAck {
        lsn,
        time_ms: n,
        generation: n,
        draining,
        scrubs: n,
        copies: u16::from(draining),
        retries: n,
    };
    vec![
        (
            "beat-min",
            beat(SlaveState::InService, LOW, Metrics::default(), String::new(), Scrub::default()),
        ),
        ("beat-max", beat(SlaveState::Draining, HIGH, full_metrics(), text(), full_scrub)),
        ("beat-ack-min", beat_ack(LOW, 0, false)),
        ("beat-ack-max", beat_ack(HIGH, u64::MAX, true)),
        ("peers-min", LinkMessage::Peers { peers: Vec::new(), last: true }),
        (
            "peers-max",
            LinkMessage::Peers {
                peers: vec![peer(0, 0), peer(0xff, limits::ADDRESSES)],
                last: false,
            },
        ),
        ("ask-report", LinkMessage::AskReport),
        ("slave-report-min", LinkMessage::SlaveReport(small_report)),
        ("slave-report-max", LinkMessage::SlaveReport(full_report)),
        ("report-end-min", report_end(LOW, String::new(), 0)),
        ("report-end-max", report_end(HIGH, text(), u64::MAX)),
    ]
}

fn to_master() -> Vec<(&'static str, ToMaster)> {
    let propose = |id, change, expect, found, copies| ToMaster::Propose {
        request: ChangeRequest { id, change, expect, keep_mode: found, tokens: tokens(copies) },
        found,
        copies,
    };
    vec![
        ("ready", ToMaster::Ready),
        (
            "join-min",
            ToMaster::Join {
                slave: SlaveId([0; 16]),
                folder: FolderId([0; 16]),
                position: ReplicaPosition::default(),
            },
        ),
        (
            "join-max",
            ToMaster::Join {
                slave: SlaveId([0xff; 16]),
                folder: FolderId([0xff; 16]),
                position: FULL_STANDING,
            },
        ),
        ("lacks-min", ToMaster::MissingContents { upto: LOW, puts: Vec::new(), last: true }),
        (
            "lacks-max",
            ToMaster::MissingContents { upto: HIGH, puts: vec![LOW, HIGH, HIGH], last: false },
        ),
        (
            "propose-min",
            propose(
                SMALL_ID,
                Change::MakeFolder { path: path("a"), mode: Mode::new(0) },
                Expect::Any,
                false,
                0,
            ),
        ),
        (
            "propose-mode",
            propose(
                FULL_ID,
                Change::SetAttributes {
                    path: path("a"),
                    attributes: Attributes { mtime: Some(FULL_TIME), mode: Some(Mode::new(0o750)) },
                },
                Expect::Lsn(HIGH),
                true,
                0,
            ),
        ),
        (
            "propose-remove",
            propose(
                SMALL_ID,
                Change::Remove { path: path("a/b"), recursive: true },
                Expect::Absent,
                true,
                1,
            ),
        ),
        (
            "propose-move",
            propose(
                FULL_ID,
                Change::Move { from: path("a"), to: path_of(limits::PATH) },
                Expect::Unnumbered,
                false,
                2,
            ),
        ),
        (
            "propose-withdraw",
            propose(FULL_ID, Change::Withdraw { of: HIGH }, Expect::Any, false, 0),
        ),
        ("propose-properties", propose(FULL_ID, full_properties(), Expect::Any, false, 0)),
        ("propose-lock", propose(FULL_ID, full_lock_request(), Expect::Any, false, 0)),
        (
            "propose-unlock",
            propose(
                SMALL_ID,
                Change::Unlock { path: path("a"), token: LockToken([0; 16]) },
                Expect::Any,
                false,
                1,
            ),
        ),
        (
            "propose-sha256",
            propose(
                SMALL_ID,
                Change::RecordSha256 { put: HIGH, hashes: full_hashes() },
                Expect::Any,
                false,
                0,
            ),
        ),
        ("propose-max", propose(FULL_ID, full_put(), Expect::Lsn(HIGH), true, u16::MAX)),
        ("seek", ToMaster::QueryChange { id: FULL_ID }),
        ("applied-min", ToMaster::Applied { upto: LOW }),
        ("applied-max", ToMaster::Applied { upto: HIGH }),
        ("holds-min", ToMaster::Holds { put: LOW, has: false }),
        ("holds-max", ToMaster::Holds { put: HIGH, has: true }),
        ("failed", ToMaster::PublishFailed { of: HIGH }),
        ("given-up", ToMaster::GivenUp { put: HIGH }),
        ("want", ToMaster::FindHolders { put: HIGH }),
    ]
}

fn to_slave() -> Vec<(&'static str, ToSlave)> {
    let full_told =
        CommittedEntry { holders: vec![FolderId([0xff; 16]); 3], ..committed(HIGH, full_put()) };
    let restored = vec![
        (path("a"), None),
        (path("b"), Some(FOLDER)),
        (path_of(limits::PATH), Some(full_file())),
    ];
    let withdrawn = CommittedEntry { restored, ..committed(HIGH, Change::Withdraw { of: LOW }) };
    let made = committed(LOW, Change::MakeFolder { path: path("a"), mode: Mode::new(0o755) });
    vec![
        ("give-up", ToSlave::GiveUp { put: HIGH }),
        (
            "follow-min",
            ToSlave::Follow {
                epoch: 0,
                lsn: LOW,
                chain: HistoryHash::default(),
                given_up: Vec::new(),
                timelines: Vec::new(),
            },
        ),
        (
            "follow-max",
            ToSlave::Follow {
                epoch: u32::MAX,
                lsn: HIGH,
                chain: FULL_CHAIN,
                given_up: vec![LOW, HIGH],
                timelines: vec![Timeline::default(), FULL_TIMELINE],
            },
        ),
        ("compare-min", ToSlave::Compare { epoch: 0, lsn: LOW, given_up: Vec::new() }),
        ("compare-max", ToSlave::Compare { epoch: u32::MAX, lsn: HIGH, given_up: vec![LOW, HIGH] }),
        (
            "page-min",
            ToSlave::Page {
                entries: Vec::new(),
                ids: Vec::new(),
                annotations: Annotations::default(),
            },
        ),
        (
            "page-max",
            ToSlave::Page {
                entries: two_entries(),
                ids: vec![(SMALL_ID, LOW), (FULL_ID, HIGH)],
                annotations: full_annotations(),
            },
        ),
        (
            "tree-end-min",
            ToSlave::End {
                lsn: LOW,
                chain: HistoryHash::default(),
                timelines: Vec::new(),
                entries: 0,
            },
        ),
        (
            "tree-end-max",
            ToSlave::End {
                lsn: HIGH,
                chain: FULL_CHAIN,
                timelines: vec![Timeline::default(), FULL_TIMELINE],
                entries: u64::MAX,
            },
        ),
        ("tell-min", ToSlave::Commit { changes: Vec::new() }),
        ("tell-max", ToSlave::Commit { changes: vec![made, full_told, withdrawn] }),
        ("answer-number", ToSlave::ProposalResult { id: FULL_ID, answer: Ok(HIGH) }),
        (
            "answer-min",
            ToSlave::ProposalResult {
                id: SMALL_ID,
                answer: Err(Refusal::new(ErrorCode::NotFound, "")),
            },
        ),
        (
            "answer-max",
            ToSlave::ProposalResult {
                id: FULL_ID,
                answer: Err(Refusal { path: Some(path_of(limits::PATH)), ..full_refusal() }),
            },
        ),
        ("copies-min", ToSlave::Copies { put: LOW, copies: 0 }),
        ("copies-max", ToSlave::Copies { put: HIGH, copies: u16::MAX }),
        ("where-min", ToSlave::Holders { put: LOW, holders: Vec::new() }),
        (
            "where-max",
            ToSlave::Holders { put: HIGH, holders: vec![FolderId([0xff; 16]); limits::HOLDERS] },
        ),
        ("refuse-min", ToSlave::Refuse { epoch: 0, why: Refusal::new(ErrorCode::Conflict, "") }),
        ("refuse-max", ToSlave::Refuse { epoch: u32::MAX, why: full_refusal() }),
    ]
}

fn trees() -> Vec<Named> {
    let small = TreePage {
        query: 0,
        entries: Vec::new(),
        ids: Vec::new(),
        annotations: Annotations::default(),
        position: ReplicaPosition::default(),
        timelines: Vec::new(),
        last: true,
    };
    let full = TreePage {
        query: u64::MAX,
        entries: two_entries()
            .into_iter()
            .zip([true, false])
            .map(|((path, entry), here)| (path, entry, here))
            .collect(),
        ids: vec![(SMALL_ID, LOW), (FULL_ID, HIGH)],
        annotations: full_annotations(),
        position: FULL_STANDING,
        timelines: vec![Timeline::default(), FULL_TIMELINE],
        last: false,
    };
    vec![
        ("ask-tree-min", LinkMessage::AskTree { query: 0, ids: false }),
        ("ask-tree-max", LinkMessage::AskTree { query: u64::MAX, ids: true }),
        ("tree-part-min", LinkMessage::TreePage(small)),
        ("tree-part-max", LinkMessage::TreePage(full)),
        ("ask-paths-min", LinkMessage::AskPaths { query: 0, list: PathList::Skipped }),
        ("ask-paths-max", LinkMessage::AskPaths { query: u64::MAX, list: PathList::Unapplied }),
        (
            "path-part-min",
            LinkMessage::PathPage(PathPage { query: 0, paths: Vec::new(), total: 0, last: true }),
        ),
        (
            "path-part-max",
            LinkMessage::PathPage(PathPage {
                query: u64::MAX,
                paths: vec![
                    ListedPath { path: "/a\\xff".into(), reason: String::new(), since_ms: 0 },
                    ListedPath {
                        path: "p".repeat(limits::SHOWN_PATH),
                        reason: "t".repeat(limits::TEXT),
                        since_ms: u64::MAX,
                    },
                ],
                total: u64::MAX,
                last: false,
            }),
        ),
        ("recovering-min", LinkMessage::Recovering { epoch: 0 }),
        ("recovering-max", LinkMessage::Recovering { epoch: u32::MAX }),
    ]
}

fn operations() -> Vec<Named> {
    let operate = LinkMessage::Operate;
    vec![
        ("operate-diff", operate(Operation::Diff)),
        ("operate-scrub", operate(Operation::Scrub { wait: false })),
        ("operate-scrub-wait", operate(Operation::Scrub { wait: true })),
        ("operate-skipped", operate(Operation::Skipped)),
        ("operate-export", operate(Operation::Export)),
        ("operate-recover", operate(Operation::Recover { go: false })),
        ("operate-recover-go", operate(Operation::Recover { go: true })),
        ("operate-drain-min", operate(Operation::Drain(String::new()))),
        ("operate-drain-max", operate(Operation::Drain("s".repeat(limits::TEXT)))),
        ("operate-ready", operate(Operation::Ready("127.0.0.1:2122".into()))),
        ("operate-forget", operate(Operation::Forget("[::1]:2122".into()))),
        ("line-min", LinkMessage::Line(String::new())),
        ("line", LinkMessage::Line("naïve/日本: lost".into())),
        ("line-end-min", LinkMessage::LineEnd { ok: false }),
        ("line-end-max", LinkMessage::LineEnd { ok: true }),
        ("ask-certificate-min", LinkMessage::AskCertificate { point: [0; limits::POINT] }),
        ("ask-certificate-max", LinkMessage::AskCertificate { point: [0xff; limits::POINT] }),
        ("certificate-min", LinkMessage::Certificate { chain: String::new(), renew_s: 0 }),
        (
            "certificate-max",
            LinkMessage::Certificate { chain: "c".repeat(limits::CERTIFICATE), renew_s: u64::MAX },
        ),
    ]
}

fn logins() -> Vec<Named> {
    let login = |query, client, local, user: &str, password: &[u8]| {
        let (user, password) = (user.to_owned(), password.into());
        LinkMessage::ForwardedLogin(ForwardedLogin { query, client, local, user, password })
    };
    let renewal = |query, client, local, ticket| {
        LinkMessage::TicketRenewal(TicketRenewal { query, client, local, ticket })
    };
    let issued = |query, lsn, ticket| LinkMessage::TicketIssued { query, lsn, ticket };
    let v4 = SocketAddr::from(([192, 0, 2, 7], 50_000));
    let v6 = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7], 65_535));
    let full = || vec![0xa5; limits::TICKET];
    vec![
        ("forwarded-login-min", login(0, v4, false, "", b"")),
        (
            "forwarded-login-max",
            login(u64::MAX, v6, true, &"u".repeat(limits::USER), &[0xff; limits::PASSWORD]),
        ),
        ("ticket-renewal-min", renewal(0, v4, false, Vec::new())),
        ("ticket-renewal-max", renewal(u64::MAX, v6, true, full())),
        ("ticket-issued-min", issued(0, Lsn::default(), Vec::new())),
        ("ticket-issued-max", issued(u64::MAX, HIGH, full())),
        (
            "login-refused-min",
            LinkMessage::LoginRefused { query: 0, why: Refusal::new(ErrorCode::Busy, "") },
        ),
        ("login-refused-max", LinkMessage::LoginRefused { query: u64::MAX, why: full_refusal() }),
    ]
}

fn log_outs() -> Vec<Named> {
    let row = LogOut { part: 127, ticket: u64::MAX, until_ms: u64::MAX };
    vec![
        ("log-outs-min", LinkMessage::LogOuts(Vec::new())),
        ("log-outs-max", LinkMessage::LogOuts(vec![row; limits::LOG_OUTS])),
        ("other-log-outs-min", LinkMessage::OtherLogOuts(Vec::new())),
        ("other-log-outs-max", LinkMessage::OtherLogOuts(vec![row; limits::LOG_OUTS])),
    ]
}

fn uploads() -> Vec<Named> {
    let keys = |all, count| UploadKeys {
        all,
        pending: vec![[0xa5; 16]; count],
        ended: vec![[0x5a; 16]; count],
    };
    vec![
        ("path-uploads-min", LinkMessage::PathUploads(keys(false, 0))),
        ("path-uploads-max", LinkMessage::PathUploads(keys(true, limits::UPLOAD_KEYS))),
        ("other-uploads-min", LinkMessage::OtherUploads(keys(false, 0))),
        ("other-uploads-max", LinkMessage::OtherUploads(keys(true, limits::UPLOAD_KEYS))),
    ]
}

/// Lists and texts as long as they may be, as far as one frame holds them.
pub fn giants() -> Vec<Named> {
    let top = TreePath::root;
    let tell = |changes| LinkMessage::ToSlave(ToSlave::Commit { changes });
    let withdrawn = CommittedEntry {
        restored: vec![(top(), None); limits::LINK_LIST],
        ..committed(HIGH, Change::Withdraw { of: LOW })
    };
    let held = CommittedEntry {
        holders: vec![FolderId([7; 16]); limits::HOLDERS],
        ..committed(HIGH, Change::MakeFolder { path: path("a"), mode: Mode::new(0o755) })
    };
    // As many as fit into a frame.
    let entries = vec![(top(), FOLDER); 3800];
    let part = TreePage {
        query: 1,
        entries: vec![(top(), FOLDER, true); 3600],
        ids: Vec::new(),
        annotations: Annotations::default(),
        position: FULL_STANDING,
        timelines: Vec::new(),
        last: true,
    };
    let (epoch, lsn, chain) = (1, HIGH, FULL_CHAIN);
    vec![
        (
            "lacks-most",
            LinkMessage::ToMaster(ToMaster::MissingContents {
                upto: HIGH,
                puts: vec![HIGH; limits::LINK_LIST],
                last: true,
            }),
        ),
        (
            "follow-most",
            LinkMessage::ToSlave(ToSlave::Follow {
                epoch,
                lsn,
                chain,
                given_up: vec![HIGH; limits::GIVEN_UP],
                timelines: vec![FULL_TIMELINE; limits::TIMELINES],
            }),
        ),
        (
            "page-most",
            LinkMessage::ToSlave(ToSlave::Page {
                entries,
                ids: Vec::new(),
                annotations: Annotations::default(),
            }),
        ),
        (
            "page-ids",
            LinkMessage::ToSlave(ToSlave::Page {
                entries: Vec::new(),
                ids: vec![(FULL_ID, HIGH); 2300],
                annotations: Annotations::default(),
            }),
        ),
        ("tell-withdrawn", tell(vec![withdrawn])),
        ("tell-held", tell(vec![held; 50])),
        (
            "tell-short",
            tell(vec![
                committed(
                    LOW,
                    Change::MakeFolder { path: path("a"), mode: Mode::new(0o755) }
                );
                1400
            ]),
        ),
        (
            "tree-end-most",
            LinkMessage::ToSlave(ToSlave::End {
                lsn,
                chain,
                timelines: vec![FULL_TIMELINE; limits::TIMELINES],
                entries: 1,
            }),
        ),
        ("tree-part-most", LinkMessage::TreePage(part)),
        (
            "peers-most",
            LinkMessage::Peers {
                peers: vec![peer(7, limits::ADDRESSES); limits::PEERS],
                last: true,
            },
        ),
        ("line-most", LinkMessage::Line("é".repeat(limits::LINE / 2))),
    ]
}
