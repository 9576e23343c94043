//! Fetches small contents over one connection, on which their requests follow each other.
//!
//! Each content is verified and written to its staged file. The files of a group are synced
//! together before they are passed on.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use log::{debug, warn};
use relais_cluster::replica::FetchFault;
use relais_os::MailboxSender;
use relais_proto::{ContentHeader, FolderId, GetRequest, IfMatch, Lsn, Request, limits};
use relais_storage::{FetchFailure, FetchResult, FetchedFile, StagedName, Staging};
use relais_transfer::TransferError;
use relais_transfer::pipeline::{self, PipelineHandler, PipelineReply, PipelineRequest};
use relais_tree::{Meta, TreeError, complete_file};

use super::fetch_context::{FetchContext, FetchJob};
use super::holder_sessions::{FolderSessions, PeerConnection};
use super::small_jobs::SmallJobs;

/// Contents that are synced and passed on together.
const GROUP: usize = 128;
/// Files from which on one sync of the file system replaces one of each file.
const SYNC_TOGETHER: usize = 8;

/// The contents that one thread fetches from one folder.
pub(super) struct SmallFetches<'a> {
    context: &'a Arc<FetchContext>,
    /// Of this thread alone, see [`Staging::sync_all`].
    staging: &'a Staging,
    jobs: &'a SmallJobs,
    results: &'a MailboxSender<FetchResult>,
    from: FolderId,
    /// The latest change that the other slave must have applied.
    seen: Lsn,
    /// Requested contents, by their tags.
    requested: HashMap<u64, FetchJob>,
    tag: u64,
    /// Written contents that are not synced yet.
    written: Vec<(Lsn, FetchedFile, File)>,
}

impl<'a> SmallFetches<'a> {
    pub fn new(
        context: &'a Arc<FetchContext>,
        staging: &'a Staging,
        jobs: &'a SmallJobs,
        results: &'a MailboxSender<FetchResult>,
        (from, seen): (FolderId, Lsn),
    ) -> Self {
        let (requested, written) = (HashMap::new(), Vec::new());
        Self { context, staging, jobs, results, from, seen, requested, tag: 0, written }
    }

    /// Fetches all that waits.
    pub fn run(&mut self, peer: &mut Option<PeerConnection>) {
        let (context, put, from) = (self.context, self.seen, self.from);
        let mut sessions = FolderSessions { context, peer, put, from, holders: &[], failed: false };
        if let Err(e) = pipeline::run(&mut sessions, self) {
            debug!("cannot fetch {} contents from folder {from}: {e}", self.requested.len());
            // The others would fail in the same way, each after its own attempt to connect.
            while self.request_next().is_some() {}
        }
    }

    /// Takes the next order, and returns its request.
    fn request_next(&mut self) -> Option<(u64, PipelineRequest)> {
        let job = self.jobs.take(self.from, self.seen)?;
        let get = GetRequest {
            path: job.missing.path.clone(),
            offset: 0,
            length: limits::PIECE,
            if_match: IfMatch::Digest(job.missing.digest),
        };
        self.tag += 1;
        self.requested.insert(self.tag, job);
        Some((self.tag, Request::Get(get).into()))
    }

    /// Passes on what is left. There is a result for each order.
    pub fn finish(mut self) {
        self.pass_on();
        let left = std::mem::take(&mut self.requested);
        left.into_values().for_each(|job| self.send(job.put, Err(FetchFault::Holder.into())));
    }

    fn send(&self, put: Lsn, result: Result<FetchedFile, FetchFailure>) {
        // The catalogue writer has ended, and the pool with it.
        let _ = self.results.send(FetchResult { put, from: self.from, result });
    }

    /// Syncs the written contents, and passes them on.
    fn pass_on(&mut self) {
        let written = std::mem::take(&mut self.written);
        if written.is_empty() {
            return;
        }
        let together = written.len() >= SYNC_TOGETHER && self.staging.sync_all().is_ok();
        let results = written.into_iter().map(|(put, fetched, file)| {
            let synced = if together { Ok(()) } else { file.sync_all() };
            let result = synced.map_err(|e| {
                self.staging.discard(&fetched.name);
                local_failure(put, &TreeError::Io("sync the file", e))
            });
            let result = result.map(|()| fetched);
            // The file is closed before it gets its name in the tree. Otherwise the watch of its
            // folder would report a write, and the file would be scanned again.
            drop(file);
            FetchResult { put, from: self.from, result }
        });
        // The catalogue writer has ended, and the pool with it.
        let _ = self.results.send_all(results.collect::<Vec<_>>());
    }

    /// Handles content whose digest was compared with that of its header.
    fn store(
        &self,
        job: &FetchJob,
        header: &ContentHeader,
        bytes: &[u8],
    ) -> Result<(FetchedFile, File), FetchFailure> {
        // Number 0 is that of larger contents, whose files are locked.
        let attempt = self.context.attempts.fetch_add(1, Ordering::Relaxed).max(1);
        let name = StagedName::for_attempt(job.put, attempt);
        let staging = self.staging;
        let file = staging.create(&name).map_err(|e| local_failure(job.put, &e))?;
        let meta = write(&file, header, bytes).map_err(|e| {
            staging.discard(&name);
            local_failure(job.put, &e)
        })?;
        Ok((FetchedFile { name, meta, lock: None }, file))
    }
}

fn write(file: &File, header: &ContentHeader, bytes: &[u8]) -> Result<Meta, TreeError> {
    file.write_all_at(bytes, 0).map_err(|e| TreeError::Io("write the file", e))?;
    complete_file(file, header.mode, header.mtime)
}

fn local_failure(put: Lsn, error: &TreeError) -> FetchFailure {
    warn!("cannot store the content of change {put}: {error}");
    let lasting = (!error.is_transient()).then(|| error.reason());
    FetchFailure { blame: FetchFault::Local, lasting }
}

impl PipelineHandler for SmallFetches<'_> {
    fn next(&mut self) -> Option<(u64, PipelineRequest)> {
        self.request_next()
    }

    fn answer(&mut self, tag: u64, answer: PipelineReply<'_>) -> Result<(), TransferError> {
        let Some(job) = self.requested.remove(&tag) else { return Ok(()) };
        match answer {
            PipelineReply::Content { header, bytes, digest } if digest == job.missing.digest => {
                match self.store(&job, header, bytes) {
                    Ok((fetched, file)) => self.written.push((job.put, fetched, file)),
                    Err(failure) => self.send(job.put, Err(failure)),
                }
            }
            other => {
                debug!("cannot fetch {}: {other:?}", job.missing.path);
                self.send(job.put, Err(FetchFault::Holder.into()));
            }
        }
        if self.written.len() >= GROUP || self.requested.is_empty() {
            self.pass_on();
        }
        Ok(())
    }
}
