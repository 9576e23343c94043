//! The loop of a download: requests the missing bytes, and verifies them after the last one.
//!
//! The failover policy decides what follows a failed request.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::Scope;
use std::time::Duration;

use relais_net::Connection;
use relais_proto::{ContentHeader, Digest, ErrorCode, GetRequest, IfMatch, Mode, TreePath, limits};

use super::content::CompletedDownload;
use super::hashing::Hashing;
use super::state::DownloadState;
use super::streams::{NextClaim, STRIPED_FROM, StreamControl, StreamId, StreamRequests};
use super::verify::{is_whole, verify};
use super::{intake, requests};
use crate::action::{Action, Purpose};
use crate::error::{Fault, TransferError};
use crate::exchange::report_failover;
use crate::failover::{Failover, Try};
use crate::progress::{Progress, Resume};
use crate::sessions::{Sessions, StreamSource};

/// Size in bytes from which a download is recorded at its start.
///
/// Fetching a smaller content again is faster than recording it.
const NOTED_FROM: u64 = 4 * limits::PIECE;

/// Downloads the content of `path` into `part`, which is open for reading and writing.
///
/// With `resume` it continues from there; without it, the bytes in `part` are dropped. The part
/// file is not synced at the end, and keeps its name.
///
/// # Errors
/// See [`TransferError`]. If the download can be resumed, [`Progress::checkpoint`] has received the
/// state.
pub fn download(
    sessions: &mut dyn Sessions,
    path: &TreePath,
    part: &File,
    resume: Option<Resume>,
    progress: &mut dyn Progress,
) -> Result<CompletedDownload, TransferError> {
    let state = DownloadState::new(part, resume, progress)?;
    let result = std::thread::scope(|scope| {
        let download = DownloadLoop {
            path,
            state: &state,
            scope,
            hashing: Hashing::new(scope, &state),
            requests: StreamRequests::new(&state, path, StreamId::FIRST),
            source: None,
            has_control: false,
            failover: Failover::new(sessions.retry()),
            // Only the owner may read the file until a header sets the mode.
            mode: Mode::new(0o600),
            announced: false,
            must_identify: false,
            unfinished: false,
            in_content: false,
            accepted: false,
            server: None,
            last_server: None,
            bytes_moved: 0,
            moved_before: 0,
            resumed_from: 0,
            restarted: false,
            rounds: 0,
        };
        let result = download.run(sessions);
        state.streams.stop();
        result
    });
    if result.as_ref().is_err_and(TransferError::can_resume_download) {
        state.save();
    }
    result
}

struct DownloadLoop<'scope, 'env> {
    path: &'env TreePath,
    state: &'env DownloadState<'env>,
    scope: &'scope Scope<'scope, 'env>,
    hashing: Hashing<'scope, 'env>,
    requests: StreamRequests<'env>,
    /// Source of further streams.
    source: Option<Arc<dyn StreamSource>>,
    /// Whether a thread decides about further streams.
    has_control: bool,
    failover: Failover,
    mode: Mode,
    /// Whether the start of this content was reported.
    announced: bool,
    /// Whether the server may have the content although it does not know it by its identity.
    must_identify: bool,
    /// Whether an answer is unfinished, so the connection is unusable for other requests.
    unfinished: bool,
    /// Whether blocks of another content than expected follow.
    in_content: bool,
    /// Whether the current request was answered with the expected content.
    accepted: bool,
    /// Server of the current request, and of the last one.
    server: Option<SocketAddr>,
    last_server: Option<SocketAddr>,
    bytes_moved: u64,
    /// Value of `bytes_moved` at the last failure.
    moved_before: u64,
    resumed_from: u64,
    restarted: bool,
    /// Repair rounds with the current server.
    rounds: u32,
}

