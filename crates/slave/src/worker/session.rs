//! The front handler of a session: reads requests one after another, and turns outcomes into frames.
//!
//! Answers go out in the order of the requests. A change may be on its way to the disk while the next request is
//! read; whatever is no change waits until all changes before it are answered.

use std::io;
use std::time::{Duration, Instant};

use log::{debug, info};
use relais_net::{Connection, ReadLimits};
use relais_proto::{
    Change, ErrorCode, LogRateLimiter, Lsn, Refusal, Reply, Request, WaitReason, WireError, limits,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::pending_changes::{CommittedChange, PendingChanges};
use super::send::send;
use super::upload_receiver::{ReceivedUpload, UploadReceiver};
use crate::changes::{CommitReceipt, Proposal};
use crate::hash_semaphore::{HashPermit, HashSemaphore};
use crate::owner::Owner;
use crate::requests::{
    self, KeepAlive, RequestContext, RequestOutcome, SMALL, Upload, account_tag,
};
use crate::serving::{ServingContext, Session};
use crate::transfers::{TransferRecord, TransferRecorder};

/// Answers kept back while more requests lie ready, in bytes.
const MAX_HELD_BYTES: usize = 64 * 1024;
/// Answers are kept back for at most this long while an upload comes in.
const MAX_HELD_TIME: Duration = Duration::from_millis(100);
/// How long a session waits for what its client has seen.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two looks whether it has come.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// A slave that has not reached its master for so long says so.
const REPORT_DISCONNECTED_AFTER: Duration = Duration::from_secs(2);
/// Types of frames from this one on are those of cluster links, or of servers.
const FIRST_OF_LINKS: u8 = 0x40;
/// How long a peer that was refused may take to read why.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves one session until either side ends it.
pub fn serve(mut connection: Connection, session: &Session, serving: &ServingContext) {
    connection.set_limits(ReadLimits::SESSION);
    let mark = serving.mark();
    connection.queue_reply(&Reply::Opened {
        slave: serving.slave_id,
        mark,
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
        seen: session.mark,
        alone: None,
        over: false,
        cut: false,
        recorder,
    };
    match handler.answer_all() {
        Ok(()) if handler.over => {
            info!("{peer}: the session of {} is ended by the slave", handler.session.name());
            handler.connection.close_gently(CLOSE_TIMEOUT);
        }
        Ok(()) => debug!("{peer}: the client closed the session"),
        Err(WireError::Io(e)) if e.kind() == io::ErrorKind::TimedOut => {
            let may_tell = !handler.cut && handler.connection.output().is_empty();
            static TIMED_OUT: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = TIMED_OUT.turn(Instant::now()) {
                info!("{peer}: the session timed out: {e}{more}");
            }
            // Within an answer the client would take it for a part of that.
            if may_tell {
                let refusal = Refusal::new(ErrorCode::TimedOut, e.to_string());
                handler.connection.queue_reply(&Reply::Error(refusal));
                handler.connection.close_gently(CLOSE_TIMEOUT);
            }
        }
        Err(WireError::Io(e)) => debug!("{peer}: the session was cut: {e}"),
        Err(error) => {
            static BROKEN: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = BROKEN.turn(Instant::now()) {
                info!("{peer}: {error}{more}");
            }
            handler
                .connection
                .queue_reply(&Reply::Error(Refusal::new(ErrorCode::BadRequest, error.to_string())));
            handler.connection.close_gently(CLOSE_TIMEOUT);
        }
    }
}

struct SessionHandler<'a> {
    connection: Connection,
    session: &'a Session,
    serving: &'a ServingContext,
    pending: PendingChanges<'a>,
    receiver: UploadReceiver,
    /// The highest change that the client has seen: every answer has it in it.
    seen: Lsn,
    /// For how long the master was not reached when the client was last told.
    alone: Option<Duration>,
    /// Whether the client was told that it gets no more answers here.
    over: bool,
    /// Whether an answer broke off within a frame, or may have.
    cut: bool,
    /// What is noted in the transfer log.
    recorder: TransferRecorder<'a>,
}

/// Sends `Wait` for each second that an answer takes, and waits for the session's turns to hash something.
pub struct SessionKeepAlive<'a> {
    connection: &'a mut Connection,
    since: Instant,
    hashing: Option<(&'a HashSemaphore, &'a Owner)>,
    /// The right to hash the next piece.
    turn: Option<HashPermit>,
}

