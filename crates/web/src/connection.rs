//! A connection on which one request follows another.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use relais_http::{RequestError, RequestHead, Status};
use relais_net::Stream;
use rustix::event::PollFlags;
use rustix::net::SendFlags;

use crate::answer::AnswerRules;
use crate::body_state::BodyState;
use crate::error::WebError;
use crate::input::{Input, READ_WAIT, is_transient, wait_for_input};
use crate::limits;

/// Bytes that one read of a head takes at most; most heads are shorter.
const HEAD_READ: usize = 4 * 1024;
/// Longest wait of one send before the throughput is checked.
const SEND_WAIT: Duration = Duration::from_secs(5);

/// A connection of an HTTP client (RFC 9112, section 9).
///
/// For each request the caller calls [`Self::read_head`], or [`Self::begin`] with a head that was
/// read before; then it reads the [`Body`](crate::Body) or not, and responds once.
#[derive(Debug)]
pub struct HttpConnection {
    pub(crate) stream: Arc<Stream>,
    pub(crate) input: Input,
    /// The body of the current request, as far as it is not read.
    pub(crate) body: BodyState,
    /// How the current request is answered.
    pub(crate) rules: AnswerRules,
    /// Whether another request may follow.
    pub(crate) is_kept: bool,
}

/// What a wait for a request has brought.
#[derive(Debug)]
pub enum NextRequest {
    /// The head of a request.
    Head(Box<RequestHead>),
    /// Nothing, and the time is over.
    Idle,
    /// The client has closed the connection, or it is not to be kept.
    Closed,
}

impl HttpConnection {
    /// Takes a connection over; `input` was read ahead.
    ///
    /// # Errors
    /// Errors of the socket calls.
    pub fn new(stream: Arc<Stream>, input: Vec<u8>) -> io::Result<Self> {
        stream.set_read_timeout(Some(READ_WAIT))?;
        stream.set_write_timeout(Some(SEND_WAIT))?;
        Ok(Self {
            stream,
            input: Input::new(input),
            body: BodyState::default(),
            rules: AnswerRules::closing(),
            is_kept: true,
        })
    }

    /// Returns the stream, for its addresses.
    #[must_use]
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Whether another request can follow, after an answer was sent.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Waits for the next request until a time, and reads its head.
    ///
    /// The rest of the body before it is dropped. From its first byte on a head has the login time.
    ///
    /// # Errors
    /// [`WebError::Request`] if it is no request, or is not complete in time; errors of the socket.
    pub fn read_head(&mut self, idle_until: Instant) -> Result<NextRequest, WebError> {
        if !self.is_kept || !self.drop_body()? {
            self.is_kept = false;
            return Ok(NextRequest::Closed);
        }
        self.rules = AnswerRules::closing();
        let mut until: Option<Instant> = None;
        loop {
            if !self.input.is_empty() {
                match RequestHead::parse(self.input.rest()) {
                    Ok(None) => {}
                    Ok(Some((head, len))) => {
                        self.input.consume(len);
                        self.begin(&head)?;
                        return Ok(NextRequest::Head(Box::new(head)));
                    }
                    Err(error) => return Err(self.reject(error)),
                }
                let head_time = relais_proto::limits::LOGIN_TIME;
                if *until.get_or_insert_with(|| Instant::now() + head_time) <= Instant::now() {
                    const LATE: &str = "the head of the request did not come in time";
                    return Err(self.reject(RequestError::new(Status::REQUEST_TIMEOUT, LATE)));
                }
            }
            // A busy client sends the next request within the time of a read.
            let most = limits::INPUT.min(self.input.rest().len() + HEAD_READ);
            match self.input.fill(&self.stream, most) {
                Ok(0) => {
                    self.is_kept = false;
                    return Ok(NextRequest::Closed);
                }
                Ok(_) => continue,
                Err(e) if is_transient(&e) => {}
                Err(e) => return Err(e.into()),
            }
            if !wait_for_input(&self.stream, until.unwrap_or(idle_until))? && until.is_none() {
                return Ok(NextRequest::Idle);
            }
        }
    }

    /// Begins a request whose head was read before, for example in the pool.
    ///
    /// # Errors
    /// [`WebError::Request`] if the end of its body is not clear, or it has an unknown expectation.
    pub fn begin(&mut self, head: &RequestHead) -> Result<(), WebError> {
        self.is_kept = true;
        self.rules = AnswerRules::of(head);
        let body = head.body().and_then(|length| Ok((length, head.expects_continue()?)));
        let (length, expects_continue) = body.map_err(|error| self.reject(error))?;
        self.body = BodyState::new(length, expects_continue);
        Ok(())
    }

    /// Returns stream and input that was read ahead, for the next owner of the connection.
    #[must_use]
    pub fn into_parts(self) -> (Arc<Stream>, Vec<u8>) {
        (self.stream, self.input.into_rest())
    }

    /// Closes the connection so that the client gets the whole last answer.
    ///
    /// Unread input would make the kernel reset the connection before the answer arrives (RFC 9112,
    /// section 9.6).
    pub fn close(self) {
        if self.stream.end_sending(SendFlags::empty()).is_err() {
            // The client was faster.
            return;
        }
        let until = Instant::now() + limits::CLOSE_TIME;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.stream.poll(PollFlags::IN, Some(left)) {
                Ok(came) if !came.is_empty() => {}
                _ => return,
            }
            match self.stream.discard_input() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }

    /// Resets the connection when it is dropped, so that what was sent does not look complete.
    pub(crate) fn abort(&mut self) {
        self.is_kept = false;
        // A linger time of zero means a reset. Without it the client sees the end of the stream.
        let _ = self.stream.wait_when_dropped(Duration::ZERO);
    }

    /// Notes that the connection is closed after the answer to a bad request.
    fn reject(&mut self, error: RequestError) -> WebError {
        self.rules.keep = false;
        self.body = BodyState::default();
        error.into()
    }
}