impl<'env> DownloadLoop<'_, 'env> {
    fn run(mut self, sessions: &mut dyn Sessions) -> Result<CompletedDownload, TransferError> {
        loop {
            let result = if self.state.interrupted() {
                Err(TransferError::Interrupted.into())
            } else {
                self.advance(sessions)
            };
            match result {
                Ok(Some(completed)) => return Ok(completed),
                Ok(None) => {}
                Err(fault) => self.recover_or_wait(sessions, fault)?,
            }
        }
    }

    /// Handles a failure of the first stream.
    ///
    /// If the failure policy gives up, it waits for other streams. The download ends if these have
    /// brought nothing.
    fn recover_or_wait(
        &mut self,
        sessions: &mut dyn Sessions,
        fault: Fault,
    ) -> Result<(), TransferError> {
        if self.requests.drop_all() && matches!(fault, Fault::Refused(_) | Fault::Elsewhere(_)) {
            // The answer to the request ahead follows.
            sessions.abandon();
        }
        if self.accepted && matches!(fault, Fault::Lost(_)) && self.complete_digest().is_some() {
            // The other streams have fetched the rest, and the last one has ended this one.
            sessions.abandon();
            return Ok(());
        }
        let good = || self.state.with(|content| content.good.total());
        let before = good();
        self.recover(sessions, fault).or_else(|error| {
            let is_local =
                matches!(error, TransferError::Local { .. } | TransferError::Interrupted);
            if is_local {
                return Err(error);
            }
            self.state.streams.wait_for_workers(&|| self.state.interrupted());
            if good() > before { Ok(()) } else { Err(error) }
        })
    }

    /// Performs one request for content, and the verification after the last one.
    ///
    /// Returns `None` if more requests are necessary.
    fn advance(&mut self, sessions: &mut dyn Sessions) -> Result<Option<CompletedDownload>, Fault> {
        self.last_server = self.server.take().or(self.last_server);
        self.accepted = false;
        if let Some(digest) = self.complete_digest()
            && is_whole(digest, self.state, &mut self.hashing)?
        {
            if self.requests.drop_all() {
                sessions.abandon();
            }
            return Ok(self.completed(digest));
        }
        let round_trip = sessions.connection()?.round_trip();
        if self.source.is_none() && self.state.content().is_none_or(|c| c.size >= STRIPED_FROM) {
            let is_useful =
                |source: &Arc<dyn StreamSource>| StreamControl::is_useful(&**source, round_trip);
            self.source = sessions.streams().filter(is_useful);
        }
        let server = sessions.connection()?;
        self.server = Some(server.peer());
        self.unfinished = true;
        if self.must_identify {
            if let Some(mut content) = self.state.content() {
                requests::identify(server, self.path, &mut content)?;
                self.state.know(content)?;
            }
            self.must_identify = false;
        }
        let Some(get) = self.next_request() else {
            self.unfinished = false;
            return Ok(None);
        };
        self.state.streams.connected(StreamId::FIRST, server.stream());
        let header = self.requests.ask(server, &get)?;
        self.accept(&header, server)?;
        self.accepted = true;
        self.start_streams(&header, round_trip)?;
        let Some(digest) = self.take_in(server, &header)? else {
            sessions.abandon();
            self.requests.drop_all();
            return Ok(None);
        };
        let known = self.state.with(|content| *content.digest.get_or_insert(digest));
        if known != Some(digest) {
            return Err(Fault::bad_value("digest at the end", 0));
        }
        if self.requests.has_ahead() {
            return Ok(None);
        }
        let (hashing, rounds) = (&mut self.hashing, &mut self.rounds);
        let is_whole = self.state.first_gap().is_none()
            && verify(server, self.path, digest, self.state, hashing, rounds)?;
        self.unfinished = false;
        Ok(if is_whole { self.completed(digest) } else { None })
    }

    /// Returns the digest of the content if several streams have fetched all its bytes.
    fn complete_digest(&self) -> Option<Digest> {
        let content = self.state.content().filter(|_| self.has_control)?;
        content.good.first_gap(content.size).map_or(content.digest, |_| None)
    }

    /// Has a thread open further streams, if they are allowed and the content is large.
    fn start_streams(
        &mut self,
        header: &ContentHeader,
        round_trip: Duration,
    ) -> Result<(), TransferError> {
        let Some(source) = self.source.as_ref().filter(|_| !self.has_control) else {
            return Ok(());
        };
        // Without a digest, each request would make the server compute one.
        let is_many = header.digest.is_some() && header.size >= STRIPED_FROM;
        self.state.streams.set_many(is_many);
        if is_many {
            self.has_control = true;
            self.hashing.save_from_now_on()?;
            StreamControl::start(self.scope, self.state, self.path, source, round_trip)?;
        }
        Ok(())
    }

    /// Receives the content after `header`; returns its digest.
    ///
    /// Returns `None` if a faster stream fetches the rest.
    fn take_in(
        &mut self,
        from: &mut Connection,
        header: &ContentHeader,
    ) -> Result<Option<Digest>, Fault> {
        let before = self.bytes_moved;
        let (hashing, moved) = (&mut self.hashing, &mut self.bytes_moved);
        let requests = &mut self.requests;
        let result = intake::take_in(from, header, self.state, hashing, requests, moved);
        if self.bytes_moved > before {
            self.failover.arrived();
        }
        result
    }

    /// Handles a failure; returns an error if the download ends.
    fn recover(&mut self, sessions: &mut dyn Sessions, fault: Fault) -> Result<(), TransferError> {
        let in_content = std::mem::take(&mut self.in_content);
        let mut unfinished = std::mem::take(&mut self.unfinished);
        let wanted = requests::if_match(self.state.content().as_ref());
        if let Fault::Refused(refusal) = &fault {
            unfinished = in_content;
            if refusal.code == ErrorCode::Changed
                && !self.must_identify
                && matches!(wanted, IfMatch::Identity(_))
            {
                // The copy may be the same although this server knows it by another identity.
                self.must_identify = true;
                return Ok(());
            }
        }
        let gained = self.bytes_moved - std::mem::replace(&mut self.moved_before, self.bytes_moved);
        self.failover.gained(gained);
        let (why, state) = (fault.to_string(), self.state);
        let tried = Try {
            purpose: Purpose::Read,
            server: self.server,
            unfinished: unfinished && !matches!(fault, Fault::Elsewhere(_)),
            repeatable: true,
            interrupted: &|| state.interrupted(),
        };
        match self.failover.recover(sessions, fault, &tried)? {
            // The file changed during the transfer, perhaps only its mode or link count. A request
            // by its digest shows whether the content is the same.
            Action::Restart if !(self.accepted && matches!(wanted, IfMatch::Digest(_))) => {
                self.restart(&why)?
            }
            Action::Failover | Action::Elsewhere => self.rounds = 0,
            _ => {}
        }
        Ok(())
    }

    /// Returns the request for the next missing bytes; `None` if others have fetched them.
    ///
    /// If no bytes are missing, it requests zero bytes at the end. The answer shows whether the
    /// content is the same, and its digest.
    fn next_request(&mut self) -> Option<GetRequest> {
        let content = self.state.content();
        match &content {
            None => {
                let end = if self.source.is_some() { STRIPED_FROM } else { u64::MAX };
                self.state.streams.claim_first(0..end);
                Some(self.requests.request(0..end))
            }
            Some(content) if content.good.first_gap(content.size).is_none() => {
                Some(self.requests.request(content.size..content.size))
            }
            Some(_) => match self.requests.next() {
                NextClaim::Bytes(get) => Some(get),
                NextClaim::Nothing => None,
            },
        }
    }

    /// Handles a header, and reports new facts.
    fn accept(&mut self, header: &ContentHeader, from: &mut Connection) -> Result<(), Fault> {
        let known = self.state.content();
        let is_new = known.is_none();
        // Blocks follow the header.
        self.in_content = true;
        let content = requests::learn(known, header)?;
        self.in_content = false;
        let good = content.good.total();
        self.state.know(content)?;
        self.mode = header.mode;
        self.hashing.begin(header.size)?;
        if !std::mem::replace(&mut self.announced, true) {
            self.resumed_from = good;
            self.state.tell(|progress| progress.started(header.size, good));
        }
        if is_new
            && header.size > NOTED_FROM
            && let Some(content) = self.state.content()
        {
            // The checkpoint claims no bytes yet. It records the content of the part file for a
            // resume after a kill.
            self.state.tell(|progress| progress.checkpoint(&content));
        }
        self.state.streams.lock().first = Some(from.peer());
        if let Some(before) = self.failover.served_by(from.peer()) {
            self.state.tell(|progress| progress.moved(before, from.peer(), header.offset));
            report_failover(from, before)?;
        }
        Ok(())
    }

    fn restart(&mut self, why: &str) -> Result<(), TransferError> {
        (self.rounds, self.resumed_from, self.restarted) = (0, 0, true);
        (self.announced, self.must_identify, self.has_control) = (false, false, false);
        self.state.streams.stop();
        self.state.restart(why)?;
        self.hashing.reset();
        Ok(())
    }

    fn completed(&self, digest: Digest) -> Option<CompletedDownload> {
        let mut servers = self.state.streams.servers();
        if servers.is_empty() {
            servers.extend(self.server.or(self.last_server));
        }
        self.state.content().map(|content| CompletedDownload {
            size: content.size,
            mtime: content.mtime,
            mode: self.mode,
            version: content.version,
            digest,
            bytes_moved: self.state.streams.lock().claims.moved,
            resumed_from: self.resumed_from,
            servers,
            restarted: self.restarted,
        })
    }
}