impl<'a> SessionKeepAlive<'a> {
    /// The answer begins to take its time now.
    pub fn new(connection: &'a mut Connection) -> Self {
        Self { connection, since: Instant::now(), hashing: None, turn: None }
    }

    /// The same, where something may have to be hashed for the answer: each [`KeepAlive::send_keepalive`] for that waits for a turn.
    pub fn hashing(
        connection: &'a mut Connection,
        serving: &'a ServingContext,
        session: &'a Session,
    ) -> Self {
        let hashing = Some((&serving.hash_semaphore, &session.owner));
        Self { connection, since: Instant::now(), hashing, turn: None }
    }
}

impl KeepAlive for SessionKeepAlive<'_> {
    fn send_keepalive(&mut self, reason: WaitReason) -> io::Result<()> {
        // Others have their turn meanwhile, also while the client does not read.
        self.turn = None;
        let Self { connection, since, hashing, turn } = self;
        let mut tell = || {
            has_gone(connection)?;
            if since.elapsed() >= limits::WAIT_EVERY {
                connection.queue_reply(&Reply::Wait(reason));
                connection.flush()?;
                *since = Instant::now();
            }
            Ok(())
        };
        tell()?;
        if let (WaitReason::Hashing, Some((turns, owner))) = (reason, hashing) {
            *turn = Some(turns.take(owner, &mut tell)?);
        }
        Ok(())
    }
}

/// Fails where the client can neither send nor receive any more: nobody waits for the answer then.
fn has_gone(connection: &Connection) -> io::Result<()> {
    let mut fds = [PollFd::new(&**connection.stream(), PollFlags::empty())];
    wait_at_most(&mut fds, Duration::ZERO)?;
    if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
        return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the client has gone"));
    }
    Ok(())
}

/// Whether the answer to a request may come while further ones are read: a change that needs no look at the folder first.
fn is_pipelined(request: &Request) -> bool {
    match request {
        Request::MakeFolder { .. } | Request::Remove { .. } | Request::Move { .. } => true,
        Request::Put(put) => put.size.is_some_and(|size| size <= SMALL),
        _ => false,
    }
}

