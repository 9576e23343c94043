//! The sessions that docs/protocol.md shows byte by byte: their frames, cut into their fields.

use relais_proto::{
    Attributes, Capabilities, ChangeId, ClusterId, ContentHeader, Digest, Endpoint, Entry,
    EntryResult, ErrorCode, Expect, FileTime, FrameType, GetRequest, Hello, Identity, IfMatch,
    Kind, Login, Lsn, Mode, PageBuilder, PutRequest, Refusal, Reply, Request, Role, ServerRole,
    SlaveId, TreePath,
};

use crate::frames::write_frame;

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One frame of the example, its bytes field by field.
struct Shown {
    /// Sender and receiver.
    way: &'static str,
    frame: Vec<u8>,
    /// How many bytes each field has, and what it is.
    fields: Vec<(usize, String)>,
}

impl Shown {
    fn text(&self) -> String {
        let (header, mut payload) = self.frame.split_at(5);
        let kind = FrameType::from_number(header[4]).unwrap_or_else(|error| panic!("{error}"));
        let mut lines = format!(
            "{}  {kind:?}\n    {}  payload of {} bytes\n    {}        type\n",
            self.way,
            hex(&header[..4]),
            payload.len(),
            hex(&header[4..])
        );
        for (len, what) in &self.fields {
            let (field, rest) = payload.split_at(*len);
            payload = rest;
            let mut rows: Vec<_> = field.chunks(16).map(hex).collect();
            let first = if rows.is_empty() { String::new() } else { rows.remove(0) };
            lines += format!("    {first:8}  {what}").trim_end();
            lines += "\n";
            rows.iter().for_each(|row| lines += &format!("    {row}\n"));
        }
        assert!(payload.is_empty(), "the fields of {kind:?} leave {} bytes", payload.len());
        lines
    }
}

fn shown<const N: usize>(way: &'static str, frame: Vec<u8>, fields: [(usize, &str); N]) -> Shown {
    Shown { way, frame, fields: fields.map(|(len, what)| (len, what.to_owned())).to_vec() }
}

fn request(message: &Request) -> Vec<u8> {
    let mut frame = Vec::new();
    message.encode(&mut frame);
    frame
}

fn reply(message: &Reply) -> Vec<u8> {
    let mut frame = Vec::new();
    message.encode(&mut frame);
    frame
}

/// A frame of bytes only.
fn raw(way: &'static str, kind: FrameType, bytes: &[u8]) -> Shown {
    let mut frame = Vec::new();
    assert!(write_frame(&mut frame, kind, bytes).is_ok());
    Shown {
        way,
        frame,
        fields: vec![(bytes.len(), format!("{:?}", String::from_utf8_lossy(bytes)))],
    }
}

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

const CONTENT: &[u8] = b"Relais passes it on.\n";
const HERE: usize = 6;
const TICKET: &[u8] = b"\xde\xad\xbe\xef";
const MARK: Lsn = Lsn { epoch: 1, number: 0 };
const SLAVE: SlaveId = SlaveId([0x51; 16]);
const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
const MTIME: FileTime = FileTime { seconds: 1_795_000_000, nanos: 500_000_000 };

/// The whole session, frame by frame.
pub fn session() -> String {
    let steps = [at_the_master(), into_the_session(), listing(), content(), an_error()];
    steps.iter().flatten().map(Shown::text).collect::<Vec<_>>().join("\n")
}

/// Uploads, other changes and several entries, frame by frame.
pub fn changes() -> String {
    let steps = [upload(), attributes(), copy(), several_entries()];
    steps.iter().flatten().map(Shown::text).collect::<Vec<_>>().join("\n")
}

const NEW: &[u8] = b"new text";

fn lsn(number: u64) -> Lsn {
    Lsn { epoch: 1, number }
}

/// The answer to a change with this number.
fn committed(number: u64, digest: Option<Digest>) -> Shown {
    let version = lsn(number);
    let message = Reply::Committed { version, copies: 1, lsn: version, digest, current: true };
    let number = format!("number {number}");
    let mut fields = vec![
        (4, "version: epoch 1"),
        (8, &number),
        (2, "disks: 1"),
        (4, "latest: epoch 1"),
        (8, &number),
    ];
    match digest {
        Some(_) => fields.extend([(1, "a digest follows"), (32, "digest")]),
        None => fields.push((1, "no digest")),
    }
    fields.push((1, "the change is new"));
    let fields = fields.into_iter().map(|(len, what)| (len, what.to_owned())).collect();
    Shown { way: "S → C", frame: reply(&message), fields }
}

