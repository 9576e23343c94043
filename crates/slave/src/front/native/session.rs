//! The front end of a session: reads requests in turn, and turns outcomes into frames.
//!
//! Answers are sent in the order of the requests. A change may be on its way to the disk while the
//! next request is read. Every other request waits until all changes before it are answered.

use std::io;
use std::time::{Duration, Instant};

use log::{debug, info};
use relais_cluster::freshness::may_read;
use relais_net::{Connection, ReadTimeouts};
use relais_proto::{
    Change, ErrorCode, LogRateLimiter, Lsn, Refusal, Reply, Request, WaitReason, WireError, limits,
};
use relais_storage::{CommitReceipt, Proposal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::send::send;
use super::upload_receiver::{ReceivedUpload, UploadReceiver};
use crate::engine::hash_semaphore::{HashPermit, HashSemaphore};
use crate::engine::owner::Owner;
use crate::engine::pending_changes::{CommittedChange, PendingChanges};
use crate::engine::requests::{
    self, KeepAlive, RequestContext, RequestOutcome, SMALL, Upload, account_tag,
};
use crate::engine::serving::{ServingContext, Session};
use crate::engine::transfers::{TransferRecord, TransferRecorder};

/// Most bytes of answers that are held back while more requests are ready.
const MAX_HELD_BYTES: usize = 64 * 1024;
/// Longest time for which answers are held back while an upload comes in.
const MAX_HELD_TIME: Duration = Duration::from_millis(100);
/// How long a session waits for changes that its client has seen.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two checks whether they are applied.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Outage of the link to the master after which clients are notified.
const REPORT_DISCONNECTED_AFTER: Duration = Duration::from_secs(2);
/// First frame type of cluster links; servers' frames follow.
const FIRST_LINK_FRAME: u8 = 0x40;
/// How long a refused peer may take to read the refusal.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves one session until either side ends it.
pub fn serve(mut connection: Connection, session: &Session, serving: &ServingContext) {
    connection.set_timeouts(ReadTimeouts::SESSION);
    let lsn = serving.visible_lsn();
    connection.queue_reply(&Reply::Opened {
        slave: serving.slave_id,
        lsn,
        writable: session.writable,
    });
    let peer = connection.peer();
    let recorder =
        TransferRecorder::new(serving.transfers.as_deref(), session, peer, serving.slave_id);
    let mut handler = SessionHandler {
        connection,
        session,
        serving,
        pending: PendingChanges::new(serving, &session.owner),
        receiver: UploadReceiver::default(),
        seen_lsn: session.seen_lsn,
        outage: None,
        is_closing: false,
        is_cut: false,
        recorder,
    };
    match handler.run() {
        Ok(()) if handler.is_closing => {
            info!("{peer}: the slave closes the session of {}", handler.session.name());
            handler.connection.close_gracefully(CLOSE_TIMEOUT);
        }
        Ok(()) => debug!("{peer}: the client closed the session"),
        Err(WireError::Io(e)) if e.kind() == io::ErrorKind::TimedOut => {
            let can_refuse = !handler.is_cut && handler.connection.output().is_empty();
            static TIMED_OUT: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = TIMED_OUT.allow(Instant::now()) {
                info!("{peer}: the session timed out: {e}{more}");
            }
            // Within an answer the client would take the refusal for part of that answer.
            if can_refuse {
                let refusal = Refusal::new(ErrorCode::TimedOut, e.to_string());
                handler.connection.queue_reply(&Reply::Error(refusal));
                handler.connection.close_gracefully(CLOSE_TIMEOUT);
            }
        }
        Err(WireError::Io(e)) => debug!("{peer}: the session was cut: {e}"),
        Err(error) => {
            static BROKEN: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = BROKEN.allow(Instant::now()) {
                info!("{peer}: {error}{more}");
            }
            handler
                .connection
                .queue_reply(&Reply::Error(Refusal::new(ErrorCode::BadRequest, error.to_string())));
            handler.connection.close_gracefully(CLOSE_TIMEOUT);
        }
    }
}

/// The state of one session.
struct SessionHandler<'a> {
    connection: Connection,
    session: &'a Session,
    serving: &'a ServingContext,
    pending: PendingChanges<'a>,
    receiver: UploadReceiver,
    /// The latest change that the client has seen; every answer has to include it.
    seen_lsn: Lsn,
    /// The outage of the link to the master when the client was last notified; none: no outage.
    outage: Option<Duration>,
    /// Whether the client was told that it gets no further answers.
    is_closing: bool,
    /// Whether an answer may have ended within a frame.
    is_cut: bool,
    /// Records requests in the transfer log.
    recorder: TransferRecorder<'a>,
}

