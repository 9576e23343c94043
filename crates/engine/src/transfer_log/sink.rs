//! The file or pipe that takes the lines of the transfer log, without blocking any session.
//!
//! A file takes a line at once. A pipe, a socket or a terminal may block as long as its reader does
//! not read. So a thread of its own writes to it, and lines are dropped when it is far behind.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use log::warn;
use parking_lot::Mutex;
use relais_proto::LogRateLimiter;
use rustix::fs::{OFlags, fcntl_setfl};

/// Most bytes of lines that wait to be written.
const MAX_QUEUED_BYTES: usize = 8 << 20;
/// How long a process that ends waits for its lines to be written.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// An open log.
#[derive(Debug)]
pub struct Sink {
    file: Arc<File>,
    /// Whether a write may block.
    may_block: bool,
    /// Queue of the thread that writes the lines if a write may block. It starts at the first line,
    /// so never before a fork, and ends with the sink once all lines are written.
    writer: Mutex<Option<Sender<String>>>,
    backlog: Arc<Backlog>,
}

/// What the thread has not written yet.
#[derive(Debug, Default)]
struct Backlog {
    lines: AtomicUsize,
    bytes: AtomicUsize,
    /// Dropped lines that were not reported in the log yet.
    dropped: AtomicUsize,
}

impl Sink {
    /// Makes a sink of a file that is open for writing.
    ///
    /// # Errors
    /// Those of reading the file's type.
    pub fn new(file: File) -> io::Result<Self> {
        let may_block = !file.metadata()?.is_file();
        Ok(Self {
            file: Arc::new(file),
            may_block,
            writer: Mutex::default(),
            backlog: Arc::default(),
        })
    }

    /// Opens the file at this path to append to it, with mode 0640.
    ///
    /// # Errors
    /// Those of opening it; a pipe must have a reader.
    pub fn append(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .custom_flags(flags)
            .open(path)
            .map_err(|e| match e.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
                Some(rustix::io::Errno::NXIO) => io::Error::other("the pipe has no reader"),
                _ => e,
            })?;
        fcntl_setfl(&file, OFlags::APPEND)?;
        Self::new(file)
    }

    /// Returns another descriptor of the file, to pass it to other processes.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Writes a line, or queues it if a write may block.
    pub fn write(&self, line: String) {
        let written = if self.may_block {
            self.enqueue(line)
        } else {
            (&*self.file).write_all(line.as_bytes())
        };
        if let Err(e) = written {
            log_loss(&e);
        }
    }

    /// Queues a line, or counts it as dropped if there is no room.
    ///
    /// Only the writing thread reports dropped lines: the slave's log may go to the same reader, so
    /// that reporting may block.
    fn enqueue(&self, line: String) -> io::Result<()> {
        if self.backlog.bytes.load(Ordering::Relaxed) > MAX_QUEUED_BYTES {
            self.backlog.dropped.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let mut writer = self.writer.lock();
        let queue = match &*writer {
            Some(queue) => queue,
            None => writer.insert(self.start_writer()?),
        };
        self.backlog.add(&line);
        queue.send(line).map_err(|unsent| {
            // The thread has panicked; the next line starts another one.
            self.backlog.remove(&unsent.0);
            *writer = None;
            io::Error::other("the writing thread has ended")
        })
    }

    fn start_writer(&self) -> io::Result<Sender<String>> {
        let (queue, lines) = channel::<String>();
        let (file, backlog) = (self.file.clone(), self.backlog.clone());
        std::thread::Builder::new().name("transfer log".to_owned()).spawn(move || {
            for line in lines {
                let dropped = backlog.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    warn!("dropped {dropped} lines of the transfer log: its reader is too slow");
                }
                if let Err(e) = (&*file).write_all(line.as_bytes()) {
                    log_loss(&e);
                }
                backlog.remove(&line);
            }
        })?;
        Ok(queue)
    }

    /// Waits a moment until all lines are written.
    pub fn finish(&self) {
        let until = Instant::now() + FINISH_TIMEOUT;
        loop {
            let left = self.backlog.lines.load(Ordering::Relaxed);
            if left == 0 {
                return;
            }
            if Instant::now() >= until {
                return warn!(
                    "dropped the last {left} lines of the transfer log: its reader does not read"
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Backlog {
    fn add(&self, line: &str) {
        self.lines.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(line.len(), Ordering::Relaxed);
    }

    fn remove(&self, line: &str) {
        self.lines.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
    }
}

fn log_loss(why: &io::Error) {
    static LOST: LogRateLimiter = LogRateLimiter::new();
    if let Some(more) = LOST.allow(Instant::now()) {
        warn!("dropped a line of the transfer log: {why}{more}");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use super::*;

    fn pipe() -> (io::PipeReader, Sink) {
        let (reader, end) = io::pipe().unwrap();
        (reader, Sink::new(File::from(OwnedFd::from(end))).unwrap())
    }

    fn read_all(reader: io::PipeReader) -> std::thread::JoinHandle<String> {
        std::thread::spawn(move || {
            let mut text = String::new();
            (&reader).read_to_string(&mut text).unwrap();
            text
        })
    }

    #[test]
    fn stalled_reader_loses_lines_without_blocking() {
        let (reader, sink) = pipe();
        let (line, began) = (format!("{:>1023}\n", "x"), Instant::now());
        (0..20_000).for_each(|_| sink.write(line.clone()));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        sink.finish();
        // Once the reader reads again the lines are written.
        let reads = read_all(reader);
        while sink.backlog.bytes.load(Ordering::Relaxed) > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(sink.backlog.dropped.load(Ordering::Relaxed), 0, "the loss was reported");
        sink.write("last\n".to_owned());
        sink.finish();
        drop(sink);
        let text = reads.join().unwrap();
        // Most of the 20,000 lines were dropped.
        assert!(
            text.ends_with("x\nlast\n") && (8000..10_000).contains(&text.lines().count()),
            "{}",
            text.lines().count()
        );
        assert!(text.lines().all(|text| text.len() == 1023 || text == "last"));
    }

    #[test]
    fn dropped_sinks_write_all_queued_lines() {
        let ((stalled, first), (reader, second)) = (pipe(), pipe());
        (0..200).for_each(|_| first.write(format!("{:>1023}\n", "x")));
        drop(first);
        second.write("there\n".to_owned());
        second.finish();
        drop(second);
        assert_eq!(read_all(reader).join().unwrap(), "there\n");
        assert_eq!(read_all(stalled).join().unwrap().lines().count(), 200);
    }

    #[test]
    fn pipes_without_reader_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(Sink::append(&path).unwrap_err().to_string().contains("no reader"));
        let _reader =
            rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK, rustix::fs::Mode::empty())
                .unwrap();
        assert!(Sink::append(&path).unwrap().may_block);
    }
}
