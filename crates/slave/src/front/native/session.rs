//! The front end of a session: reads requests in turn, and turns outcomes into frames.
//!
//! Answers are sent in the order of the requests. A change may be on its way to the disk while the
//! next request is read. Every other request waits until all changes before it are answered. The
//! session's thread alone reads and writes the connection.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, info, trace};
use relais_engine::{
    Engine, LoggedCommand, PreparedChange, Principal, SMALL_UPLOAD, Session, Upload,
};
use relais_net::{Connection, ReadTimeouts};
use relais_proto::{
    ErrorCode, FrameType, LogRateLimiter, Refusal, Reply, Request, WaitReason, WireError, limits,
};
use rustix::event::{PollFd, PollFlags};

use super::keep_alive::{ConnectionKeepAlive, check_connected, wait_at_most};
use super::replies::committed;
use super::requests::{Outcome, perform};
use super::send::{queue_entries, send_content, send_listing};
use super::upload_receiver::{ReceivedUpload, UploadReceiver};
use super::watch::send_events;

/// Most bytes of answers that are held back while more requests are ready.
const MAX_HELD_BYTES: usize = 64 * 1024;
/// Longest time for which answers are held back while an upload comes in.
const MAX_HELD_TIME: Duration = Duration::from_millis(100);
/// Outage of the link to the master after which clients are notified.
const REPORT_DISCONNECTED_AFTER: Duration = Duration::from_secs(2);
/// First frame type of cluster links; servers' frames follow.
const FIRST_LINK_FRAME: u8 = 0x40;
/// How long a refused peer may take to read the refusal.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves one session until either side ends it; content is sent in blocks of `block_size`.
pub fn serve(
    mut connection: Connection,
    principal: Principal,
    engine: &Arc<Engine>,
    block_size: u32,
) {
    connection.set_timeouts(ReadTimeouts::SESSION);
    connection.queue_reply(&Reply::Opened {
        slave: engine.slave_id(),
        lsn: engine.visible_lsn(),
        writable: principal.writable,
    });
    let (peer, stream) = (connection.peer(), connection.stream().clone());
    let disconnect = Arc::new(move || {
        // It may be closed already; then its session ends without this.
        let _ = stream.shutdown(Shutdown::Both);
    });
    let mut handler = SessionHandler {
        connection,
        session: Session::new(engine.clone(), principal, peer, disconnect),
        block_size,
        receiver: UploadReceiver::default(),
        outage: None,
        is_closing: false,
        is_cut: false,
    };
    match handler.run() {
        Ok(()) if handler.is_closing => {
            info!("{peer}: the slave closes the session of {}", handler.session.principal().name());
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
struct SessionHandler {
    connection: Connection,
    session: Session,
    block_size: u32,
    receiver: UploadReceiver,
    /// The outage of the link to the master when the client was last notified; none: no outage.
    outage: Option<Duration>,
    /// Whether the client was told that it gets no further answers.
    is_closing: bool,
    /// Whether an answer may have ended within a frame.
    is_cut: bool,
}

/// Whether further requests are read before the answer to this one is known.
///
/// Such a request is a change that needs no check of its target first.
fn is_pipelined(request: &Request) -> bool {
    match request {
        Request::MakeFolder { .. }
        | Request::Remove { .. }
        | Request::Move { .. }
        | Request::SetAttributes { .. } => true,
        Request::Put(put) => put.size.is_some_and(|size| size <= SMALL_UPLOAD),
        _ => false,
    }
}

/// Returns the command of a request that is recorded in the transfer log.
fn command_of(kind: FrameType) -> Option<LoggedCommand> {
    match kind {
        FrameType::Get => Some(LoggedCommand::Get),
        FrameType::Put => Some(LoggedCommand::Put),
        FrameType::MakeFolder => Some(LoggedCommand::MakeFolder),
        FrameType::Remove => Some(LoggedCommand::Remove),
        FrameType::Move => Some(LoggedCommand::Move),
        FrameType::SetAttributes => Some(LoggedCommand::SetAttributes),
        FrameType::Copy => Some(LoggedCommand::Copy),
        _ => None,
    }
}

impl SessionHandler {
    fn run(&mut self) -> Result<(), WireError> {
        loop {
            self.queue_answers();
            if !self.connection.has_input() || self.connection.output().len() > MAX_HELD_BYTES {
                self.connection.flush()?;
            }
            if !self.connection.has_input()
                && self.session.has_pending()
                && !self.wait_for_answer_or_request()?
            {
                continue;
            }
            if !self.connection.has_input() && !self.session.has_pending() {
                self.receiver.free_buffer();
            }
            let header = match self.connection.read_header() {
                Ok(Some(header)) => header,
                // The client has sent its last request; pending changes are still answered.
                Ok(None) => {
                    self.drain_pending()?;
                    return Ok(self.connection.flush()?);
                }
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
                    if let Some(command) = command_of(header.kind) {
                        self.session.record_refused(command, refusal.code);
                    }
                    self.refuse_request(header.kind == FrameType::Put, refusal)?;
                    continue;
                }
                Err(e) => return Err(e),
            };
            match request {
                Request::Seen { lsn } => self.session.observe(lsn),
                // These requests belong to the login or to an upload.
                Request::Hello(_)
                | Request::Login(_)
                | Request::Ticket { .. }
                | Request::PutEnd { .. } => {
                    return Err(WireError::Unexpected(request.frame_type().number()));
                }
                request => self.answer(request)?,
            }
            if self.is_closing {
                return Ok(());
            }
        }
    }

    /// Notifies the client, once for each outage, that there is no link to the master.
    fn report_disconnected(&mut self) {
        let outage = self.session.engine().host().disconnected_for();
        let outage = outage.filter(|outage| *outage >= REPORT_DISCONNECTED_AFTER);
        if let Some(outage) = outage
            && self.outage.is_none_or(|reported| outage < reported)
        {
            self.connection.queue_reply(&Reply::MasterUnreachable {
                ms: u64::try_from(outage.as_millis()).unwrap_or(u64::MAX),
            });
        }
        self.outage = outage;
    }

    fn answer(&mut self, request: Request) -> Result<(), WireError> {
        let is_upload = matches!(request, Request::Put(_));
        if !is_pipelined(&request)
            || is_upload && self.session.has_pending() && self.session.is_crowded()
        {
            self.drain_pending()?;
        }
        self.report_disconnected();
        trace!("{}: {:?}", self.session.principal().name(), request.frame_type());
        let keepalive = &mut ConnectionKeepAlive::new(&mut self.connection);
        let last = match perform(&self.session, request, self.block_size, keepalive) {
            Ok(Outcome::Reply(reply)) => Ok(reply),
            Ok(Outcome::Listing(mut listing)) => send_listing(&mut self.connection, &mut listing)?,
            Ok(Outcome::Entries(list)) => Ok(queue_entries(&mut self.connection, list)),
            Ok(Outcome::Watch(mut watch)) => match send_events(&mut self.connection, &mut watch)? {
                Ok(reply) => Ok(reply),
                Err(refusal) => return self.refuse_request(false, refusal),
            },
            Ok(Outcome::Content(content, header)) => {
                send_content(&mut self.connection, *content, header)
                    .inspect_err(|_| self.is_cut = true)?
            }
            Ok(Outcome::Change(change)) => return self.submit(*change),
            Ok(Outcome::Upload(upload)) => return self.receive_and_submit(*upload),
            Err(refusal) => return self.refuse_request(is_upload, refusal),
        };
        match last {
            Ok(reply) => self.connection.queue_reply(&reply),
            Err(refusal) => self.connection.queue_reply(&Reply::Error(refusal)),
        }
        Ok(())
    }

    /// Refuses a request, after the answers to earlier ones. The data of a refused upload is
    /// discarded.
    fn refuse_request(&mut self, is_upload: bool, refusal: Refusal) -> Result<(), WireError> {
        let code = refusal.code;
        self.refuse(refusal)?;
        match code {
            // The login has ended.
            ErrorCode::BadTicket => self.is_closing = true,
            _ if is_upload => {
                self.connection.flush()?;
                return self.receiver.discard_rest(&mut self.connection);
            }
            // The client continues at another slave.
            ErrorCode::TimedOut => self.is_closing = true,
            _ => return Ok(()),
        }
        Ok(self.connection.flush()?)
    }

    fn refuse(&mut self, refusal: Refusal) -> Result<(), WireError> {
        self.drain_pending()?;
        self.connection.queue_reply(&Reply::Error(refusal));
        Ok(())
    }

    fn submit(&mut self, mut change: PreparedChange) -> Result<(), WireError> {
        loop {
            let keepalive = &mut ConnectionKeepAlive::new(&mut self.connection);
            match self.session.submit(change, keepalive) {
                Ok(None) => return Ok(()),
                Ok(Some(later)) => change = later,
                Err(refusal) => return self.refuse(refusal),
            }
            self.wait_for_answer()?;
            self.queue_answers();
        }
    }

    fn receive_and_submit(&mut self, upload: Upload) -> Result<(), WireError> {
        match self.receive_upload(upload)? {
            ReceivedUpload::Complete(change) => self.submit(*change),
            ReceivedUpload::Refused { refusal, ended } => self.refuse_request(!ended, refusal),
        }
    }

    /// Receives an upload, and sends answers and keep-alives meanwhile.
    ///
    /// The client may have sent everything long ago and wait, while a slow network still delivers
    /// it. So answers are sent in between, and a `Wait` frame in each second in which data came. A
    /// client whose data no longer arrives gets none.
    fn receive_upload(&mut self, upload: Upload) -> Result<ReceivedUpload, WireError> {
        let session = &mut self.session;
        let mut sent_at = Instant::now();
        self.receiver.receive(&mut self.connection, upload, &mut |connection| {
            let since = Instant::now();
            // The callback runs each time that data has come.
            let mut has_data = true;
            loop {
                queue_answers(connection, session);
                let stream = connection.stream().clone();
                let mut fds = vec![stream.poll_fd(PollFlags::IN)];
                fds.extend(
                    session.answer_fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
                );
                let has_more = connection.wait_for_input(Duration::ZERO)?;
                let is_wait_due = sent_at.elapsed() >= limits::WAIT_EVERY;
                if is_wait_due && (std::mem::take(&mut has_data) || session.has_pending()) {
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
        queue_answers(&mut self.connection, &mut self.session);
    }

    /// Waits until every change is answered.
    fn drain_pending(&mut self) -> Result<(), WireError> {
        self.queue_answers();
        while self.session.has_pending() {
            self.wait_for_answer()?;
            self.queue_answers();
        }
        Ok(())
    }

    fn wait_for_answer(&mut self) -> Result<(), WireError> {
        // A client that has died answers this with a reset, which cancels its changes.
        self.connection.flush()?;
        let Some(channel) = self.session.answer_fd() else { return Ok(()) };
        let stream = self.connection.stream().clone();
        // Only the client's disconnect is of interest here: it cancels the pending changes.
        let mut fds =
            [PollFd::from_borrowed_fd(channel, PollFlags::IN), stream.poll_fd(PollFlags::empty())];
        let is_ready = wait_at_most(&mut fds, limits::WAIT_EVERY)?;
        if fds[0].revents().is_empty() {
            check_connected(&self.connection)?;
        }
        self.send_wait_after_timeout(is_ready)
    }

    /// Waits for an answer or a request; true if a request came.
    fn wait_for_answer_or_request(&mut self) -> Result<bool, WireError> {
        let Some(channel) = self.session.answer_fd() else { return Ok(false) };
        let stream = self.connection.stream().clone();
        let mut fds =
            [stream.poll_fd(PollFlags::IN), PollFd::from_borrowed_fd(channel, PollFlags::IN)];
        let is_ready = wait_at_most(&mut fds, limits::WAIT_EVERY)?;
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

fn queue_answers(connection: &mut Connection, session: &mut Session) {
    while let Some(answer) = session.answer(&mut ConnectionKeepAlive::new(connection)) {
        connection.queue_reply(&answer.map_or_else(Reply::Error, committed));
    }
}
