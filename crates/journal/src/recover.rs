//! Reads a journal from its start, and distinguishes a torn end from damage.
//!
//! A batch is appended only after the batch before it is on disk. So an interrupted write leaves
//! one bad batch at the end. A bad batch is damage if more follows: a later batch header, bytes
//! after the end that its own header gives, or more bytes than the longest batch has.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use relais_os::display_path;
use relais_proto::{ClusterId, Decoder, LogEntry, Lsn, Timeline, Wire};

use crate::batch::follows;
use crate::error::JournalError;
use crate::format::{
    BATCH_HEADER, BATCH_MAGIC, BatchHeader, BatchKey, CHAIN, Chain, FILE_HEADER, FORMAT,
    FileHeader, LONGEST,
};
use crate::location::Storage;

/// Buffer of the reader, for small batches.
const READ_AHEAD: usize = 256 * 1024;

/// The end of the journal: the position of the next batch, and what it must follow.
#[derive(Debug, Clone)]
pub(super) struct JournalEnd {
    pub key: BatchKey,
    pub at: u64,
    pub chain: Chain,
    pub last: Lsn,
    /// The timelines in the file, each with the last change before its first one.
    pub timelines: Vec<Timeline>,
}

impl JournalEnd {
    /// The end of a file without batches.
    pub fn of_empty(header: &FileHeader) -> Self {
        Self {
            key: header.key(),
            at: FILE_HEADER as u64,
            chain: header.chain(),
            last: Lsn::default(),
            timelines: Vec::new(),
        }
    }
}

/// A reader of a file's batches, in order.
pub(super) struct BatchReader {
    input: BufReader<File>,
    path: PathBuf,
    payload: Vec<u8>,
    /// The end after the last good batch.
    pub end: JournalEnd,
    /// The offset of the last good batch.
    pub newest: Option<u64>,
    /// The size of the file, the torn batch included.
    pub size: u64,
}

impl BatchReader {
    /// Makes a reader that takes the file as if it ended at `size`.
    pub fn new(file: File, path: &Path, id: [u8; 16], size: u64) -> Result<Self, JournalError> {
        let header = read_header(&file, path, size)?;
        if header.id != id {
            return Err(JournalError::Foreign {
                path: display_path(path),
                found: ClusterId(header.id),
                wanted: ClusterId(id),
            });
        }
        let end = JournalEnd::of_empty(&header);
        let mut input = BufReader::with_capacity(READ_AHEAD, file);
        input.seek(SeekFrom::Start(end.at)).map_err(|error| JournalError::io(path, error))?;
        Ok(Self { input, path: path.to_owned(), payload: Vec::new(), end, newest: None, size })
    }

    /// Reads the next batch; none at the end or before a torn batch.
    pub fn next_batch(&mut self) -> Result<Option<Vec<LogEntry>>, JournalError> {
        if self.end.at == self.size {
            return Ok(None);
        }
        let read = self.read_batch().map_err(|error| JournalError::io(&self.path, error))?;
        let Some((header, chain)) = read else {
            self.check_torn()?;
            return Ok(None);
        };
        // A defect in a good batch is damage, not a torn write.
        let entries = self.decode(&header).map_err(|why| self.damaged(why))?;
        self.newest = Some(self.end.at);
        self.end.at += header.total();
        self.end.chain = chain;
        Ok(Some(entries))
    }

    /// Reads the next batch of a file that holds only stored batches; none at its end.
    pub fn next_stored_batch(&mut self) -> Result<Option<Vec<LogEntry>>, JournalError> {
        let batch = self.next_batch()?;
        if batch.is_none() && self.end.at != self.size {
            return Err(self.damaged("a stored batch is bad"));
        }
        Ok(batch)
    }

    fn damaged(&self, why: impl Into<String>) -> JournalError {
        JournalError::damaged(&self.path, self.end.at, why)
    }

    /// Reads the header and the chain of the next batch; none if it is incomplete or bad.
    fn read_batch(&mut self) -> io::Result<Option<(BatchHeader, Chain)>> {
        let Self { input, payload, end, size, .. } = self;
        let rest = *size - end.at;
        if rest < BATCH_HEADER as u64 {
            return Ok(None);
        }
        let mut head = [0; BATCH_HEADER];
        input.read_exact(&mut head)?;
        let Some(header) = end.key.parse(&head, end.at).filter(|header| header.total() <= rest)
        else {
            return Ok(None);
        };
        payload.resize(header.len as usize, 0);
        input.read_exact(payload)?;
        let mut chain = [0; CHAIN];
        input.read_exact(&mut chain)?;
        let good = end.key.fits(&header, payload) && header.chain(&end.chain, payload) == chain;
        Ok(good.then_some((header, chain)))
    }

