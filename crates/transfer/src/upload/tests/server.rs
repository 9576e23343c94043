//! A slave that can only receive uploads: it stages, answers `Resume`, commits once for an id, and
//! fails by a script.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use relais_proto::{FrameType, PutRequest, limits};

#[path = "../../../../proto/tests/common/frames.rs"]
mod frames;

use frames::read_header;

use super::*;

/// A change that was made.
#[derive(Clone)]
pub(super) struct Made {
    pub id: ChangeId,
    pub content: Vec<u8>,
    pub put: PutRequest,
}

/// What all slaves know.
#[derive(Clone, Default)]
pub(super) struct Cluster(Arc<Mutex<Vec<Made>>>);

impl Cluster {
    pub fn made(&self) -> Vec<Made> {
        self.0.lock().unwrap().clone()
    }

    fn digest(&self, id: ChangeId) -> Digest {
        let made = self.0.lock().unwrap();
        digest_of(&made.iter().find(|made| made.id == id).unwrap().content)
    }

    fn knows(&self, id: ChangeId) -> bool {
        self.0.lock().unwrap().iter().any(|made| made.id == id)
    }
}

type Says = Box<dyn FnMut(&Request) -> Option<Vec<Reply>> + Send>;

/// How a server departs from an honest one.
#[derive(Default)]
pub(super) struct Script {
    /// Its first connections end after so many bytes came in.
    pub cut_in: VecDeque<u64>,
    /// Its first connections end after so many bytes went out.
    pub cut_out: VecDeque<usize>,
    /// Returns the replies in place of the honest ones; `None` for no reply.
    pub says: Option<Says>,
    /// Its first uploads are refused once so many bytes of content came.
    pub refuse: VecDeque<(u64, Reply)>,
    /// Whether it reads nothing more after that.
    pub stuck: bool,
    /// It spoils the first byte of so many uploads.
    pub spoil: u32,
    /// It has this of the upload.
    pub staged: Vec<u8>,
    /// It reports no bytes of an upload, also after it has received some.
    pub forgetful: bool,
    /// Said with each frame of content.
    pub chatter: Vec<Reply>,
}

/// Ends with the test that made it: the tests of cuts make hundreds.
pub(super) struct Server {
    pub addr: SocketAddr,
    pub requests: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the listener, if there is one.
        let _ = TcpStream::connect(self.addr);
    }
}

impl Server {
    pub fn honest(cluster: &Cluster) -> Self {
        Self::new(cluster, Script::default())
    }

    pub fn cutting(cluster: &Cluster, cuts: impl IntoIterator<Item = u64>) -> Self {
        Self::new(cluster, Script { cut_in: cuts.into_iter().collect(), ..Script::default() })
    }

    pub fn saying(
        cluster: &Cluster,
        says: impl FnMut(&Request) -> Option<Vec<Reply>> + Send + 'static,
    ) -> Self {
        Self::new(cluster, Script { says: Some(Box::new(says)), ..Script::default() })
    }

    /// Another process listens there, or none.
    pub fn at(addr: SocketAddr) -> Self {
        Self { addr, requests: Arc::default(), ended: Arc::default() }
    }

    pub fn new(cluster: &Cluster, mut script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = Self::at(addr);
        let (seen, ended, cluster) =
            (Arc::clone(&server.requests), Arc::clone(&server.ended), cluster.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let input = script.cut_in.pop_front().unwrap_or(u64::MAX);
                let output = script.cut_out.pop_front().unwrap_or(usize::MAX);
                let session = Session {
                    input: (&stream).take(input),
                    stream: &stream,
                    output,
                    script: &mut script,
                };
                // The end of a session is its matter; the client may have gone first as well.
                let _ = session.serve(&cluster, &seen);
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        server
    }

    /// Offsets of the uploads that were opened.
    pub fn puts(&self) -> Vec<u64> {
        self.requests
            .lock()
            .unwrap()
            .iter()
            .filter_map(|r| if let Request::Put(put) = r { Some(put.offset) } else { None })
            .collect()
    }

    /// How many uploads were ended.
    pub fn ends(&self) -> usize {
        self.requests.lock().unwrap().iter().filter(|r| matches!(r, Request::PutEnd { .. })).count()
    }
}

struct Session<'a> {
    input: io::Take<&'a TcpStream>,
    stream: &'a TcpStream,
    output: usize,
    script: &'a mut Script,
}