/// Sends a `Wait` frame for each second of waiting, and waits for permits to hash.
pub struct SessionKeepAlive<'a> {
    connection: &'a mut Connection,
    since: Instant,
    hashing: Option<(&'a HashSemaphore, &'a Owner)>,
    /// The permit to hash the next piece.
    permit: Option<HashPermit>,
}

impl<'a> SessionKeepAlive<'a> {
    /// Makes a keep-alive for an answer that begins to wait now.
    pub fn new(connection: &'a mut Connection) -> Self {
        Self { connection, since: Instant::now(), hashing: None, permit: None }
    }

    /// Makes a keep-alive for an answer that may need hashing.
    ///
    /// Each [`KeepAlive::send_keepalive`] for hashing waits for a permit.
    pub fn hashing(
        connection: &'a mut Connection,
        serving: &'a ServingContext,
        session: &'a Session,
    ) -> Self {
        let hashing = Some((&serving.hash_semaphore, &session.owner));
        Self { connection, since: Instant::now(), hashing, permit: None }
    }
}

impl KeepAlive for SessionKeepAlive<'_> {
    fn send_keepalive(&mut self, reason: WaitReason) -> io::Result<()> {
        // The permit is returned before the `Wait` frame is sent, so a client that does not read
        // blocks no other session.
        self.permit = None;
        let Self { connection, since, hashing, permit } = self;
        let mut send_wait = || {
            check_connected(connection)?;
            if since.elapsed() >= limits::WAIT_EVERY {
                connection.queue_reply(&Reply::Wait(reason));
                connection.flush()?;
                *since = Instant::now();
            }
            Ok(())
        };
        send_wait()?;
        if let (WaitReason::Hashing, Some((semaphore, owner))) = (reason, hashing) {
            *permit = Some(semaphore.acquire(owner, &mut send_wait)?);
        }
        Ok(())
    }
}

/// Fails if the client can neither send nor receive any more, so that no answer reaches it.
fn check_connected(connection: &Connection) -> io::Result<()> {
    let mut fds = [PollFd::new(&**connection.stream(), PollFlags::empty())];
    wait_at_most(&mut fds, Duration::ZERO)?;
    if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
        return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the client has gone"));
    }
    Ok(())
}

/// Whether further requests are read before the answer to this one is known.
///
/// Such a request is a change that needs no check of its target first.
fn is_pipelined(request: &Request) -> bool {
    match request {
        Request::MakeFolder { .. } | Request::Remove { .. } | Request::Move { .. } => true,
        Request::Put(put) => put.size.is_some_and(|size| size <= SMALL),
        _ => false,
    }
}