    /// Decodes the entries of a good batch, and advances `end.last`.
    fn decode(&mut self, header: &BatchHeader) -> Result<Vec<LogEntry>, String> {
        let end = &mut self.end;
        let mut from = Decoder::new(&self.payload);
        let (mut entries, mut after) = (Vec::new(), end.last);
        for _ in 0..header.count {
            let entry = LogEntry::decode(&mut from).map_err(|error| error.to_string())?;
            let found = entry.version;
            if !follows(after, found) {
                return Err(format!("change {found} does not follow change {after}"));
            }
            after = found;
            entries.push(entry);
        }
        from.finish().map_err(|error| error.to_string())?;
        let known = end.timelines.last().is_some_and(|known| known.id == header.timeline);
        if let Some(first) = entries.first().map(|entry| entry.version).filter(|_| !known) {
            let before = Lsn { number: first.number.saturating_sub(1), ..first };
            let after = if end.last == Lsn::default() { before } else { end.last };
            end.timelines.push(Timeline { after, id: header.timeline });
        }
        end.last = after;
        Ok(entries)
    }

    /// Checks that the bad batch after the good ones is torn, and returns an error for damage.
    fn check_torn(&self) -> Result<(), JournalError> {
        let end = &self.end;
        let rest = self.size - end.at;
        if rest > LONGEST {
            return Err(self.damaged("a batch is bad and more follows than the longest batch has"));
        }
        let bytes =
            read_back(|bytes, at| self.input.get_ref().read_exact_at(bytes, at), end.at, self.size)
                .map_err(|error| JournalError::io(&self.path, error))?;
        if end.key.parse(&bytes, end.at).is_some_and(|header| header.total() < rest) {
            return Err(self.damaged("a batch is bad and it is not the last"));
        }
        for (position, head) in (end.at..).zip(bytes.windows(BATCH_HEADER)).skip(1) {
            if head[0] == BATCH_MAGIC[0] && end.key.parse(head, position).is_some() {
                return Err(self.damaged("a batch is bad and a later one is not"));
            }
        }
        Ok(())
    }
}

fn read_header(file: &File, path: &Path, size: u64) -> Result<FileHeader, JournalError> {
    let mut bytes = [0; FILE_HEADER];
    if size < bytes.len() as u64 {
        return Err(JournalError::damaged(
            path,
            0,
            format!("it has {size} bytes, fewer than its header"),
        ));
    }
    file.read_exact_at(&mut bytes, 0).map_err(|error| JournalError::io(path, error))?;
    let header = FileHeader::parse(&bytes)
        .ok_or_else(|| JournalError::damaged(path, 0, "its header is not that of a journal"))?;
    if header.format != FORMAT {
        return Err(JournalError::Format { path: display_path(path), found: header.format });
    }
    Ok(header)
}

/// Reads a range of the file, at most the longest batch.
fn read_back(
    read: impl Fn(&mut [u8], u64) -> io::Result<()>,
    from: u64,
    to: u64,
) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(to - from).map_err(io::Error::other)?];
    read(&mut bytes, from)?;
    Ok(bytes)
}

/// Makes the recovered batches up to `end` durable, and cuts off the torn one up to `size`.
///
/// An earlier process may have ended between write and sync, or its sync may have failed. After a
/// failed sync the kernel regards the bytes as written, and a new sync alone would have no effect.
/// So the last batch, at `newest`, is written again. Only the last one can be unsynced, because no
/// batch is appended after an unsynced one.
pub(super) fn make_durable(
    file: &impl Storage,
    path: &Path,
    newest: Option<u64>,
    end: u64,
    size: u64,
) -> Result<(), JournalError> {
    if end < size {
        log::warn!(
            "the journal {} ends in an incomplete batch at byte {end}: its {} bytes are cut off. \
             Changes in it that were acknowledged come back from the catalogue or a slave",
            display_path(path).display(),
            size - end
        );
    }
    let store = || {
        if end < size {
            file.cut(end)?;
        }
        if let Some(start) = newest {
            let batch = read_back(|bytes, at| file.read(bytes, at), start, end)?;
            file.write(&batch, start)?;
        }
        if end < size || newest.is_some() { file.sync() } else { Ok(()) }
    };
    store().map_err(|error| JournalError::io(path, error))
}
