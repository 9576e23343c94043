//! A slave on loopback that has content, and that is honest or fails as a test requires.

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use relais_auth::{ClusterKey, LinkChallenger, LinkRole};
use relais_net::Connection;
use relais_proto::{
    Capabilities, ContentHeader, Digest, ErrorCode, FileTime, FolderId, FrameType, Identity,
    IfMatch, LinkMessage, Lsn, Mode, PeerSlave, Refusal, Reply, Request, ServerRole, SlaveId,
    WaitReason, encode_frame,
};
use relais_tree::PieceHasher;

use super::digest_of;

/// The key of the cluster.
pub const KEY: [u8; 32] = [7; 32];
/// Bytes of a block.
pub const BLOCK: usize = 300_000;

/// How a fake slave fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// It ends each connection after so many bytes of content.
    CutAfter(usize),
    /// One byte of its copy is wrong, and the values are those of its copy.
    DamagedAt(usize),
    /// As before, but its values are those of the right content.
    LiesAt(usize),
    Refuses(ErrorCode),
    /// It sends nothing after so many bytes of content.
    StallAfter(usize),
}

/// A slave on loopback, for the time of the test process.
pub struct Holder {
    pub peer: PeerSlave,
    gets: Arc<Mutex<Vec<(u64, u64)>>>,
    stopped: Arc<AtomicBool>,
}

impl Holder {
    pub fn start(n: u8, content: &[u8], fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = PeerSlave {
            slave: SlaveId([n; 16]),
            folder: FolderId([n; 16]),
            addrs: vec![listener.local_addr().unwrap()],
        };
        let (gets, stopped) = (Arc::<Mutex<_>>::default(), Arc::<AtomicBool>::default());
        let mut copy = content.to_vec();
        if let Fault::DamagedAt(at) | Fault::LiesAt(at) = fault {
            copy[at] ^= 1;
        }
        let told = if matches!(fault, Fault::LiesAt(_)) { content } else { &copy };
        let mut hasher = PieceHasher::new(told.len() as u64, 0);
        hasher.update(told);
        let model = Model {
            digest: digest_of(content),
            copy,
            values: hasher.into_values(),
            fault,
            gets: gets.clone(),
        };
        let ended = stopped.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                model.serve(stream.unwrap());
            }
        });
        Self { peer, gets, stopped }
    }

    /// Stops listening.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.peer.addrs[0]));
    }

    pub fn gets(&self) -> Vec<(u64, u64)> {
        self.gets.lock().clone()
    }
}

struct Model {
    digest: Digest,
    copy: Vec<u8>,
    values: Vec<Digest>,
    fault: Fault,
    gets: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl Model {
    fn serve(&self, stream: TcpStream) {
        let mut connection = Connection::new(stream.try_clone().unwrap()).unwrap();
        if log_in(&mut connection).is_none() {
            return;
        }
        let mut left = match self.fault {
            Fault::CutAfter(bytes) | Fault::StallAfter(bytes) => bytes,
            _ => usize::MAX,
        };
        while let Ok(Some(request)) = connection.read_request() {
            let out = self.answer(&request, &mut left);
            if (&stream).write_all(&out).is_err() {
                return;
            }
            match self.fault {
                Fault::CutAfter(_) if left == 0 => break,
                Fault::StallAfter(_) if left == 0 => {
                    // The client closes the connection.
                    while let Ok(Some(_)) = connection.read_request() {}
                }
                _ => {}
            }
        }
        // The client may have gone first.
        let _ = stream.shutdown(Shutdown::Both);
    }

    fn answer(&self, request: &Request, left: &mut usize) -> Vec<u8> {
        let mut out = Vec::new();
        match request {
            Request::Seen { .. } => {}
            Request::Get(_) | Request::Pieces { .. } if matches!(self.fault, Fault::Refuses(_)) => {
                let Fault::Refuses(code) = self.fault else { unreachable!() };
                Reply::Error(Refusal::new(code, "a test wants it")).encode(&mut out);
            }
            Request::Pieces { if_match, first, count, .. } => {
                assert_eq!(*if_match, IfMatch::Digest(self.digest));
                Reply::Wait(WaitReason::Hashing).encode(&mut out);
                let first_at = usize::try_from(*first).unwrap();
                let values =
                    self.values.iter().skip(first_at).take(*count as usize).copied().collect();
                Reply::PieceValues { first: *first, values }.encode(&mut out);
            }
            Request::Get(get) => {
                assert_eq!(get.if_match, IfMatch::Digest(self.digest));
                self.gets.lock().push((get.offset, get.length));
                let start = usize::try_from(get.offset).unwrap();
                let end = start + usize::try_from(get.length).unwrap();
                Reply::ContentHeader(self.header(get.offset, get.length)).encode(&mut out);
                for block in self.copy[start..end].chunks(BLOCK) {
                    encode_frame(&mut out, FrameType::Block, |to| to.extend_from_slice(block));
                    let cut = block.len().saturating_sub(*left);
                    *left = left.saturating_sub(block.len());
                    if *left == 0 {
                        out.truncate(out.len() - cut);
                        return out;
                    }
                }
                Reply::End { digest: self.digest }.encode(&mut out);
            }
            other => panic!("{other:?}"),
        }
        out
    }

    fn header(&self, offset: u64, length: u64) -> ContentHeader {
        ContentHeader {
            size: self.copy.len() as u64,
            offset,
            length,
            block_size: u32::try_from(BLOCK).unwrap(),
            mtime: FileTime::default(),
            mode: Mode::new(0o644),
            version: None,
            digest: Some(self.digest),
            identity: Identity([1; 16]),
        }
    }
}

/// Plays the listening side of another slave's login; none if that slave closes first.
fn log_in(connection: &mut Connection) -> Option<()> {
    let key = ClusterKey::from_bytes(KEY);
    assert!(matches!(connection.read_request().ok()??, Request::Hello(_)));
    let link_message = |connection: &mut Connection| {
        let header = connection.read_header().ok()??;
        LinkMessage::decode(header.kind, connection.read_payload(header).ok()?).ok()
    };
    let open = link_message(connection)?;
    let (challenger, challenge) =
        LinkChallenger::new(LinkRole::Peer, &open, &key, connection.binding()).unwrap();
    connection.queue_reply(&Reply::Welcome {
        version: 1,
        role: ServerRole::Slave,
        cluster: key.cluster_id(),
        capabilities: Capabilities::default(),
        agent: "test".to_owned(),
    });
    connection.queue_link(&challenge);
    connection.flush().ok()?;
    challenger.check(&link_message(connection)?, &key).unwrap();
    let lsn = Lsn::default();
    connection.queue_reply(&Reply::Opened { slave: SlaveId([0; 16]), lsn, writable: false });
    connection.flush().ok()
}
