//! What must hold for any bytes: the bodies of the fuzz targets.
//!
//! The same functions run on a stable compiler: `crates/proto/tests` includes
//! this file and feeds it the corpus and millions of inputs made from it. Each
//! function takes any bytes and panics where a promise of `relais-proto` is
//! broken. Nothing here may depend on libFuzzer, on time or on chance.

use std::fmt::Debug;
use std::io::{self, Read};

use relais_proto::{
    Annotations, Change, ContentHashes, FrameType, Kind, LinkMessage, NameError, Operation,
    PageBuilder, PropertyName, Reply, Request, ToMaster, ToSlave, TreeEntry, TreePath, WireError,
    check_part, limits,
};

#[path = "../../tests/common/frames.rs"]
pub mod frames;

use frames::{read_frame, write_frame};

/// One message of a client: a type byte and a payload.
pub fn request(data: &[u8]) {
    let Some((kind, payload)) = split(data) else { return };
    let Ok(request) = canonical(kind, payload, Request::decode, Request::encode) else { return };
    assert_eq!(request.frame_type(), kind);
    match request {
        Request::Get(get) => path(get.path.as_str().as_bytes()),
        Request::List { path: folder, after, .. } => {
            path(folder.as_str().as_bytes());
            assert!(after.len() <= limits::NAME_PART);
        }
        Request::Stat(file) | Request::Hash(file) => path(file.as_str().as_bytes()),
        Request::Pieces { first, count, .. } => {
            assert!(count <= limits::PIECES_PER_PAGE);
            assert!((first + u64::from(count)).checked_mul(limits::PIECE).is_some());
        }
        Request::Login(login) => {
            assert!(
                login.user.len() <= limits::USER
                    && login.password.len() <= limits::PASSWORD
                    && login.avoid.len() <= limits::AVOID
            );
        }
        Request::Ticket { ticket, .. } => assert!(ticket.len() <= limits::TICKET),
        Request::Hello(hello) => assert!(hello.agent.len() <= limits::TEXT),
        Request::Status | Request::Ping | Request::FailedOver => assert!(payload.is_empty()),
        Request::Seen { .. } => assert_eq!(payload.len(), 12),
        Request::Put(put) => {
            path(put.path.as_str().as_bytes());
            assert!(
                put.offset <= put.size.unwrap_or(0) && put.size.unwrap_or(0) <= limits::FILE_SIZE
            );
        }
        Request::PutEnd { .. } => assert_eq!(payload.len(), 32),
        Request::Resume { path: file, size, .. } => {
            path(file.as_str().as_bytes());
            assert!(size <= limits::FILE_SIZE);
        }
        Request::MakeFolder { path: file, .. }
        | Request::Remove { path: file, .. }
        | Request::SetAttributes { path: file, .. }
        | Request::Watch { path: file, .. } => path(file.as_str().as_bytes()),
        Request::StatMany { paths } => {
            assert!(paths.len() <= limits::STAT_PATHS);
            paths.iter().for_each(|file| path(file.as_str().as_bytes()));
        }
        Request::Move { from, to, .. } | Request::Copy { from, to, .. } => {
            [from, to].iter().for_each(|end| path(end.as_str().as_bytes()))
        }
    }
}

