//! Handles answers: checks each against its request, and passes it on once.

use std::collections::VecDeque;
use std::time::Instant;

use relais_net::Connection;
use relais_proto::{
    ContentHeader, Digest, Endpoint, EntriesPage, ErrorCode, Kind, Refusal, Reply, Request,
    TreePath, WireError, limits,
};

use super::content::{check_header, take_in, unexpected};
use super::error::PipelineInterrupt;
use super::queue::PendingRequest;
use super::retry_loop::{MAX_REQUESTS, PipelineLoop};
use super::{PipelineError, PipelineReply, SMALL};
use crate::retry::{MAX_NO_CHANGES, MAX_USELESS, PATIENCE};

/// Deferred requests above which the connection is given up for them.
const MAX_DEFERRED: usize = MAX_REQUESTS / 2;

/// Target of a repeated request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RetryTarget {
    /// The current server.
    Here,
    /// Another server, once all other requests are answered.
    Elsewhere,
}

impl PipelineLoop<'_> {
    /// Handles one answer, one frame of a listing, or one keep-alive.
    pub(super) fn step(&mut self, from: &mut Connection) -> Result<(), PipelineInterrupt> {
        let Some(reply) = from.read_reply()? else { return Err(PipelineInterrupt::closed()) };
        self.outbox.server_is_alive();
        if matches!(reply, Reply::Wait(_) | Reply::MasterUnreachable { .. }) {
            return self.still_coming();
        }
        let sent = self.outbox.sent();
        let Some(first) = self.unanswered.front().filter(|first| first.begins < sent) else {
            return Err(unexpected(&reply));
        };
        match (&first.request, reply) {
            (_, Reply::Error(refusal)) => self.refused(refusal),
            (Request::List { .. }, Reply::Entries(page)) => self.entries(&page),
            (Request::List { .. }, Reply::Done { .. }) => self.finish(PipelineReply::Listed),
            (Request::Stat(path), Reply::Details { entry, digest, .. })
                if entry.name == name_of(path) =>
            {
                self.finish(PipelineReply::Details { entry, digest })
            }
            (Request::Hash(path), Reply::Details { entry, digest: Some(digest), .. })
                if entry.kind == Kind::File && entry.name == name_of(path) =>
            {
                self.finish(PipelineReply::Details { entry, digest: Some(digest) })
            }
            (Request::Get(_), Reply::ContentHeader(header)) => self.content(from, &header),
            (Request::Get(_) | Request::Hash(_), Reply::Elsewhere { holders }) => {
                self.lacking(holders)
            }
            (
                Request::Put(_) | Request::MakeFolder { .. } | Request::Remove { .. },
                Reply::Committed { version, copies, digest, current, .. },
            ) if first.ends <= sent => {
                match first.upload.as_ref().map(|upload| (upload.digest, digest)) {
                    Some((sent, Some(stored))) if sent != stored => {
                        let why = format!(
                            "the server has stored other content than was sent: \
                             digest {stored} in place of {sent}"
                        );
                        self.finish(PipelineReply::Refused(Refusal::new(ErrorCode::Damaged, why)))
                    }
                    Some((_, None)) if current => Err(PipelineInterrupt::Violation(
                        "an acknowledgement has no digest".to_owned(),
                    )),
                    _ => self.finish(PipelineReply::Committed { version, copies }),
                }
            }
            (_, other) => Err(unexpected(&other)),
        }
    }

    /// Handles a keep-alive. The server may delay an answer, but not forever.
    fn still_coming(&mut self) -> Result<(), PipelineInterrupt> {
        let now = Instant::now();
        if now.duration_since(*self.begun.get_or_insert(now)) > PATIENCE {
            return Err(PipelineInterrupt::Lost("no answer came in time".to_owned()));
        }
        Ok(())
    }

    /// Handles entries of a listing. A repeated request continues after the last one.
    fn entries(&mut self, page: &EntriesPage) -> Result<(), PipelineInterrupt> {
        self.still_coming()?;
        self.answers = self.answers.saturating_add(1);
        for entry in page.iter() {
            let Some(PendingRequest { tag, request: Request::List { path, after, .. }, .. }) =
                self.unanswered.front_mut()
            else {
                break;
            };
            // Strings compare by bytes, and every name sorts after the empty one.
            if entry.name <= *after {
                return Err(PipelineInterrupt::Violation(
                    "the names of a listing do not rise".to_owned(),
                ));
            }
            check_name(path, &entry.name)?;
            after.clone_from(&entry.name);
            let tag = *tag;
            self.note_answer();
            self.handler.answer(tag, PipelineReply::Entry(entry))?;
        }
        Ok(())
    }

    fn content(
        &mut self,
        from: &mut Connection,
        header: &ContentHeader,
    ) -> Result<(), PipelineInterrupt> {
        check_header(header)?;
        let too_large = header.size > SMALL;
        if too_large {
            // Reported at once, so the request need not be repeated whatever happens to the rest.
            self.answer_unfinished = true;
            self.finish(PipelineReply::TooLarge { header })?;
        }
        let ended = take_in(from, header, &mut self.buffer, &mut self.ran.bytes_in)?;
        self.outbox.server_is_alive();
        self.answer_unfinished = false;
        match ended {
            Err(refusal) if too_large => check_connection(&refusal),
            Err(refusal) => self.refused(refusal),
            Ok(_) if too_large => Ok(()),
            Ok(digest) => self.whole(header, digest),
        }
    }

    /// Handles content that is complete in the buffer.
    fn whole(&mut self, header: &ContentHeader, digest: Digest) -> Result<(), PipelineInterrupt> {
        let length = usize::try_from(header.length).unwrap_or(usize::MAX).min(self.buffer.len());
        if *blake3::hash(&self.buffer[..length]).as_bytes() != digest.0 {
            let path = self
                .unanswered
                .front()
                .and_then(PendingRequest::path)
                .map(TreePath::to_string)
                .unwrap_or_default();
            let refusal = Refusal::new(
                ErrorCode::Damaged,
                format!("{path}: the content does not have its digest"),
            );
            return self.again(refusal, RetryTarget::Elsewhere);
        }
        let tag = self.settle()?.tag;
        self.redirects.arrived();
        self.note_answer();
        Ok(self.handler.answer(
            tag,
            PipelineReply::Content { header, bytes: &self.buffer[..length], digest },
        )?)
    }

    /// Handles an error answer. Most errors are the final answer.
    fn refused(&mut self, refusal: Refusal) -> Result<(), PipelineInterrupt> {
        check_connection(&refusal)?;
        let (reads, gets) = match self.unanswered.front() {
            Some(first) => (first.only_reads(), matches!(first.request, Request::Get(_))),
            None => (false, false),
        };
        match refusal.code {
            // The file changed during the transfer.
            ErrorCode::Changed if gets => self.again(refusal, RetryTarget::Here),
            // The received bytes differ from the sent ones.
            ErrorCode::Damaged if !reads => self.again(refusal, RetryTarget::Here),
            ErrorCode::NoContent if gets => self.lacking(Vec::new()),
            ErrorCode::Behind => Err(PipelineInterrupt::Behind(refusal)),
            ErrorCode::Damaged | ErrorCode::Storage if reads => {
                self.again(refusal, RetryTarget::Elsewhere)
            }
            // Only this server may be cut off. Later requests may depend on this change, so all
            // requests are repeated in order.
            ErrorCode::NoChanges if self.stats.no_changes < MAX_NO_CHANGES => {
                self.stats.no_changes += 1;
                Err(PipelineInterrupt::NoChanges(refusal.message))
            }
            // Another server may have space. Each is asked once.
            ErrorCode::NoSpace
                if !reads
                    && self.server.is_some_and(|server| !self.stats.full.contains(&server)) =>
            {
                self.stats.full.extend(self.server);
                Err(PipelineInterrupt::Full(refusal.message))
            }
            _ => self.finish(PipelineReply::Refused(refusal)),
        }
    }

    /// Repeats the first request after a useless answer, or returns `refusal` in the end.
    fn again(&mut self, refusal: Refusal, place: RetryTarget) -> Result<(), PipelineInterrupt> {
        let mut item = self.settle()?;
        item.tries += 1;
        if item.tries >= MAX_USELESS {
            self.note_answer();
            return Ok(self.handler.answer(item.tag, PipelineReply::Refused(refusal))?);
        }
        if place == RetryTarget::Here {
            self.todo.push_back(item);
            return Ok(());
        }
        self.later.push_back(item);
        if self.later.len() >= MAX_DEFERRED {
            return Err(PipelineInterrupt::Elsewhere(refusal.message));
        }
        self.later_why = refusal.message;
        Ok(())
    }

    /// Defers a request for content that is not here to one of `holders`.
    fn lacking(&mut self, holders: Vec<Endpoint>) -> Result<(), PipelineInterrupt> {
        let item = self.settle()?;
        self.later.push_back(PendingRequest { lacking: true, ..item });
        if self.holders.is_empty() {
            self.holders = holders;
        }
        if self.later.len() >= MAX_DEFERRED { Err(self.redirect_deferred()) } else { Ok(()) }
    }

    /// Ends the connection for deferred requests without content.
    pub(super) fn redirect_deferred(&mut self) -> PipelineInterrupt {
        PipelineInterrupt::Lacking(std::mem::take(&mut self.holders))
    }

    /// Answers the requests for contents that no reachable server holds.
    pub(super) fn give_up_lacking(&mut self, refusal: &Refusal) -> Result<(), PipelineError> {
        let (lacking, todo) = std::mem::take(&mut self.todo)
            .into_iter()
            .partition(|item: &PendingRequest| item.lacking);
        self.todo = todo;
        let lacking: VecDeque<PendingRequest> = lacking;
        for item in lacking {
            self.handler.answer(item.tag, PipelineReply::Refused(refusal.clone()))?;
        }
        Ok(())
    }

    /// Passes on the answer to the first request.
    fn finish(&mut self, answer: PipelineReply<'_>) -> Result<(), PipelineInterrupt> {
        let tag = self.settle()?.tag;
        self.note_answer();
        Ok(self.handler.answer(tag, answer)?)
    }

    /// Removes the first request from the window.
    fn settle(&mut self) -> Result<PendingRequest, PipelineInterrupt> {
        let Some(item) = self.unanswered.pop_front() else {
            return Err(PipelineInterrupt::Violation("an answer came to no question".to_owned()));
        };
        self.load.remove(item.load);
        self.ran.bytes_out += item.content_sent(self.outbox.sent());
        self.answers = self.answers.saturating_add(1);
        self.begun = None;
        Ok(item)
    }

    /// Records that the current server has answered. Its first answer counts as reaching it.
    fn note_answer(&mut self) {
        let Some(server) = self.silent.take() else { return };
        if !self.ran.servers.contains(&server) {
            self.ran.servers.push(server);
        }
        if let Some(before) = self.answered_by.replace(server) {
            self.handler.moved(before, server);
        }
    }
}

