//! The front door of a session: reads requests one after another, and turns outcomes into frames.

use std::io;
use std::time::{Duration, Instant};

use log::{debug, info};
use relais_net::{Connection, ReadLimits};
use relais_proto::{Digest, ErrorCode, Refusal, Reply, Request, WaitReason, WireError, limits};
use relais_transfer::{Sent, Span, send_blocks};

use crate::requests::{self, Content, Context, Outcome, Patience};
use crate::serving::{Serving, Session};

/// Answers kept back while more requests lie ready, in bytes.
const HELD_BACK: usize = 64 * 1024;
/// How long a peer that was refused may take to read why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves one session until either side ends it.
pub fn serve(mut connection: Connection, session: &Session, serving: &Serving) {
    connection.set_limits(ReadLimits::SESSION);
    let mark = serving.board.mark();
    connection.queue_reply(&Reply::Opened { slave: serving.slave_id, mark, writable: session.writable });
    let peer = connection.peer();
    match answer_all(&mut connection, session, serving) {
        Ok(()) => debug!("{peer}: the client closed the session"),
        Err(WireError::Io(e)) if e.kind() == io::ErrorKind::TimedOut => info!("{peer}: the session timed out: {e}"),
        Err(WireError::Io(e)) => debug!("{peer}: the session was cut: {e}"),
        Err(error) => {
            info!("{peer}: {error}");
            connection.queue_reply(&Reply::Error(Refusal::new(ErrorCode::BadRequest, error.to_string())));
            connection.close_gently(LAST_WORDS);
        }
    }
}

fn answer_all(connection: &mut Connection, session: &Session, serving: &Serving) -> Result<(), WireError> {
    loop {
        if !connection.has_input() || connection.output().len() > HELD_BACK {
            connection.flush()?;
        }
        let Some(header) = connection.read_header()? else { return Ok(()) };
        let request = match Request::decode(header.kind, connection.read_payload(header)?) {
            Ok(request) => request,
            // The frame was whole: what follows it can be answered.
            Err(WireError::Name(e)) => {
                connection.queue_reply(&Reply::Error(Refusal::new(ErrorCode::BadName, e.to_string())));
                continue;
            }
            Err(e) => return Err(e),
        };
        let mut ticker = Ticker { connection, since: Instant::now() };
        let handled = requests::handle(&mut Context { serving, session, patience: &mut ticker }, request);
        match handled {
            Ok(outcome) => send(connection, serving, outcome)?,
            Err(refusal) => connection.queue_reply(&Reply::Error(refusal)),
        }
    }
}

/// Sends `Wait` for each second that an answer takes.
struct Ticker<'a> {
    connection: &'a mut Connection,
    since: Instant,
}

impl Patience for Ticker<'_> {
    fn still(&mut self, reason: WaitReason) -> io::Result<()> {
        if self.since.elapsed() >= limits::WAIT_EVERY {
            self.connection.queue_reply(&Reply::Wait(reason));
            self.connection.flush()?;
            self.since = Instant::now();
        }
        Ok(())
    }
}

fn send(connection: &mut Connection, serving: &Serving, outcome: Outcome) -> Result<(), WireError> {
    match outcome {
        Outcome::Reply(reply) => connection.queue_reply(&reply),
        Outcome::Listing(mut pages) => loop {
            match pages.next(serving) {
                Ok(Some(page)) => connection.queue_reply(&Reply::Entries(page)),
                Ok(None) => break connection.queue_reply(&Reply::Done { mark: serving.board.mark() }),
                Err(refusal) => break connection.queue_reply(&Reply::Error(refusal)),
            }
            connection.flush()?;
        },
        Outcome::Content(content) => {
            let last = match send_content(connection, serving, &content)? {
                Ok(digest) => Reply::End { digest },
                Err(refusal) => Reply::Error(refusal),
            };
            connection.queue_reply(&last);
        }
    }
    Ok(())
}

/// Sends header and blocks; what comes last is the caller's to send.
fn send_content(connection: &mut Connection, serving: &Serving, content: &Content) -> io::Result<Result<Digest, Refusal>> {
    let Content { file, path, header } = content;
    connection.queue_reply(&Reply::Header(header.clone()));
    let span = Span { offset: header.offset, length: header.length, block_size: header.block_size };
    // A digest that is not known yet is computed on the way where all of the content goes by.
    let mut hasher = (header.digest.is_none() && header.length == header.size).then(blake3::Hasher::new);
    let sent = match hasher.as_mut() {
        Some(hasher) => send_blocks(
            connection,
            &file.file,
            span,
            Some(&mut |bytes| {
                hasher.update(bytes);
            }),
        )?,
        None => send_blocks(connection, &file.file, span, None)?,
    };
    match sent {
        Sent::Whole => {}
        Sent::Short => return Ok(Err(requests::changed(path))),
        Sent::Unreadable(e) => return Ok(Err(Serving::storage(path, &e))),
    }
    let digest = match (header.digest, hasher) {
        (Some(digest), _) => digest,
        (None, Some(hasher)) => Digest(hasher.finalize().into()),
        (None, None) => match requests::digest_of(serving, path, file, &mut Ticker { connection, since: Instant::now() }) {
            Ok(digest) => digest,
            Err(refusal) => return Ok(Err(refusal)),
        },
    };
    Ok(match file.is_unchanged() {
        Ok(true) => Ok(digest),
        Ok(false) => Err(requests::changed(path)),
        Err(e) => Err(requests::refuse(path, &e)),
    })
}