/// One message of a server: a type byte and a payload.
pub fn reply(data: &[u8]) {
    let Some((kind, payload)) = split(data) else { return };
    let Ok(reply) = canonical(kind, payload, Reply::decode, Reply::encode) else { return };
    assert_eq!(reply.frame_type(), kind);
    match reply {
        Reply::ContentHeader(header) => {
            assert!(header.size <= limits::FILE_SIZE);
            assert!(header.offset.checked_add(header.length).is_some_and(|end| end <= header.size));
            assert!((1..=limits::BLOCK_MAX).contains(&header.block_size));
            assert!(header.mtime.nanos < 1_000_000_000);
        }
        Reply::Entries(page) => {
            let mut again = PageBuilder::new();
            for entry in page.iter() {
                assert_eq!(check_part(&entry.name), Ok(()));
                assert!(again.push(&entry), "a page that came in one frame fits into one");
            }
            assert!(again.finish().iter().eq(page.iter()));
        }
        Reply::Redirect { slaves, .. } => {
            assert!((1..=limits::REDIRECT_SLAVES).contains(&slaves.len()));
            assert!(
                slaves.iter().all(|slave| (1..=limits::ADDRESSES).contains(&slave.addrs.len()))
            );
        }
        Reply::Elsewhere { holders } => {
            assert!(holders.len() <= limits::REDIRECT_SLAVES);
            assert!(holders.iter().all(|holder| holder.addrs.len() <= limits::ADDRESSES));
        }
        Reply::PieceValues { first, values } => {
            assert!((first + values.len() as u64).checked_mul(limits::PIECE).is_some());
        }
        Reply::Error(refusal) => assert!(refusal.message.len() <= limits::TEXT),
        _ => {}
    }
}

/// One message of a cluster link: a type byte and a payload.
pub fn link(data: &[u8]) {
    let Some((kind, payload)) = split(data) else { return };
    let Ok(message) = canonical(kind, payload, LinkMessage::decode, LinkMessage::encode) else {
        return;
    };
    assert_eq!(message.frame_type(), kind);
    match message {
        LinkMessage::ToMaster(message) => to_master(&message),
        LinkMessage::ToSlave(message) => to_slave(&message),
        LinkMessage::TreePage(part) => {
            assert!(
                [part.entries.len(), part.ids.len(), part.timelines.len()]
                    .iter()
                    .all(|len| *len <= limits::LINK_LIST)
            );
            part.entries.iter().for_each(|(at, entry, _)| placed(at, entry));
            annotations(&part.annotations);
        }
        LinkMessage::Peers { peers, .. } => {
            assert!(
                peers.len() <= limits::PEERS
                    && peers.iter().all(|peer| peer.addrs.len() <= limits::ADDRESSES)
            );
        }
        LinkMessage::ReportEnd { halted, .. } => assert!(halted.len() <= limits::TEXT),
        LinkMessage::Operate(
            Operation::Drain(slave) | Operation::Ready(slave) | Operation::Forget(slave),
        ) => {
            assert!(slave.len() <= limits::TEXT);
        }
        LinkMessage::Line(line) => assert!(line.len() <= limits::LINE),
        _ => {}
    }
}

fn to_master(message: &ToMaster) {
    match message {
        ToMaster::MissingContents { puts, .. } => assert!(puts.len() <= limits::LINK_LIST),
        ToMaster::Propose { request, .. } => {
            assert!(request.tokens.len() <= limits::LOCK_TOKENS);
            change(&request.change)
        }
        _ => {}
    }
}

fn to_slave(message: &ToSlave) {
    match message {
        ToSlave::Follow { given_up, .. } | ToSlave::Compare { given_up, .. } => {
            assert!(given_up.len() <= limits::GIVEN_UP)
        }
        ToSlave::Page { entries, ids, annotations: all } => {
            assert!(entries.len() <= limits::LINK_LIST && ids.len() <= limits::LINK_LIST);
            annotations(all);
            entries.iter().for_each(|(at, entry)| placed(at, entry));
        }
        ToSlave::End { timelines, .. } => assert!(timelines.len() <= limits::TIMELINES),
        ToSlave::Commit { changes } => {
            assert!(changes.len() <= limits::LINK_LIST);
            for committed in changes {
                assert!(
                    committed.holders.len() <= limits::HOLDERS
                        && committed.restored.len() <= limits::LINK_LIST
                );
                change(&committed.entry.change);
                committed.restored.iter().for_each(|(at, _)| path(at.as_str().as_bytes()));
                committed
                    .restored
                    .iter()
                    .filter_map(|(at, entry)| Some((at, entry.as_ref()?)))
                    .for_each(|(at, entry)| placed(at, entry));
            }
        }
        ToSlave::Holders { holders, .. } => assert!(holders.len() <= limits::HOLDERS),
        ToSlave::ProposalResult { answer: Err(why), .. } | ToSlave::Refuse { why, .. } => {
            assert!(why.message.len() <= limits::TEXT)
        }
        _ => {}
    }
}