/// Returns the expected name in the `Details` of this path.
fn name_of(path: &TreePath) -> &str {
    path.as_str().rsplit('/').next().unwrap_or_default()
}

/// Checks the whole path: its length, and the server's own folder at the root.
fn check_name(folder: &TreePath, name: &str) -> Result<(), PipelineInterrupt> {
    if folder.is_root() || folder.as_str().len() + 1 + name.len() > limits::PATH {
        folder.join(name).map_err(WireError::from)?;
    }
    Ok(())
}

/// Checks for errors that end the connection. They are not about the request.
fn check_connection(refusal: &Refusal) -> Result<(), PipelineInterrupt> {
    use ErrorCode::{
        BadProof, BadRequest, BadServer, BadTicket, BadVersion, Busy, Cut, Draining, Interrupted,
        Local, LoginNeeded, LoginRefused, NoSlave, TimedOut, Unreachable, Usage,
    };
    match refusal.code {
        Draining | TimedOut | Busy | NoSlave | LoginNeeded | LoginRefused | BadTicket
        | BadVersion | BadProof => Err(PipelineInterrupt::Lost(refusal.message.clone())),
        // This program sends well-formed requests only.
        BadRequest => Err(PipelineInterrupt::Violation(format!(
            "it takes a request for a bad one: {}",
            refusal.message
        ))),
        Unreachable | Cut | Interrupted | Local | Usage | BadServer => {
            Err(PipelineInterrupt::Violation(format!(
                "the error {} is not a server's to send",
                refusal.code
            )))
        }
        _ => Ok(()),
    }
}