/// An upload that is coming in.
struct Incoming {
    put: PutRequest,
    came: u64,
    dropped: Option<u64>,
}

impl Session<'_> {
    fn serve(mut self, cluster: &Cluster, seen: &Mutex<Vec<Request>>) -> io::Result<()> {
        let mut incoming: Option<Incoming> = None;
        while let Some(header) = read_header(&mut self.input).map_err(io::Error::other)? {
            if header.kind == FrameType::Data {
                let upload = incoming.as_mut().expect("content before Put");
                self.take_in(upload, header.len as usize)?;
                continue;
            }
            let mut payload = vec![0; header.len as usize];
            self.input.read_exact(&mut payload)?;
            let request = Request::decode(header.kind, &payload).map_err(io::Error::other)?;
            if request == Request::FailedOver {
                // It has no answer.
                continue;
            }
            seen.lock().unwrap().push(request.clone());
            let scripted = self.script.says.as_mut().and_then(|says| says(&request));
            let replies = match scripted {
                Some(replies) => replies,
                None => self.answer(&request, &mut incoming, cluster),
            };
            self.say(&replies)?;
        }
        Ok(())
    }

    fn take_in(&mut self, upload: &mut Incoming, len: usize) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        let mut left = len;
        while left > 0 {
            let room = left.min(buffer.len());
            let got = self.input.read(&mut buffer[..room])?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= got;
            upload.came += got as u64;
            if let Some(dropped) = &mut upload.dropped {
                *dropped += got as u64;
                if *dropped > limits::DISCARD {
                    return Err(io::Error::other("too much behind a refusal"));
                }
                continue;
            }
            self.script.staged.extend_from_slice(&buffer[..got]);
            if self.script.refuse.front().is_some_and(|(at, _)| upload.came >= *at) {
                let (_, reply) = self.script.refuse.pop_front().unwrap();
                upload.dropped = Some(0);
                self.say(&[reply])?;
                if self.script.stuck {
                    std::thread::sleep(Duration::from_secs(60));
                }
            }
        }
        let chatter = self.script.chatter.clone();
        self.say(&chatter)
    }

    fn answer(
        &mut self,
        request: &Request,
        incoming: &mut Option<Incoming>,
        cluster: &Cluster,
    ) -> Vec<Reply> {
        let staging = &mut self.script.staged;
        match request {
            Request::Ping => vec![Reply::Pong],
            Request::Resume { id, .. } if cluster.knows(*id) => {
                vec![Reply::Wait(WaitReason::Storing), committed(cluster.digest(*id))]
            }
            Request::Resume { .. } => {
                if self.script.forgetful {
                    staging.clear();
                }
                vec![staged(staging.len() as u64)]
            }
            Request::Put(put) => {
                let known = usize::try_from(put.offset).is_ok_and(|at| at <= staging.len());
                *incoming =
                    Some(Incoming { put: put.clone(), came: 0, dropped: (!known).then_some(0) });
                if !known {
                    return vec![refusal(ErrorCode::BadOffset)];
                }
                staging.truncate(usize::try_from(put.offset).unwrap());
                Vec::new()
            }
            Request::PutEnd { digest } => {
                let upload = incoming.take().expect("an end without a beginning");
                if upload.dropped.is_some() {
                    return Vec::new();
                }
                let mut content = std::mem::take(staging);
                if self.script.spoil > 0 && !content.is_empty() {
                    self.script.spoil -= 1;
                    content[0] ^= 1;
                }
                let fits = upload.put.size.is_none_or(|size| size == content.len() as u64);
                if !fits || digest_of(&content) != *digest {
                    return vec![refusal(ErrorCode::Damaged)];
                }
                let mut made = cluster.0.lock().unwrap();
                if made.iter().all(|made| made.id != upload.put.id) {
                    made.push(Made { id: upload.put.id, content, put: upload.put });
                }
                vec![Reply::Wait(WaitReason::Storing), committed(*digest)]
            }
            _ => vec![refusal(ErrorCode::Unsupported)],
        }
    }

    fn say(&mut self, replies: &[Reply]) -> io::Result<()> {
        let mut out = Vec::new();
        for reply in replies {
            reply.encode(&mut out);
        }
        let now = out.len().min(self.output);
        self.output -= now;
        let mut stream = self.stream;
        stream.write_all(&out[..now])?;
        if now < out.len() { Err(io::Error::other("cut here")) } else { Ok(()) }
    }
}