/// An entry of a tree, and where it is.
fn placed(at: &TreePath, entry: &TreeEntry) {
    path(at.as_str().as_bytes());
    assert_eq!(entry.kind() == Kind::File, entry.content.is_some());
    if let Some(content) = entry.content {
        assert!(content.size <= limits::FILE_SIZE && content.mtime.nanos < 1_000_000_000);
    }
}

/// A change that is asked for or committed.
fn change(change: &Change) {
    change.paths().for_each(|named| path(named.as_str().as_bytes()));
    if let Change::Put { size, mtime, .. } = change {
        assert!(*size <= limits::FILE_SIZE && mtime.nanos < 1_000_000_000);
    }
    match change {
        Change::SetProperties { changes, .. } => {
            assert!(changes.len() <= limits::PROPERTIES);
            changes.iter().for_each(|change| {
                property_name(&change.name);
                assert!(change.value.iter().all(|value| value.len() <= limits::PROPERTY_VALUE));
            });
        }
        Change::Lock { lock, .. } => {
            assert!(lock.user.len() <= limits::USER && lock.owner.len() <= limits::LOCK_OWNER);
            assert!(lock.seconds <= limits::LOCK_SECONDS);
        }
        Change::RecordSha256 { hashes, .. } => content_hashes(hashes),
        _ => {}
    }
}

fn property_name(name: &PropertyName) {
    assert!(name.namespace.len() <= limits::PROPERTY_NAMESPACE);
    assert!(name.local.len() <= limits::PROPERTY_LOCAL);
}

fn content_hashes(hashes: &ContentHashes) {
    assert!(hashes.pieces.len() <= limits::SHA256_PIECES);
    assert!(hashes.piece_size.is_power_of_two() && hashes.piece_size >= limits::PIECE);
}

/// A page of what a tree has beside its entries.
fn annotations(all: &Annotations) {
    for (at, property) in &all.properties {
        path(at.as_str().as_bytes());
        property_name(&property.name);
        assert!(property.value.len() <= limits::PROPERTY_VALUE);
    }
    for (at, lock) in &all.locks {
        path(at.as_str().as_bytes());
        assert!(lock.user.len() <= limits::USER && lock.owner.len() <= limits::LOCK_OWNER);
    }
    all.hashes.iter().for_each(|(_, hashes)| content_hashes(hashes));
}

/// A stream of frames, and the messages in them.
pub fn frame(data: &[u8]) {
    let (frames, end) = read_all(&mut &*data, data.len());
    let (trickled, trickled_end) =
        read_all(&mut Trickle { rest: data, step: 1 + data.len() % 7 }, data.len());
    assert_eq!(frames, trickled, "it does not matter in which portions bytes come");
    assert_eq!(end, trickled_end);
    let mut written = Vec::new();
    for (kind, payload) in &frames {
        assert!(write_frame(&mut written, *kind, payload).is_ok());
        decoders_share_no_type(*kind, payload);
    }
    assert!(data.starts_with(&written), "what was read is what came");
    assert_eq!(end.is_none(), written.len() == data.len(), "a clean end is one at a boundary");
}

/// A path as bytes.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return assert_eq!(TreePath::from_bytes(data), Err(NameError::NotUtf8));
    };
    match TreePath::from_bytes(data) {
        Ok(path) => {
            assert!(follows_the_rules(text), "{text:?}");
            assert!(!text.split('/').next().is_some_and(|top| top.eq_ignore_ascii_case(".relais")));
            assert_eq!(path.as_str(), text);
            assert_eq!(path.to_string(), format!("/{text}"));
            assert_eq!(path.parts().collect::<Vec<_>>().join("/"), text);
            match path.split_last() {
                Some((folder, last)) => assert_eq!(folder.join(last), Ok(path.clone())),
                None => assert!(path.is_root() && text.is_empty()),
            }
        }
        // Said as soon as the first part is seen; the others need not be good.
        Err(NameError::Reserved) => {
            assert!(text.split('/').next().is_some_and(follows_the_rules), "{text:?}")
        }
        Err(error) => assert!(!follows_the_rules(text), "{text:?}: {error}"),
    }
}