fn upload() -> Vec<Shown> {
    let digest = Digest(blake3::hash(NEW).into());
    let id = ChangeId([0xd1; 16]);
    let size = NEW.len() as u64;
    let put = PutRequest {
        id,
        path: path("new"),
        size: Some(size),
        offset: 3,
        mtime: Some(MTIME),
        mode: Some(Mode::new(0o640)),
        expect: Expect::Absent,
        copies: 0,
    };
    vec![
        shown(
            "C → S",
            request(&Request::Resume { id, path: path("new"), size }),
            [(16, "id of the change"), (2, "path: 3 bytes"), (3, "\"new\""), (8, "size: 8")],
        ),
        shown(
            "S → C",
            reply(&Reply::Staged { offset: 3, current: Expect::Absent }),
            [(8, "offset: 3"), (1, "no entry at the path")],
        ),
        shown(
            "C → S",
            request(&Request::Put(put)),
            [
                (16, "id of the change"),
                (2, "path: 3 bytes"),
                (3, "\"new\""),
                (1, "a size follows"),
                (8, "size: 8"),
                (8, "offset: 3"),
                (1, "expect: no entry"),
                (2, "disks: the number of the cluster"),
                (2, "optional fields: 20 bytes"),
                (1, "tag 1: time"),
                (2, "length: 12 bytes"),
                (8, "mtime: 1,795,000,000 s"),
                (4, "mtime: 500,000,000 ns"),
                (1, "tag 2: mode"),
                (2, "length: 2 bytes"),
                (2, "mode: 0640"),
            ],
        ),
        raw("C → S", FrameType::Data, &NEW[3..]),
        shown("C → S", request(&Request::PutEnd { digest }), [(32, "digest of the whole content")]),
        committed(8, Some(digest)),
    ]
}

fn attributes() -> Vec<Shown> {
    let set = Request::SetAttributes {
        id: ChangeId([0xd2; 16]),
        path: path("new"),
        expect: Expect::Lsn(lsn(8)),
        attributes: Attributes::mode(Mode::new(0o600)),
    };
    let fields = [
        (16, "id of the change"),
        (2, "path: 3 bytes"),
        (3, "\"new\""),
        (1, "expect: the entry with this LSN"),
        (4, "epoch 1"),
        (8, "number 8"),
        (2, "optional fields: 5 bytes"),
        (1, "tag 2: mode"),
        (2, "length: 2 bytes"),
        (2, "mode: 0600"),
    ];
    vec![shown("C → S", request(&set), fields), committed(9, None)]
}

fn copy() -> Vec<Shown> {
    let digest = Digest(blake3::hash(NEW).into());
    let copy = Request::Copy {
        id: ChangeId([0xd3; 16]),
        from: path("new"),
        to: path("copy"),
        if_match: IfMatch::Digest(digest),
        expect: Expect::Any,
        copies: 0,
    };
    let fields = [
        (16, "id of the change"),
        (2, "path: 3 bytes"),
        (3, "\"new\""),
        (2, "path of the copy: 4 bytes"),
        (4, "\"copy\""),
        (1, "if-match: content with this digest"),
        (32, "digest"),
        (1, "expect: any entry, or none"),
        (2, "disks: the number of the cluster"),
    ];
    vec![shown("C → S", request(&copy), fields), committed(10, Some(digest))]
}

