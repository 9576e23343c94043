//! Where the lines of the transfer log go, without anybody waiting for whoever reads them.
//!
//! A file takes a line at once. A pipe, a socket or a terminal may take none for as long as its reader likes: their lines are written by
//! a thread, and lost where it is far behind.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::warn;
use relais_proto::Seldom;
use rustix::fs::{OFlags, fcntl_setfl};

/// Most bytes of lines that wait for a reader.
const BEHIND: usize = 1 << 20;
/// How long a line waits for a reader that has so much before it.
const PATIENCE: Duration = Duration::from_secs(1);

/// An open log.
#[derive(Debug)]
pub struct Sink {
    file: File,
    /// Whether a write may wait for a reader.
    waits: bool,
}

impl Sink {
    /// Of a file that is open for writing.
    ///
    /// # Errors
    /// Those of looking what it is.
    pub fn new(file: File) -> io::Result<Self> {
        let waits = !file.metadata()?.is_file();
        Ok(Self { file, waits })
    }

    /// Appends to the file at this path, made with mode 0640.
    ///
    /// # Errors
    /// Those of opening it; a pipe must have a reader.
    pub fn append(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path).map_err(|e| {
            match e.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
                Some(rustix::io::Errno::NXIO) => io::Error::other("nobody reads from it"),
                _ => e,
            }
        })?;
        fcntl_setfl(&file, OFlags::APPEND)?;
        Self::new(file)
    }

    /// The file, to be handed to other processes.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Writes lines to sinks.
#[derive(Debug, Default)]
pub struct Writer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// A line came, or one was written.
    news: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<(Arc<Sink>, String)>,
    /// In all lines that are not written.
    bytes: usize,
    /// Whether there is a thread that writes them.
    served: bool,
    /// Whether the reader has let somebody wait in vain, and has taken nothing since.
    stalled: bool,
}

impl Writer {
    /// Writes a line, or hands it to the thread that does.
    pub fn write(&self, sink: &Arc<Sink>, line: String) {
        let written = if sink.waits { self.hand_over(sink, line) } else { (&sink.file).write_all(line.as_bytes()) };
        if let Err(e) = written {
            lost(&e);
        }
    }

    fn hand_over(&self, sink: &Arc<Sink>, line: String) -> io::Result<()> {
        let mut queue = self.0.queue();
        if !queue.served {
            let shared = Arc::clone(&self.0);
            std::thread::Builder::new().name("transfer log".to_owned()).spawn(move || shared.serve())?;
            queue.served = true;
        }
        if queue.bytes > BEHIND && !queue.stalled {
            let (again, result) = self.wait(queue, |queue| queue.bytes > BEHIND);
            queue = again;
            queue.stalled = result.timed_out();
        }
        if queue.bytes > BEHIND {
            return Err(io::Error::other("whoever reads it is too slow"));
        }
        queue.bytes += line.len();
        queue.lines.push_back((Arc::clone(sink), line));
        self.0.news.notify_all();
        Ok(())
    }

    /// Waits a moment until all lines are written.
    pub fn finish(&self) {
        let queue = self.0.queue();
        if queue.served && self.wait(queue, |queue| queue.bytes > 0).1.timed_out() {
            lost(&io::Error::other("whoever reads it is too slow"));
        }
    }

    fn wait<'a>(
        &self,
        queue: MutexGuard<'a, Queue>,
        mut condition: impl FnMut(&mut Queue) -> bool,
    ) -> (MutexGuard<'a, Queue>, std::sync::WaitTimeoutResult) {
        self.0.news.wait_timeout_while(queue, PATIENCE, &mut condition).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        let mut queue = self.queue();
        loop {
            let Some((sink, line)) = queue.lines.pop_front() else {
                queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queue);
            if let Err(e) = (&sink.file).write_all(line.as_bytes()) {
                lost(&e);
            }
            queue = self.queue();
            queue.bytes -= line.len();
            queue.stalled = false;
            self.news.notify_all();
        }
    }
}

fn lost(why: &io::Error) {
    static LOST: Seldom = Seldom::new();
    if let Some(more) = LOST.turn() {
        warn!("a line of the transfer log is lost: {why}{more}");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_reader_that_stalls_loses_lines_and_holds_nobody_up() {
        let (reader, end) = io::pipe().unwrap();
        let sink = Arc::new(Sink::new(File::from(std::os::fd::OwnedFd::from(end))).unwrap());
        let writer = Writer::default();
        let (line, began) = (format!("{:>1023}\n", "x"), Instant::now());
        (0..3000).for_each(|_| writer.write(&sink, line.clone()));
        assert!(began.elapsed() < Duration::from_secs(10), "only one line waited: {:?}", began.elapsed());
        let reads = std::thread::spawn(move || {
            let mut text = String::new();
            (&reader).read_to_string(&mut text).unwrap();
            text
        });
        // Once it goes on so do the lines.
        while writer.0.queue().bytes > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        writer.write(&sink, "last\n".to_owned());
        writer.finish();
        drop(sink);
        let text = reads.join().unwrap();
        assert!(text.ends_with("x\nlast\n") && text.lines().count() > 1000 && text.lines().count() < 3000, "{}", text.lines().count());
        assert!(text.lines().all(|text| text.len() == 1023 || text == "last"));
    }

    #[test]
    fn a_pipe_without_a_reader_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(Sink::append(&path).unwrap_err().to_string().contains("nobody reads"));
        let _reader = rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK, rustix::fs::Mode::empty()).unwrap();
        assert!(Sink::append(&path).unwrap().waits);
    }
}
