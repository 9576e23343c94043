//! Changes sent frame by frame: uploads in pieces of any size, and the slave's staging folder.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use relais_proto::{
    Attributes, ChangeId, Digest, Expect, FrameType, IfMatch, Login, Lsn, Mode, PutRequest,
    Refusal, Reply, Request, TreePath, encode_frame,
};

use super::raw_peers::{get, hello};
use super::{Program, RawClient, SOON, encoded, eventually};

/// Returns an id that no other change of this run has.
pub fn new_id() -> ChangeId {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    let seed = format!("{now} {} {}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    ChangeId(blake3::hash(seed.as_bytes()).as_bytes()[..16].try_into().unwrap())
}

/// Computes the id under which the slave and its journal keep a change.
///
/// It is the client's id, bound to the account (here: none) and to the kind, paths and size of the
/// change.
pub fn bound(id: ChangeId, kind: impl AsRef<[u8]>, paths: &[&str], size: Option<u64>) -> ChangeId {
    let mut hasher = blake3::Hasher::new_derive_key("relais 2026-11 id of a change 1");
    hasher.update(&id.0);
    let paths = paths.iter().map(|path| path.as_bytes());
    for text in [b"", kind.as_ref()].into_iter().chain(paths) {
        hasher.update(&(text.len() as u64).to_be_bytes()).update(text);
    }
    hasher.update(&size.unwrap_or(u64::MAX).to_be_bytes());
    let mut bound = [0; 16];
    hasher.finalize_xof().fill(&mut bound);
    let mut account = blake3::Hasher::new_derive_key("relais 2026-11 tag of an account 1");
    account.update(b"").finalize_xof().fill(&mut bound[..4]);
    ChangeId(bound)
}

#[track_caller]
pub fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

/// Builds the request for a new upload of known size, without a precondition.
pub fn put(name: &str, size: usize) -> PutRequest {
    PutRequest {
        id: new_id(),
        path: path(name),
        size: Some(size as u64),
        offset: 0,
        mtime: None,
        mode: None,
        expect: Expect::Any,
        copies: 0,
    }
}

pub fn make_folder(name: &str) -> Request {
    Request::MakeFolder { id: new_id(), path: path(name) }
}

pub fn remove(name: &str, recursive: bool) -> Request {
    Request::Remove { id: new_id(), path: path(name), recursive, expect: Expect::Any }
}

pub fn rename(from: &str, to: &str) -> Request {
    Request::Move { id: new_id(), from: path(from), to: path(to), expect: Expect::Any }
}

/// Builds the request for a copy of any content, without a precondition.
pub fn copy(from: &str, to: &str) -> Request {
    Request::Copy {
        id: new_id(),
        from: path(from),
        to: path(to),
        if_match: IfMatch::Any,
        expect: Expect::Any,
        copies: 0,
    }
}

/// Builds the request for new attributes, without a precondition.
pub fn set_attributes(name: &str, attributes: Attributes) -> Request {
    Request::SetAttributes { id: new_id(), path: path(name), expect: Expect::Any, attributes }
}

/// Builds the request for new permission bits.
pub fn set_mode(name: &str, mode: u32) -> Request {
    set_attributes(name, Attributes::mode(Mode::new(mode)))
}

/// Encodes a frame with bytes of an upload.
pub fn data(bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(&mut frame, FrameType::Data, |to| to.extend_from_slice(bytes));
    frame
}

/// Builds the request that ends an upload of `bytes`.
pub fn put_end(bytes: &[u8]) -> Request {
    Request::PutEnd { digest: Digest(blake3::hash(bytes).into()) }
}

/// Encodes all frames of an upload of `bytes` from the request's offset.
///
/// Each frame of data has `step` bytes.
pub fn upload(request: &PutRequest, bytes: &[u8], step: usize) -> Vec<u8> {
    let from = usize::try_from(request.offset).unwrap();
    let mut frames = encoded(&[Request::Put(request.clone())]);
    bytes[from..].chunks(step).for_each(|chunk| frames.extend(data(chunk)));
    frames.extend(encoded(&[put_end(bytes)]));
    frames
}

impl RawClient {
    /// Sends a request and waits for the reply.
    #[track_caller]
    pub fn ask(&mut self, request: &Request) -> Reply {
        self.send(std::slice::from_ref(request));
        self.reply()
    }

    /// Reads the result of a change: its LSN, or the refusal.
    #[track_caller]
    pub fn committed(&mut self) -> Result<Lsn, Refusal> {
        match self.reply() {
            Reply::Committed { version, copies, lsn, .. } => {
                assert!(copies >= 1, "stored on {copies} disks");
                assert!(lsn >= version, "the latest change {lsn} is before {version}");
                Ok(version)
            }
            Reply::Error(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Sends a change other than an upload and reads the result.
    #[track_caller]
    pub fn change(&mut self, request: &Request) -> Result<Lsn, Refusal> {
        self.send(std::slice::from_ref(request));
        self.committed()
    }

    /// Sends all frames of an upload and reads the result.
    #[track_caller]
    pub fn upload(&mut self, request: &PutRequest, bytes: &[u8]) -> Result<Lsn, Refusal> {
        // A server may answer and close before it has read all frames.
        self.raw(&upload(request, bytes, 256 << 10));
        self.committed()
    }

    /// Uploads a file without a precondition.
    #[track_caller]
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<Lsn, Refusal> {
        self.upload(&put(name, bytes.len()), bytes)
    }

    /// Returns how many bytes of an upload the slave reports as staged.
    #[track_caller]
    pub fn staged(&mut self, request: &PutRequest) -> u64 {
        match self.ask(&resume(request)) {
            Reply::Staged { offset, .. } => offset,
            other => panic!("{other:?}"),
        }
    }

    /// Downloads a whole file.
    #[track_caller]
    pub fn fetch(&mut self, name: &str) -> Result<Vec<u8>, Refusal> {
        self.send(&[get(name)]);
        self.content().map(|(_, bytes)| bytes)
    }
}

/// Builds the request for the staged size of an upload.
pub fn resume(request: &PutRequest) -> Request {
    Request::Resume { id: request.id, path: request.path.clone(), size: request.size.unwrap() }
}

/// Counts the bytes of the staged files of a served folder.
pub fn staged_bytes(root: &Path) -> u64 {
    // A file may vanish between the listing and the `stat`.
    staged_files(root).iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum()
}

/// Lists the staged files of a served folder.
pub fn staged_files(root: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(root.join(".relais/staging")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
}

/// Waits until no staged file is left.
#[track_caller]
pub fn wait_unstaged(root: &Path) {
    let began = Instant::now();
    while !staged_files(root).is_empty() {
        assert!(
            began.elapsed() < SOON,
            "still staged: {} bytes in {:?}",
            staged_bytes(root),
            staged_files(root)
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the process that the slave's log names last for a task: `Replicator`, `Worker(0)`.
#[track_caller]
pub fn process_of(slave: &Program, task: &str) -> Pid {
    let start = format!("{task} runs as process ");
    slave.stderr.wait_for(SOON, &format!("a process for {task}"), |log| {
        let number = log.rsplit_once(&start)?.1.lines().next()?;
        number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok().map(Pid::from_raw)
    })
}

/// Stops a process, as a hanging disk would, and waits until all its threads are stopped.
///
/// The kernel stops the threads one after the other.
#[track_caller]
pub fn stop(process: Pid) {
    kill(process, Signal::SIGSTOP).unwrap();
    eventually(SOON, "all threads are stopped", || {
        let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let mut states =
            threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")));
        states
            .all(|stat| {
                stat.is_ok_and(|stat| {
                    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T"))
                })
            })
            .then_some(())
    });
}

/// Downloads one file in a loop and fails the test when the content is not whole.
pub struct ContentReader {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<(u64, bool)>>,
}

impl ContentReader {
    /// Starts to read `name`.
    ///
    /// Its content is `old` at first (`None`: the file is missing). It may become `new`, and never
    /// `old` again.
    pub fn start(addr: SocketAddr, name: &str, old: Option<&[u8]>, new: &[u8]) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let (stop, name, old, new) =
            (Arc::clone(&stopped), name.to_owned(), old.map(<[u8]>::to_vec), new.to_vec());
        let thread = std::thread::spawn(move || {
            let (mut wire, mut reads, mut seen_new) = (None, 0, false);
            while !stop.load(Ordering::SeqCst) {
                // The slave may be down at times; the content that it sends must be right all the
                // same.
                let Some(found) = try_fetch(&mut wire, addr, &name) else { continue };
                reads += 1;
                let is_new = found.as_deref() == Some(&new[..]);
                assert!(
                    is_new || found == old,
                    "{name}: {} bytes that are neither old nor new",
                    found.map_or(0, |f| f.len())
                );
                assert!(is_new || !seen_new, "{name}: old again");
                seen_new |= is_new && old.as_deref() != Some(&new[..]);
            }
            (reads, seen_new)
        });
        Self { stopped, thread: Some(thread) }
    }

    /// Stops the reader. Returns the number of answers and whether the new content was seen.
    #[track_caller]
    pub fn end(mut self) -> (u64, bool) {
        self.stopped.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap_or_else(|e| std::panic::resume_unwind(e))
    }
}

impl Drop for ContentReader {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
}

/// Returns the content of a file, `Some(None)` if it is missing, `None` if the slave is down.
fn try_fetch(
    wire: &mut Option<RawClient>,
    addr: SocketAddr,
    name: &str,
) -> Option<Option<Vec<u8>>> {
    if wire.is_none() {
        *wire = try_open(addr);
    }
    let open = wire.as_mut()?;
    let found = open.raw(&encoded(&[get(name)])).then(|| try_content(open)).flatten();
    if found.is_none() {
        *wire = None;
    }
    found
}

fn try_open(addr: SocketAddr) -> Option<RawClient> {
    let stream = std::net::TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(SOON)).ok()?;
    let mut wire = RawClient(stream);
    let login = Request::Login(Login { lsn: Lsn::default(), ..Login::default() });
    wire.raw(&encoded(&[hello(), login])).then_some(())?;
    loop {
        match wire.frame().ok()??.0 {
            FrameType::Welcome | FrameType::Wait => {}
            FrameType::Opened => return Some(wire),
            _ => return None,
        }
    }
}

fn try_content(wire: &mut RawClient) -> Option<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    loop {
        let (kind, payload) = wire.frame().ok()??;
        match kind {
            FrameType::Block => bytes.extend(payload),
            FrameType::End => return Some(Some(bytes)),
            FrameType::Error => match Reply::decode(kind, &payload).unwrap() {
                Reply::Error(refusal) if refusal.code == relais_proto::ErrorCode::NotFound => {
                    return Some(None);
                }
                // The file was replaced during the transfer: the reader starts again.
                Reply::Error(refusal) if refusal.code == relais_proto::ErrorCode::Changed => {
                    return None;
                }
                other => panic!("the reader received {other:?}"),
            },
            _ => {}
        }
    }
}