/// The rules for names once more, written down in another way than in `relais-proto`.
/// The reserved folder is left out.
fn follows_the_rules(path: &str) -> bool {
    let good = |part: &str| {
        (1..=255).contains(&part.len())
            && part != "."
            && part != ".."
            && !part.chars().any(|c| matches!(u32::from(c), 0..32 | 127..160))
    };
    path.len() <= 4095 && (path.is_empty() || path.split('/').all(good))
}

/// Type and payload, as far as a reader of frames would let them through.
fn split(data: &[u8]) -> Option<(FrameType, &[u8])> {
    let (&number, payload) = data.split_first()?;
    let kind = FrameType::from_number(number).ok()?;
    (payload.len() <= kind.cap() as usize).then_some((kind, payload))
}

/// Decodes; whatever can be decoded must encode to the very same bytes, but for unknown optional
/// fields, and decode to the same again.
fn canonical<M: PartialEq + Debug>(
    kind: FrameType,
    payload: &[u8],
    decode: impl Fn(FrameType, &[u8]) -> Result<M, WireError>,
    encode: impl Fn(&M, &mut Vec<u8>),
) -> Result<M, WireError> {
    let message = match decode(kind, payload) {
        Ok(message) => message,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return Err(error);
        }
    };
    let mut frame = Vec::with_capacity(relais_proto::HEADER_LEN + payload.len());
    encode(&message, &mut frame);
    let encoded = &frame[relais_proto::HEADER_LEN..];
    // Only optional fields of unknown tags are dropped.
    let drops = encoded.len() < payload.len()
        && matches!(
            kind,
            FrameType::Put
                | FrameType::SetAttributes
                | FrameType::Details
                | FrameType::EntryResults
                | FrameType::Events
                | FrameType::Heartbeat
                | FrameType::Register
                | FrameType::ToMaster
                | FrameType::ToSlave
        );
    assert!(drops || encoded == payload, "{message:?}");
    let mut again = Vec::new();
    assert!(
        matches!(read_frame(&mut frame.as_slice(), &mut again), Ok(Some(read)) if read == kind)
    );
    assert!(decode(kind, &again).is_ok_and(|second| second == message), "{message:?}");
    Ok(message)
}

/// Each type belongs to one of the three kinds of message, blocks and data to none.
fn decoders_share_no_type(kind: FrameType, payload: &[u8]) {
    fn knows<M>(result: Result<M, WireError>) -> usize {
        usize::from(!matches!(result, Err(WireError::Unexpected(_))))
    }
    let known = knows(canonical(kind, payload, Request::decode, Request::encode))
        + knows(canonical(kind, payload, Reply::decode, Reply::encode))
        + knows(canonical(kind, payload, LinkMessage::decode, LinkMessage::encode));
    assert_eq!(known, usize::from(!matches!(kind, FrameType::Block | FrameType::Data)), "{kind:?}");
}

/// All frames up to the end or the first error, and that error.
fn read_all(from: &mut impl Read, len: usize) -> (Vec<(FrameType, Vec<u8>)>, Option<String>) {
    let mut frames = Vec::new();
    loop {
        let mut payload = Vec::new();
        let result = read_frame(from, &mut payload);
        assert!(payload.capacity() <= 1024 + 2 * len, "memory follows the bytes that came");
        match result {
            Ok(Some(kind)) => frames.push((kind, payload)),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error.to_string())),
        }
    }
}

/// Gives a few bytes at a time, and is interrupted before each.
struct Trickle<'a> {
    rest: &'a [u8],
    step: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.step = self.step % 7 + 1;
        if self.step == 7 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let (now, later) = self.rest.split_at(self.step.min(to.len()).min(self.rest.len()));
        to[..now.len()].copy_from_slice(now);
        self.rest = later;
        Ok(now.len())
    }
}
