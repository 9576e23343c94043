//! Where the lines of the transfer log go, without anybody waiting for whoever reads them.
//!
//! A file takes a line at once. A pipe, a socket or a terminal may take none for as long as its reader likes: a thread of its own
//! writes to it, and lines are lost where it is far behind.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::warn;
use relais_proto::LogRateLimiter;
use rustix::fs::{OFlags, fcntl_setfl};

/// Most bytes of lines that wait for a reader.
const MAX_QUEUED_BYTES: usize = 8 << 20;
/// How long the end of a process may_block for them.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// An open log.
#[derive(Debug)]
pub struct Sink {
    state: Arc<SinkState>,
    /// Whether a write may wait for a reader.
    may_block: bool,
}

#[derive(Debug)]
struct SinkState {
    file: File,
    queue: Mutex<LineQueue>,
    /// A line came, or one was written, or no more will come.
    changed: Condvar,
}

/// Lines for a file whose writes may wait.
#[derive(Debug, Default)]
struct LineQueue {
    lines: VecDeque<String>,
    /// In all lines that are not written.
    bytes: usize,
    /// Lines for which there was no room since that was last told.
    lost: u64,
    /// Whether there is a thread that writes them.
    has_writer: bool,
    /// Whether nobody has this sink any more.
    closed: bool,
}

impl Sink {
    /// Of a file that is open for writing.
    ///
    /// # Errors
    /// Those of looking what it is.
    pub fn new(file: File) -> io::Result<Self> {
        let may_block = !file.metadata()?.is_file();
        Ok(Self {
            state: Arc::new(SinkState { file, queue: Mutex::default(), changed: Condvar::new() }),
            may_block,
        })
    }

    /// Appends to the file at this path, made with mode 0640.
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
                Some(rustix::io::Errno::NXIO) => io::Error::other("nobody reads from it"),
                _ => e,
            })?;
        fcntl_setfl(&file, OFlags::APPEND)?;
        Self::new(file)
    }

    /// The file, to be handed to other processes.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.state.file.as_fd()
    }

    /// Writes a line, or has it written.
    pub fn write(&self, line: String) {
        let written = if self.may_block {
            self.hand_over(line)
        } else {
            (&self.state.file).write_all(line.as_bytes())
        };
        if let Err(e) = written {
            log_loss(&e);
        }
    }

    /// What has no room is counted: only the thread may wait while it tells so, for the log may go to the same reader.
    fn hand_over(&self, line: String) -> io::Result<()> {
        let mut queue = self.state.queue();
        if !queue.has_writer {
            let state = Arc::clone(&self.state);
            std::thread::Builder::new().name("transfer log".to_owned()).spawn(move || {
                let _served = WriterGuard(&state);
                state.write_lines();
            })?;
            queue.has_writer = true;
        }
        if queue.bytes > MAX_QUEUED_BYTES {
            queue.lost += 1;
            return Ok(());
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        self.state.changed.notify_all();
        Ok(())
    }

    /// Waits a moment until all lines are written.
    pub fn finish(&self) {
        let queue = self.state.queue();
        let waited = self
            .state
            .changed
            .wait_timeout_while(queue, FINISH_TIMEOUT, |queue| queue.has_writer && queue.bytes > 0);
        let (queue, result) = waited.unwrap_or_else(PoisonError::into_inner);
        let left = queue.lines.len();
        drop(queue);
        if result.timed_out() {
            warn!("the last {left} lines of the transfer log are lost: nobody has read them");
        }
    }
}

impl Drop for Sink {
    /// The thread goes on until all is written.
    fn drop(&mut self) {
        self.state.queue().closed = true;
        self.state.changed.notify_all();
    }
}

impl SinkState {
    fn queue(&self) -> MutexGuard<'_, LineQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_lines(&self) {
        let mut queue = self.queue();
        loop {
            let Some(line) = queue.lines.pop_front() else {
                if queue.closed {
                    return;
                }
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let lost = std::mem::take(&mut queue.lost);
            drop(queue);
            if lost > 0 {
                warn!("{lost} lines of the transfer log are lost: whoever reads it is too slow");
            }
            if let Err(e) = (&self.file).write_all(line.as_bytes()) {
                log_loss(&e);
            }
            queue = self.queue();
            queue.bytes -= line.len();
            self.changed.notify_all();
        }
    }
}

/// Has the next line start another thread where this one ended by a panic.
struct WriterGuard<'a>(&'a SinkState);

impl Drop for WriterGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut queue = self.0.queue();
            queue.has_writer = false;
            queue.bytes = queue.lines.iter().map(String::len).sum();
        }
    }
}

fn log_loss(why: &io::Error) {
    static LOST: LogRateLimiter = LogRateLimiter::new();
    if let Some(more) = LOST.turn(Instant::now()) {
        warn!("a line of the transfer log is lost: {why}{more}");
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
    fn a_reader_that_stalls_loses_lines_and_holds_nobody_up() {
        let (reader, sink) = pipe();
        let (line, began) = (format!("{:>1023}\n", "x"), Instant::now());
        (0..20_000).for_each(|_| sink.write(line.clone()));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(sink.state.queue().lost > 10_000);
        sink.finish();
        // Once it goes on so do the lines.
        let reads = read_all(reader);
        while sink.state.queue().bytes > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(sink.state.queue().lost, 0, "it was told");
        sink.write("last\n".to_owned());
        sink.finish();
        drop(sink);
        let text = reads.join().unwrap();
        assert!(
            text.ends_with("x\nlast\n") && (8000..10_000).contains(&text.lines().count()),
            "{}",
            text.lines().count()
        );
        assert!(text.lines().all(|text| text.len() == 1023 || text == "last"));
    }

    #[test]
    fn one_sink_does_not_wait_for_another_and_what_was_handed_in_is_written_when_it_is_dropped() {
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
    fn a_pipe_without_a_reader_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(Sink::append(&path).unwrap_err().to_string().contains("nobody reads"));
        let _reader =
            rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK, rustix::fs::Mode::empty())
                .unwrap();
        assert!(Sink::append(&path).unwrap().may_block);
    }
}
