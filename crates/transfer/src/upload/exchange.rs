//! Requests with single answers, and messages of a server while content is sent.

use std::io;
use std::time::Instant;

use relais_net::Connection;
use relais_proto::{Reply, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::error::UploadInterrupt;
use crate::retry::PATIENCE;

/// Keep-alives that are read at once, so a server that sends only these cannot hold up the sender.
const MAX_KEEPALIVES: u32 = 64;

/// Sends `request` and returns the first answer other than a keep-alive.
pub(super) fn ask(to: &mut Connection, request: &Request) -> Result<Reply, UploadInterrupt> {
    to.queue(request);
    if let Err(e) = to.flush() {
        return Err(after_failed_send(to, &e));
    }
    answer(to)
}

/// Reads the next answer other than a keep-alive; an error is a clean [`UploadInterrupt::Refused`].
pub(super) fn answer(from: &mut Connection) -> Result<Reply, UploadInterrupt> {
    let until = Instant::now() + PATIENCE;
    loop {
        match from.read_reply()? {
            None => return Err(UploadInterrupt::Lost("the connection was closed".to_owned())),
            Some(Reply::Error(refusal)) => return Err(UploadInterrupt::refused(refusal, true)),
            Some(Reply::Wait(_) | Reply::MasterUnreachable { .. }) if Instant::now() < until => {}
            Some(Reply::Wait(_) | Reply::MasterUnreachable { .. }) => {
                return Err(UploadInterrupt::Lost("no answer came in time".to_owned()));
            }
            Some(reply) => return Ok(reply),
        }
    }
}

/// Checks without waiting whether the server refuses the upload; returns whether it sent a
/// keep-alive.
pub(super) fn listen(to: &mut Connection) -> Result<bool, UploadInterrupt> {
    let mut alive = false;
    for _ in 0..MAX_KEEPALIVES {
        if !has_something(to)? {
            break;
        }
        match to.read_reply()? {
            None => return Err(UploadInterrupt::Lost("the connection was closed".to_owned())),
            Some(Reply::Error(refusal)) => return Err(UploadInterrupt::refused(refusal, false)),
            Some(Reply::Wait(_) | Reply::MasterUnreachable { .. }) => alive = true,
            Some(reply) => return Err(UploadInterrupt::unexpected(&reply)),
        }
    }
    Ok(alive)
}

/// Returns the cause of a failed send. An earlier message of the server may contain it.
pub(super) fn after_failed_send(to: &mut Connection, error: &io::Error) -> UploadInterrupt {
    match listen(to) {
        Err(stop @ (UploadInterrupt::Refused { .. } | UploadInterrupt::Violation(_))) => stop,
        Ok(_) | Err(_) => UploadInterrupt::Lost(error.to_string()),
    }
}

fn has_something(to: &Connection) -> Result<bool, UploadInterrupt> {
    if to.has_input() {
        return Ok(true);
    }
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let stream = to.stream();
    loop {
        match poll(&mut [PollFd::new(&**stream, PollFlags::IN)], Some(&now)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(UploadInterrupt::Lost(e.to_string())),
        }
    }
}