impl SessionHandler<'_> {
    fn answer_all(&mut self) -> Result<(), WireError> {
        loop {
            self.take_answers();
            if !self.connection.has_input() || self.connection.output().len() > MAX_HELD_BYTES {
                self.connection.flush()?;
            }
            if !self.connection.has_input()
                && !self.pending.is_empty()
                && !self.wait_for_either()?
            {
                continue;
            }
            if !self.connection.has_input() && self.pending.is_empty() {
                self.receiver.free_buffer();
            }
            let header = match self.connection.read_header() {
                Ok(Some(header)) => header,
                Ok(None) => return self.finish_pending(),
                // A request of a later version, of which the length alone is known.
                Err(WireError::UnknownType(kind)) if kind < FIRST_OF_LINKS => {
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
                // The frame was whole: what follows it can be answered.
                Err(WireError::Name(e)) => {
                    let refusal = Refusal::new(ErrorCode::BadName, e.to_string());
                    self.recorder.unreadable(header.kind, refusal.code);
                    self.refuse_frame(header.kind, refusal)?;
                    continue;
                }
                Err(e) => return Err(e),
            };
            if let Request::Seen { mark } = request {
                self.seen = self.seen.max(mark);
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
            if self.over {
                return Ok(());
            }
        }
    }

    /// Tells the client, once, that the master is not reached.
    fn report_disconnected(&mut self) {
        let alone = self
            .serving
            .scoreboard
            .disconnected_for()
            .filter(|alone| *alone >= REPORT_DISCONNECTED_AFTER);
        if let Some(alone) = alone
            && self.alone.is_none_or(|told| alone < told)
        {
            self.connection.queue_reply(&Reply::Alone {
                ms: u64::try_from(alone.as_millis()).unwrap_or(u64::MAX),
            });
        }
        self.alone = alone;
    }

    /// Waits until this slave has what the client has seen. Why the request is refused where it has not, or gets no requests any more.
    fn check_admission(&mut self) -> Option<Refusal> {
        let scoreboard = &self.serving.scoreboard;
        if let Err(refusal) = self.session.check(scoreboard) {
            return Some(refusal);
        }
        if scoreboard.is_draining() && !self.session.peer {
            return Some(Refusal::new(ErrorCode::Draining, "this slave is being drained"));
        }
        // Before the first change there is nothing to be seen.
        if !self.serving.follows
            || self.seen <= scoreboard.applied_lsn()
            || self.seen == (Lsn { epoch: 1, number: 0 })
        {
            return None;
        }
        let began = Instant::now();
        let mut keepalive = SessionKeepAlive::new(&mut self.connection);
        while self.seen > scoreboard.applied_lsn() {
            if began.elapsed() >= CATCH_UP_TIMEOUT || self.serving.is_stopping() {
                let message = format!(
                    "this slave has change {}, and change {} was seen elsewhere",
                    scoreboard.applied_lsn(),
                    self.seen
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

    /// Refuses a request that could not be read. The data of an upload still follows it.
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
        // Each has its place, which is not here.
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
        let handled = {
            let mut keepalive =
                SessionKeepAlive::hashing(&mut self.connection, self.serving, self.session);
            let (serving, session) = (self.serving, self.session);
            requests::handle(
                &mut RequestContext { serving, session, keepalive: &mut keepalive },
                request,
            )
        };
        match handled {
            Ok(RequestOutcome::Change(proposal)) => self.submit(&proposal, record),
            Ok(RequestOutcome::Upload(upload)) => {
                match self
                    .receive_upload(*upload)
                    .inspect_err(|_| self.recorder.end(record.as_ref(), Err(ErrorCode::Cut)))?
                {
                    ReceivedUpload::Whole(proposal) => {
                        match self.session.check(&self.serving.scoreboard) {
                            Ok(()) => {
                                if let (Some(record), Change::Put { size, .. }) =
                                    (&mut record, &proposal.change)
                                {
                                    record.set_bytes(*size);
                                }
                                self.submit(&proposal, record)
                            }
                            // It took its time, and the user is not who may do this any more.
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
                let mut moved = 0;
                let sent =
                    send(&mut self.connection, self.serving, self.session, outcome, &mut moved);
                record.iter_mut().for_each(|record| record.set_bytes(moved));
                self.cut = sent.is_err();
                let result = sent.as_ref().map_or(Err(ErrorCode::Cut), |sent| *sent);
                self.recorder.end(record.as_ref(), result);
                sent.map(drop)
            }
            Err(refusal) => {
                self.recorder.end(record.as_ref(), Err(refusal.code));
                match refusal.code {
                    _ if is_upload => self.refuse_upload(refusal),
                    // The client goes on at another slave.
                    ErrorCode::TimedOut => self.refuse_and_close(refusal),
                    _ => self.refuse(refusal),
                }
            }
        }
    }

    /// Refuses a request and all that may follow.
    fn refuse_and_close(&mut self, refusal: Refusal) -> Result<(), WireError> {
        self.over = true;
        self.refuse(refusal)?;
        Ok(self.connection.flush()?)
    }

    /// Refuses a request, behind the answers that come before.
    fn refuse(&mut self, refusal: Refusal) -> Result<(), WireError> {
        self.drain_pending()?;
        self.connection.queue_reply(&Reply::Error(self.session.as_user_sees(refusal)));
        Ok(())
    }

    /// Refuses an upload at once, and drops what is still coming of it.
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
                    self.recorder.submitted(record);
                    return Ok(());
                }
                Ok(false) => self.wait_for_answer()?,
                Err(refusal) => {
                    self.recorder.end(record.as_ref(), Err(refusal.code));
                    return self.refuse(refusal);
                }
            }
            self.take_answers();
        }
    }

    /// Takes an upload in. Its client may have sent everything long ago and be waiting, while a slow line still brings it: so what is
    /// answered goes out in between, and a sign of life in each second in which some of it came: a client whose bytes do not
    /// arrive any more is not kept waiting.
    fn receive_upload(&mut self, upload: Upload) -> Result<ReceivedUpload, WireError> {
        let (pending, recorder, serving) = (&mut self.pending, &mut self.recorder, self.serving);
        let session = self.session;
        let mut told = Instant::now();
        self.receiver.receive(&mut self.connection, (serving, session), upload, &mut |connection| {
            let since = Instant::now();
            // It is called each time that something has come.
            let mut moved = true;
            loop {
                take_answers(connection, pending, recorder, serving);
                let stream = connection.stream().clone();
                let mut fds = vec![PollFd::new(&*stream, PollFlags::IN)];
                fds.extend(
                    pending.fd().map(|channel| PollFd::from_borrowed_fd(channel, PollFlags::IN)),
                );
                let more_lies_ready = wait_at_most(&mut fds[..1], Duration::ZERO)?;
                let silent = told.elapsed() >= limits::WAIT_EVERY;
                if silent && (std::mem::take(&mut moved) || !pending.is_empty()) {
                    connection.queue_reply(&Reply::Wait(WaitReason::Storing));
                }
                if silent
                    || !connection.output().is_empty()
                        && (!more_lies_ready || told.elapsed() >= MAX_HELD_TIME)
                {
                    connection.flush()?;
                    told = Instant::now();
                }
                if more_lies_ready {
                    return Ok(());
                }
                if since.elapsed() >= limits::FRAME_TIME {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "nothing more came of an upload",
                    )
                    .into());
                }
                wait_at_most(&mut fds, limits::WAIT_EVERY)?;
            }
        })
    }

    /// Queues the answers that have come.
    fn take_answers(&mut self) {
        take_answers(&mut self.connection, &mut self.pending, &mut self.recorder, self.serving);
    }

    /// Waits until every change is answered.
    fn drain_pending(&mut self) -> Result<(), WireError> {
        self.take_answers();
        while !self.pending.is_empty() {
            self.connection.flush()?;
            self.wait_for_answer()?;
            self.take_answers();
        }
        Ok(())
    }

    /// The client sends nothing more: what it has asked for is still made, and answered if it reads on.
    fn finish_pending(&mut self) -> Result<(), WireError> {
        self.drain_pending()?;
        Ok(self.connection.flush()?)
    }

    fn wait_for_answer(&mut self) -> Result<(), WireError> {
        let Some(channel) = self.pending.fd() else { return Ok(()) };
        let stream = self.connection.stream().clone();
        // Of the client only its end counts here: what it has asked for is cancelled then.
        let mut fds = [
            PollFd::from_borrowed_fd(channel, PollFlags::IN),
            PollFd::new(&*stream, PollFlags::empty()),
        ];
        let waited = wait(&mut fds)?;
        if fds[0].revents().is_empty() {
            has_gone(&self.connection)?;
        }
        self.send_wait_after_timeout(waited)
    }

    /// Waits for an answer or a request; whether it is a request that came first.
    fn wait_for_either(&mut self) -> Result<bool, WireError> {
        let Some(channel) = self.pending.fd() else { return Ok(false) };
        let stream = self.connection.stream().clone();
        let mut fds = [
            PollFd::new(&*stream, PollFlags::IN),
            PollFd::from_borrowed_fd(channel, PollFlags::IN),
        ];
        let waited = wait(&mut fds)?;
        let request = !fds[0].revents().is_empty();
        self.send_wait_after_timeout(waited)?;
        Ok(request)
    }

    /// A second has gone by without an answer.
    fn send_wait_after_timeout(&mut self, came: bool) -> Result<(), WireError> {
        if !came {
            self.connection.queue_reply(&Reply::Wait(WaitReason::Storing));
            self.connection.flush()?;
        }
        Ok(())
    }
}

fn take_answers(
    connection: &mut Connection,
    pending: &mut PendingChanges<'_>,
    recorder: &mut TransferRecorder<'_>,
    serving: &ServingContext,
) {
    loop {
        let Some(answer) = pending.answer(&mut SessionKeepAlive::new(connection)) else { return };
        recorder.answered(answer.as_ref().map(|_| ()).map_err(|refusal| refusal.code));
        let answer = answer.map_err(|refusal| recorder.session().as_user_sees(refusal));
        connection.queue_reply(&reply_to(answer, serving));
    }
}

/// Waits for any of these, at most until `Wait` has to be sent; whether one can be read.
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
        Ok(CommittedChange { done: CommitReceipt { version, copies, digest, .. }, current }) => {
            let mark = serving.mark().max(version);
            Reply::Committed { version, copies, mark, digest, current }
        }
        Err(refusal) => Reply::Error(refusal),
    }
}
