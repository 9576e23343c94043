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
    Engine, LoggedCommand, PreparedChange, Principal, Protocol, SMALL_UPLOAD, Session, Upload,
};
use relais_net::{Connection, ReadTimeouts};
use relais_proto::{
    ErrorCode, FrameType, LogRateLimiter, Refusal, Reply, Request, WaitReason, WireError, limits,
};
use rustix::event::{PollFd, PollFlags};

use super::keep_alive::{ConnectionKeepAlive, check_connected};
use super::replies::queue_answers;
use super::requests::{Outcome, perform};
use super::send::{queue_entries, send_content, send_listing};
use super::upload_receiver::UploadReceiver;
use super::watch::send_events;
use crate::poll::wait_for;

/// Most bytes of answers that are held back while more requests are ready.
const MAX_HELD_BYTES: usize = 64 * 1024;
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
        writable: principal.rights.can_write(),
    });
    let (peer, stream) = (connection.peer(), connection.stream().clone());
    let disconnect = Arc::new(move || {
        // It may be closed already; then its session ends without this.
        let _ = stream.shutdown(Shutdown::Both);
    });
    let mut handler = SessionHandler {
        connection,
        session: Session::new(engine.clone(), principal, Protocol::Native, peer, disconnect),
        block_size,
        receiver: UploadReceiver::default(),
        outage: None,
        is_closing: false,
        is_cut: false,
    };
    let refusal = match handler.run() {
        Ok(()) if handler.is_closing => {
            info!("{peer}: the slave closes the session of {}", handler.session.principal().name());
            None
        }
        Ok(()) => return debug!("{peer}: the client closed the session"),
        Err(WireError::Io(e)) if e.kind() == io::ErrorKind::TimedOut => {
            static TIMED_OUT: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = TIMED_OUT.allow(Instant::now()) {
                info!("{peer}: the session timed out: {e}{more}");
            }
            // Within an answer the client would take the refusal for part of that answer.
            if handler.is_cut || !handler.connection.output().is_empty() {
                return;
            }
            Some(Refusal::new(ErrorCode::TimedOut, e.to_string()))
        }
        Err(WireError::Io(e)) => return debug!("{peer}: the session was cut: {e}"),
        // This slave has closed its side, so the request is not the client's fault.
        Err(WireError::Truncated) if engine.is_stopping() || engine.host().is_draining() => {
            Some(Refusal::new(ErrorCode::Draining, "this slave is stopping"))
        }
        Err(error) => {
            static BROKEN: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = BROKEN.allow(Instant::now()) {
                info!("{peer}: {error}{more}");
            }
            Some(Refusal::new(ErrorCode::BadRequest, error.to_string()))
        }
    };
    if let Some(refusal) = refusal {
        handler.connection.queue_reply(&Reply::Error(refusal));
    }
    handler.connection.close_gracefully(CLOSE_TIMEOUT);
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
                && !self.wait_for_answer(true)?
            {
                continue;
            }
            if !self.connection.has_input() && !self.session.has_pending() {
                self.receiver.free_buffers();
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
                    self.receiver.has_unread = header.kind == FrameType::Put;
                    self.refuse_request(refusal)?;
                    continue;
                }
                Err(e) => return Err(e),
            };
            match request {
                Request::Seen { lsn } => self.session.observe(lsn),
                Request::FailedOver => self.session.count_failover(),
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
        self.receiver.has_unread = is_upload;
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
                Err(refusal) => return self.refuse_request(refusal),
            },
            Ok(Outcome::Content(content, header)) => {
                send_content(&mut self.connection, *content, header)
                    .inspect_err(|_| self.is_cut = true)?
            }
            Ok(Outcome::Unexpected(kind)) => return Err(WireError::Unexpected(kind.number())),
            Ok(Outcome::Change(change)) => return self.submit(*change),
            Ok(Outcome::Upload(upload)) => return self.receive_and_submit(*upload),
            Err(refusal) => return self.refuse_request(refusal),
        };
        match last {
            Ok(reply) => self.connection.queue_reply(&reply),
            Err(refusal) => self.connection.queue_reply(&Reply::Error(refusal)),
        }
        Ok(())
    }

    /// Refuses a request, after the answers to earlier ones. The data of a refused upload is
    /// discarded.
    fn refuse_request(&mut self, refusal: Refusal) -> Result<(), WireError> {
        let code = refusal.code;
        self.refuse(refusal)?;
        match code {
            // The login has ended.
            ErrorCode::BadTicket => self.is_closing = true,
            _ if self.receiver.has_unread => {
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
            self.wait_for_answer(false)?;
            self.queue_answers();
        }
    }

    fn receive_and_submit(&mut self, upload: Upload) -> Result<(), WireError> {
        match self.receiver.receive(&mut self.connection, &mut self.session, upload)? {
            Ok(change) => self.submit(change),
            Err(refusal) => self.refuse_request(refusal),
        }
    }

    /// Queues the answers that have come.
    fn queue_answers(&mut self) {
        queue_answers(&mut self.connection, &mut self.session);
    }

    /// Waits until every change is answered.
    fn drain_pending(&mut self) -> Result<(), WireError> {
        self.queue_answers();
        while self.session.has_pending() {
            self.wait_for_answer(false)?;
            self.queue_answers();
        }
        Ok(())
    }

    /// Waits for an answer, and if `or_request` for a request; true if a request came.
    fn wait_for_answer(&mut self, or_request: bool) -> Result<bool, WireError> {
        // A client that has died answers this with a reset, which cancels its changes.
        self.connection.flush()?;
        let Some(channel) = self.session.prepare_wait() else { return Ok(false) };
        let stream = self.connection.stream().clone();
        // Otherwise only the client's disconnect is of interest: it cancels the pending changes.
        let events = if or_request { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = [PollFd::from_borrowed_fd(channel, PollFlags::IN), stream.poll_fd(events)];
        let is_ready = wait_for(&mut fds, Some(limits::WAIT_EVERY))?;
        let has_request = or_request && !fds[1].revents().is_empty();
        if !or_request && fds[0].revents().is_empty() {
            check_connected(&self.connection)?;
        }
        if !is_ready {
            self.connection.queue_reply(&Reply::Wait(WaitReason::Storing));
            self.connection.flush()?;
        }
        Ok(has_request)
    }
}