fn several_entries() -> Vec<Shown> {
    let paths = vec![path("new"), path("nothing")];
    let entry = Entry {
        name: "new".into(),
        kind: Kind::File,
        mode: Mode::new(0o600),
        size: NEW.len() as u64,
        mtime: MTIME,
        version: Some(lsn(9)),
    };
    let digest = Some(Digest(blake3::hash(NEW).into()));
    let refusal = Refusal::new(ErrorCode::NotFound, "/nothing: not there");
    let results = vec![EntryResult::Found { entry, digest }, EntryResult::Refused(refusal)];
    vec![
        shown(
            "C → S",
            request(&Request::StatMany { paths }),
            [
                (2, "paths: 2"),
                (2, "path: 3 bytes"),
                (3, "\"new\""),
                (2, "path: 7 bytes"),
                (7, "\"nothing\""),
            ],
        ),
        shown(
            "S → C",
            reply(&Reply::EntryResults { results }),
            [
                (2, "results: 2"),
                (1, "an entry"),
                (2, "name: 3 bytes"),
                (3, "\"new\""),
                (1, "file"),
                (2, "mode: 0600"),
                (8, "size: 8"),
                (8, "mtime: 1,795,000,000 s"),
                (4, "mtime: 500,000,000 ns"),
                (2, "optional fields: 15 bytes"),
                (1, "tag 1: LSN"),
                (2, "length: 12 bytes"),
                (4, "epoch 1"),
                (8, "number 9"),
                (1, "a digest follows"),
                (32, "digest"),
                (1, "an error"),
                (2, "not-found"),
                (2, "message: 19 bytes"),
                (19, "\"/nothing: not there\""),
                (2, "no retry time"),
            ],
        ),
        shown(
            "S → C",
            reply(&Reply::Done { lsn: lsn(10) }),
            [(4, "lsn: epoch 1"), (8, "lsn: number 10")],
        ),
    ]
}

fn hello(way: &'static str) -> Shown {
    let message = Request::Hello(Hello::new(Role::Client, "demo 1.0"));
    let fields = [
        (4, "RELA"),
        (1, "role: client"),
        (2, "lowest version: 1"),
        (2, "highest version: 1"),
        (8, "no capabilities"),
        (2, "agent: 8 bytes"),
        (8, "\"demo 1.0\""),
    ];
    shown(way, request(&message), fields)
}

fn welcome(way: &'static str, role: ServerRole, agent: &str) -> Shown {
    let message = Reply::Welcome {
        version: 1,
        role,
        cluster: CLUSTER,
        capabilities: Capabilities::default(),
        agent: agent.into(),
    };
    let length = format!("agent: {} bytes", agent.len());
    let quoted = format!("{agent:?}");
    let of_role = format!("a {role:?}").to_lowercase();
    let fields = [
        (2, "version: 1"),
        (1, &of_role),
        (16, "cluster"),
        (8, "no capabilities"),
        (2, &length),
        (agent.len(), &quoted),
    ];
    shown(way, reply(&message), fields)
}

fn at_the_master() -> Vec<Shown> {
    let login = request(&Request::Login(Login::default()));
    let slaves = vec![Endpoint { id: SLAVE, addrs: vec![([127, 0, 0, 1], 2122).into()] }];
    let redirect = reply(&Reply::Redirect { ticket: TICKET.to_vec(), lsn: MARK, slaves });
    vec![
        hello("C → M"),
        shown(
            "C → M",
            login,
            [
                (2, "user: 0 bytes"),
                (2, "password: 0 bytes"),
                (4, "lsn: epoch 0"),
                (8, "lsn: number 0"),
                (2, "slaves to avoid: 0"),
                (1, "no preferred slave"),
            ],
        ),
        welcome("M → C", ServerRole::Master, "ftpmaster 0.1.0"),
        shown(
            "M → C",
            redirect,
            [
                (2, "ticket: 4 bytes (real ones are longer)"),
                (4, "ticket"),
                (4, "lsn: epoch 1"),
                (8, "lsn: number 0"),
                (2, "slaves: 1"),
                (16, "slave"),
                (2, "addresses: 1"),
                (1, "IPv4"),
                (4, "127.0.0.1"),
                (2, "port 2122"),
            ],
        ),
    ]
}

fn into_the_session() -> Vec<Shown> {
    let ticket = request(&Request::Ticket { ticket: TICKET.to_vec(), lsn: MARK });
    let opened = reply(&Reply::Opened { slave: SLAVE, lsn: MARK, writable: false });
    vec![
        hello("C → S"),
        shown(
            "C → S",
            ticket,
            [(2, "ticket: 4 bytes"), (4, "ticket"), (4, "lsn: epoch 1"), (8, "lsn: number 0")],
        ),
        welcome("S → C", ServerRole::Slave, "ftpslave 0.1.0"),
        shown(
            "S → C",
            opened,
            [(16, "slave"), (4, "lsn: epoch 1"), (8, "lsn: number 0"), (1, "read-only")],
        ),
    ]
}