impl SessionHandler<'_> {
    fn run(&mut self) -> Result<(), WireError> {
        loop {
            self.queue_answers();
            if !self.connection.has_input() || self.connection.output().len() > MAX_HELD_BYTES {
                self.connection.flush()?;
            }
            if !self.connection.has_input()
                && !self.pending.is_empty()
                && !self.wait_for_answer_or_request()?
            {
                continue;
            }
            if !self.connection.has_input() && self.pending.is_empty() {
                self.receiver.free_buffer();
            }
            let header = match self.connection.read_header() {
                Ok(Some(header)) => header,
                Ok(None) => return self.finish_pending(),
                // The request is of a later version; only its length is known.
                Err(WireError::UnknownType(kind)) if kind < FIRST_LINK_FRAME => {
                    self.connection.skip_unknown()?;
                    let message = format!("this server does not know requests of type {kind:#04x}");
                    self.refuse(Refusal::new(ErrorCode::Unsupported, message))?;
                    continue;
                }
                Err(e) => return Err(e),
            };
            let request = match Request::decode(header.kind, self.connection.read_payload(header)?)
            {
                Ok(request) => request,
                // The frame was complete, so later requests can be answered.
                Err(WireError::Name(e)) => {
                    let refusal = Refusal::new(ErrorCode::BadName, e.to_string());
                    self.recorder.log_unreadable(header.kind, refusal.code);
                    self.refuse_frame(header.kind, refusal)?;
                    continue;
                }
                Err(e) => return Err(e),
            };
            if let Request::Seen { lsn } = request {
                self.seen_lsn = self.seen_lsn.max(lsn);
                continue;
            }
            if !is_pipelined(&request) {
                self.drain_pending()?;
            }
            self.report_disconnected();
            let record = self.recorder.begin(&request);
            let refused = self.check_admission();
            if let Some(refusal) = &refused {
                self.recorder.end(record.as_ref(), Err(refusal.code));
            }
            match refused {
                Some(refusal) if refusal.code == ErrorCode::BadTicket => {
                    self.refuse_and_close(refusal)?
                }
                Some(refusal) if matches!(request, Request::Put(_)) => {
                    self.refuse_upload(refusal)?
                }
                Some(refusal) => self.refuse(refusal)?,
                None => self.answer(request, record)?,
            }
            if self.is_closing {
                return Ok(());
            }
        }
    }

    /// Notifies the client, once for each outage, that there is no link to the master.
    fn report_disconnected(&mut self) {
        let outage = self
            .serving
            .scoreboard
            .disconnected_for()
            .filter(|outage| *outage >= REPORT_DISCONNECTED_AFTER);
        if let Some(outage) = outage
            && self.outage.is_none_or(|reported| outage < reported)
        {
            self.connection.queue_reply(&Reply::MasterUnreachable {
                ms: u64::try_from(outage.as_millis()).unwrap_or(u64::MAX),
            });
        }
        self.outage = outage;
    }

    /// Waits until this slave has the changes that the client has seen.
    ///
    /// Returns the refusal if it does not get them in time, or if the session may send no more
    /// requests.
    fn check_admission(&mut self) -> Option<Refusal> {
        let scoreboard = &self.serving.scoreboard;
        if let Err(refusal) = self.session.check(scoreboard) {
            return Some(refusal);
        }
        if scoreboard.is_draining() && !self.session.is_peer {
            return Some(Refusal::new(ErrorCode::Draining, "this slave is being drained"));
        }
        if !self.serving.is_cluster_member || may_read(self.seen_lsn, scoreboard.applied_lsn()) {
            return None;
        }
        let began = Instant::now();
        let mut keepalive = SessionKeepAlive::new(&mut self.connection);
        while !may_read(self.seen_lsn, scoreboard.applied_lsn()) {
            if began.elapsed() >= CATCH_UP_TIMEOUT || self.serving.is_stopping() {
                let message = format!(
                    "this slave has changes up to {}, but this client has seen change {}",
                    scoreboard.applied_lsn(),
                    self.seen_lsn
                );
                return Some(Refusal::new(ErrorCode::Behind, message));
            }
            std::thread::sleep(POLL_INTERVAL);
            if keepalive.send_keepalive(WaitReason::CatchingUp).is_err() {
                return Some(Refusal::new(ErrorCode::Cut, "the client has gone"));
            }
        }
        None
    }

    /// Refuses a request with an invalid name. The data of an upload still follows it.
    fn refuse_frame(
        &mut self,
        kind: relais_proto::FrameType,
        refusal: Refusal,
    ) -> Result<(), WireError> {
        if kind == relais_proto::FrameType::Put {
            self.refuse_upload(refusal)
        } else {
            self.refuse(refusal)
        }
    }

    fn answer(
        &mut self,
        request: Request,
        mut record: Option<TransferRecord>,
    ) -> Result<(), WireError> {
        let is_upload = matches!(request, Request::Put(_));
        // These requests belong to the login or to an upload.
        if matches!(
            request,
            Request::Hello(_) | Request::Login(_) | Request::Ticket { .. } | Request::PutEnd { .. }
        ) {
            return Err(WireError::Unexpected(request.frame_type().number()));
        }
        if is_upload
            && !self.pending.is_empty()
            && self.serving.scoreboard.uploads().is_crowded(account_tag(&self.session.user))
        {
            self.drain_pending()?;
        }
        let result = {
            let mut keepalive =
                SessionKeepAlive::hashing(&mut self.connection, self.serving, self.session);
            let (serving, session) = (self.serving, self.session);
            requests::handle(
                &mut RequestContext { serving, session, keepalive: &mut keepalive },
                request,
            )
        };
        match result {
            Ok(RequestOutcome::Change(proposal)) => self.submit(&proposal, record),
            Ok(RequestOutcome::Upload(upload)) => {
                match self
                    .receive_upload(*upload)
                    .inspect_err(|_| self.recorder.end(record.as_ref(), Err(ErrorCode::Cut)))?
                {
                    ReceivedUpload::Complete(proposal) => {
                        match self.session.check(&self.serving.scoreboard) {
                            Ok(()) => {
                                if let (Some(record), Change::Put { size, .. }) =
                                    (&mut record, &proposal.change)
                                {
                                    record.set_bytes(*size);
                                }
                                self.submit(&proposal, record)
                            }
                            // The login has ended during the upload.
                            Err(refusal) => {
                                if let Some(staged) = &proposal.staged {
                                    self.serving.discard_upload(staged);
                                }
                                self.recorder.end(record.as_ref(), Err(refusal.code));
                                self.refuse_and_close(refusal)
                            }
                        }
                    }
                    ReceivedUpload::Refused { refusal, ended } => {
                        self.recorder.end(record.as_ref(), Err(refusal.code));
                        if ended { self.refuse(refusal) } else { self.refuse_upload(refusal) }
                    }
                }
            }
            Ok(outcome) => {
                let mut bytes_sent = 0;
                let sent = send(
                    &mut self.connection,
                    self.serving,
                    self.session,
                    outcome,
                    &mut bytes_sent,
                );
                record.iter_mut().for_each(|record| record.set_bytes(bytes_sent));
                self.is_cut = sent.is_err();
                let outcome = sent.as_ref().map_or(Err(ErrorCode::Cut), |sent| *sent);
                self.recorder.end(record.as_ref(), outcome);
                sent.map(drop)
            }
            Err(refusal) => {
                self.recorder.end(record.as_ref(), Err(refusal.code));
                match refusal.code {
                    _ if is_upload => self.refuse_upload(refusal),
                    // The client continues at another slave.
                    ErrorCode::TimedOut => self.refuse_and_close(refusal),
                    _ => self.refuse(refusal),
                }
            }
        }
    }

    /// Refuses a request, and closes the session.
    fn refuse_and_close(&mut self, refusal: Refusal) -> Result<(), WireError> {
        self.is_closing = true;
        self.refuse(refusal)?;
        Ok(self.connection.flush()?)
    }

    /// Refuses a request, after the answers to earlier ones.
    fn refuse(&mut self, refusal: Refusal) -> Result<(), WireError> {
        self.drain_pending()?;
        self.connection.queue_reply(&Reply::Error(self.session.as_user_sees(refusal)));
        Ok(())
    }

    /// Refuses an upload before its data has come, and discards that data.
    fn refuse_upload(&mut self, refusal: Refusal) -> Result<(), WireError> {
        self.refuse(refusal)?;
        self.connection.flush()?;
        self.receiver.discard_rest(&mut self.connection)
    }

    fn submit(
        &mut self,
        proposal: &Proposal,
        record: Option<TransferRecord>,
    ) -> Result<(), WireError> {
        loop {
            let mut keepalive = SessionKeepAlive::new(&mut self.connection);
            match self.pending.submit(proposal, &mut keepalive) {
                Ok(true) => {
                    self.recorder.keep_pending(record);
                    return Ok(());
                }
                Ok(false) => self.wait_for_answer()?,
                Err(refusal) => {
                    self.recorder.end(record.as_ref(), Err(refusal.code));
                    return self.refuse(refusal);
                }
            }
            self.queue_answers();
        }
    }

    /// Receives an upload, and sends answers and keep-alives meanwhile.
    ///
    /// The client may have sent everything long ago and wait, while a slow network still delivers
    /// it. So answers are sent in between, and a `Wait` frame in each second in which data came. A
    /// client whose data no longer arrives gets none.
    fn receive_upload(&mut self, upload: Upload) -> Result<ReceivedUpload, WireError> {
        let (pending, recorder, serving) = (&mut self.pending, &mut self.recorder, self.serving);
        let session = self.session;
        let mut sent_at = Instant::now();
        self.receiver.receive(&mut self.connection, (serving, session), upload, &mut |connection| {
            let since = Instant::now();
            // The callback runs each time that data has come.
            let mut has_data = true;
            loop {
                queue_answers(connection, pending, recorder, serving);
                let stream = connection.stream().clone();
                let mut fds = vec![PollFd::new(&*stream, PollFlags::IN)];
                fds.extend(
                    pending.fd().map(|channel| PollFd::from_borrowed_fd(channel, PollFlags::IN)),
                );
                let has_more = wait_at_most(&mut fds[..1], Duration::ZERO)?;
                let is_wait_due = sent_at.elapsed() >= limits::WAIT_EVERY;
                if is_wait_due && (std::mem::take(&mut has_data) || !pending.is_empty()) {
                    connection.queue_reply(&Reply::Wait(WaitReason::Storing));
                }
                if is_wait_due
                    || !connection.output().is_empty()
                        && (!has_more || sent_at.elapsed() >= MAX_HELD_TIME)
                {
                    connection.flush()?;
                    sent_at = Instant::now();
                }
                if has_more {
                    return Ok(());
                }
                if since.elapsed() >= limits::FRAME_TIME {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "no more data of the upload came",
                    )
                    .into());
                }
                wait_at_most(&mut fds, limits::WAIT_EVERY)?;
            }
        })
    }

    /// Queues the answers that have come.
    fn queue_answers(&mut self) {
        queue_answers(&mut self.connection, &mut self.pending, &mut self.recorder, self.serving);
    }

    /// Waits until every change is answered.
    fn drain_pending(&mut self) -> Result<(), WireError> {
        self.queue_answers();
        while !self.pending.is_empty() {
            self.connection.flush()?;
            self.wait_for_answer()?;
            self.queue_answers();
        }
        Ok(())
    }

    /// Ends the session after the client has sent its last request; pending changes are still
    /// answered.
    fn finish_pending(&mut self) -> Result<(), WireError> {
        self.drain_pending()?;
        Ok(self.connection.flush()?)
    }

    fn wait_for_answer(&mut self) -> Result<(), WireError> {
        // A client that has died answers this with a reset, which cancels its changes.
        self.connection.flush()?;
        let Some(channel) = self.pending.fd() else { return Ok(()) };
        let stream = self.connection.stream().clone();
        // Only the client's disconnect is of interest here: it cancels the pending changes.
        let mut fds = [
            PollFd::from_borrowed_fd(channel, PollFlags::IN),
            PollFd::new(&*stream, PollFlags::empty()),
        ];
        let is_ready = wait(&mut fds)?;
        if fds[0].revents().is_empty() {
            check_connected(&self.connection)?;
        }
        self.send_wait_after_timeout(is_ready)
    }

    /// Waits for an answer or a request; true if a request came.
    fn wait_for_answer_or_request(&mut self) -> Result<bool, WireError> {
        let Some(channel) = self.pending.fd() else { return Ok(false) };
        let stream = self.connection.stream().clone();
        let mut fds = [
            PollFd::new(&*stream, PollFlags::IN),
            PollFd::from_borrowed_fd(channel, PollFlags::IN),
        ];
        let is_ready = wait(&mut fds)?;
        let has_request = !fds[0].revents().is_empty();
        self.send_wait_after_timeout(is_ready)?;
        Ok(has_request)
    }

    /// Sends a `Wait` frame, unless an answer or a request came in time.
    fn send_wait_after_timeout(&mut self, is_ready: bool) -> Result<(), WireError> {
        if !is_ready {
            self.connection.queue_reply(&Reply::Wait(WaitReason::Storing));
            self.connection.flush()?;
        }
        Ok(())
    }
}