fn listing() -> Vec<Shown> {
    let mut page = PageBuilder::new();
    let file = Entry {
        name: "hello.txt".into(),
        kind: Kind::File,
        mode: Mode::new(0o644),
        size: CONTENT.len() as u64,
        mtime: MTIME,
        version: None,
    };
    let folder = Entry {
        name: "pictures".into(),
        kind: Kind::Folder,
        mode: Mode::new(0o755),
        size: 0,
        mtime: MTIME,
        version: Some(Lsn { epoch: 1, number: 7 }),
    };
    assert!(page.push(&file) && page.push(&folder));
    let list = request(&Request::List { path: TreePath::root(), after: String::new(), most: 0 });
    vec![
        shown(
            "C → S",
            list,
            [
                (2, "path: 0 bytes, the root folder"),
                (2, "after: 0 bytes, all names"),
                (4, "most: 0, no limit"),
            ],
        ),
        shown(
            "S → C",
            reply(&Reply::Entries(page.finish())),
            [
                (2, "name: 9 bytes"),
                (9, "\"hello.txt\""),
                (1, "file"),
                (2, "mode: 0644"),
                (8, "size: 21"),
                (8, "mtime: 1,795,000,000 s"),
                (4, "mtime: 500,000,000 ns"),
                (2, "no optional fields"),
                (2, "name: 8 bytes"),
                (8, "\"pictures\""),
                (1, "folder"),
                (2, "mode: 0755"),
                (8, "size: 0"),
                (8, "mtime: 1,795,000,000 s"),
                (4, "mtime: 500,000,000 ns"),
                (2, "optional fields: 15 bytes"),
                (1, "tag 1: LSN"),
                (2, "length: 12 bytes"),
                (4, "epoch 1"),
                (8, "number 7"),
            ],
        ),
        shown(
            "S → C",
            reply(&Reply::Done { lsn: MARK }),
            [(4, "lsn: epoch 1"), (8, "lsn: number 0")],
        ),
    ]
}

fn content() -> Vec<Shown> {
    let digest = Digest(blake3::hash(CONTENT).into());
    let get = GetRequest {
        path: path("hello.txt"),
        offset: HERE as u64,
        length: u64::MAX,
        if_match: IfMatch::Digest(digest),
    };
    let rest = &CONTENT[HERE..];
    let header = ContentHeader {
        size: CONTENT.len() as u64,
        offset: HERE as u64,
        length: rest.len() as u64,
        block_size: 4,
        mtime: MTIME,
        mode: Mode::new(0o644),
        version: None,
        digest: Some(digest),
        identity: Identity([0x1d; 16]),
    };
    let block = |bytes: &[u8]| raw("S → C", FrameType::Block, bytes);
    let mut frames = vec![
        shown(
            "C → S",
            request(&Request::Get(get)),
            [
                (2, "path: 9 bytes"),
                (9, "\"hello.txt\""),
                (8, "offset: 6"),
                (8, "length: all to the end"),
                (1, "if-match: content with this digest"),
                (32, "digest"),
            ],
        ),
        shown(
            "S → C",
            reply(&Reply::ContentHeader(header)),
            [
                (8, "size: 21"),
                (8, "offset: 6"),
                (8, "length: 15"),
                (4, "block size: 4"),
                (8, "mtime: 1,795,000,000 s"),
                (4, "mtime: 500,000,000 ns"),
                (2, "mode: 0644"),
                (1, "no LSN"),
                (1, "a digest follows"),
                (32, "digest"),
                (16, "identity"),
            ],
        ),
    ];
    frames.extend(rest.chunks(4).map(block));
    frames.push(shown(
        "S → C",
        reply(&Reply::End { digest }),
        [(32, "digest of the whole content")],
    ));
    frames
}

fn an_error() -> Vec<Shown> {
    let get =
        GetRequest { path: path("nothing"), offset: 0, length: u64::MAX, if_match: IfMatch::Any };
    let message = "/nothing: there is no such file or folder";
    vec![
        shown(
            "C → S",
            request(&Request::Get(get)),
            [
                (2, "path: 7 bytes"),
                (7, "\"nothing\""),
                (8, "offset: 0"),
                (8, "length: all to the end"),
                (1, "if-match: any content"),
            ],
        ),
        shown(
            "S → C",
            reply(&Reply::Error(Refusal::new(ErrorCode::NotFound, message))),
            [
                (2, "not-found"),
                (2, "message: 41 bytes"),
                (41, &format!("{message:?}")),
                (2, "no retry time"),
            ],
        ),
    ]
}