fn queue_answers(
    connection: &mut Connection,
    pending: &mut PendingChanges<'_>,
    recorder: &mut TransferRecorder<'_>,
    serving: &ServingContext,
) {
    loop {
        let Some(answer) = pending.answer(&mut SessionKeepAlive::new(connection)) else { return };
        recorder.end_oldest(answer.as_ref().map(|_| ()).map_err(|refusal| refusal.code));
        let answer = answer.map_err(|refusal| recorder.session().as_user_sees(refusal));
        connection.queue_reply(&reply_to(answer, serving));
    }
}

/// Waits for any descriptor, at most until a `Wait` frame is due; true if one is ready.
fn wait(fds: &mut [PollFd<'_>]) -> io::Result<bool> {
    wait_at_most(fds, limits::WAIT_EVERY)
}

fn wait_at_most(fds: &mut [PollFd<'_>], time: Duration) -> io::Result<bool> {
    match poll(fds, Timespec::try_from(time).ok().as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

fn reply_to(answer: Result<CommittedChange, Refusal>, serving: &ServingContext) -> Reply {
    match answer {
        Ok(CommittedChange {
            receipt: CommitReceipt { version, copies, digest, .. },
            is_current,
        }) => {
            let lsn = serving.visible_lsn().max(version);
            Reply::Committed { version, copies, lsn, digest, current: is_current }
        }
        Err(refusal) => Reply::Error(refusal),
    }
}
