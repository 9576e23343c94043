//! What comes back: each answer is checked against the ask that it answers, and handed out once.

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
use super::retry_loop::{MOST_ASKS, PipelineLoop};
use super::{PipelineError, PipelineReply, SMALL};
use crate::retry::{MOST_NO_CHANGES, MOST_USELESS, PATIENCE};

/// Asks that wait for another server before the connection is given up for them.
const MOST_LATER: usize = MOST_ASKS / 2;

/// Where an ask is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// At this server.
    Here,
    /// At another one, once everything else is answered.
    Elsewhere,
}

impl PipelineLoop<'_> {
    /// Takes in one answer, or one frame of a listing, or a sign of life.
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
                            "the server has stored other content than was sent: digest {stored} in place of {sent}"
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

    /// The server works on an answer. It may, but not for ever.
    fn still_coming(&mut self) -> Result<(), PipelineInterrupt> {
        let now = Instant::now();
        if now.duration_since(*self.begun.get_or_insert(now)) > PATIENCE {
            return Err(PipelineInterrupt::Lost("no answer came in time".to_owned()));
        }
        Ok(())
    }

    /// Some entries of a listing. Asked again, it goes on behind the last one that was handed out.
    fn entries(&mut self, page: &EntriesPage) -> Result<(), PipelineInterrupt> {
        self.still_coming()?;
        self.answers = self.answers.saturating_add(1);
        for entry in page.iter() {
            let Some(PendingRequest { tag, request: Request::List { path, after, .. }, .. }) =
                self.unanswered.front_mut()
            else {
                break;
            };
            // Strings compare by their bytes, and every name lies behind the empty one.
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
            // Told at once: whatever becomes of the rest, it need not be asked for again.
            self.midway = true;
            self.finish(PipelineReply::TooLarge { header })?;
        }
        let ended = take_in(from, header, &mut self.buffer, &mut self.ran.bytes_in)?;
        self.outbox.server_is_alive();
        self.midway = false;
        match ended {
            Err(refusal) if too_large => check_connection(&refusal),
            Err(refusal) => self.refused(refusal),
            Ok(_) if too_large => Ok(()),
            Ok(digest) => self.whole(header, digest),
        }
    }

    /// All of the content lies in the buffer.
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
            return self.again(refusal, Again::Elsewhere);
        }
        let tag = self.settle()?.tag;
        self.redirects.arrived();
        self.note_answer();
        Ok(self.handler.answer(
            tag,
            PipelineReply::Content { header, bytes: &self.buffer[..length], digest },
        )?)
    }

    /// An error in place of an answer. Most are the answer.
    fn refused(&mut self, refusal: Refusal) -> Result<(), PipelineInterrupt> {
        check_connection(&refusal)?;
        let (reads, gets) = match self.unanswered.front() {
            Some(first) => (first.only_reads(), matches!(first.request, Request::Get(_))),
            None => (false, false),
        };
        match refusal.code {
            // The file changed while it was sent.
            ErrorCode::Changed if gets => self.again(refusal, Again::Here),
            // What arrived was not what was sent.
            ErrorCode::Damaged if !reads => self.again(refusal, Again::Here),
            ErrorCode::NoContent if gets => self.lacking(Vec::new()),
            ErrorCode::Behind => Err(PipelineInterrupt::Behind(refusal)),
            ErrorCode::Damaged | ErrorCode::Storage if reads => {
                self.again(refusal, Again::Elsewhere)
            }
            // Perhaps only this server is cut off. What was asked behind it may need this change: all is asked again in order.
            ErrorCode::NoChanges if self.stats.no_changes < MOST_NO_CHANGES => {
                self.stats.no_changes += 1;
                Err(PipelineInterrupt::Aside(refusal.message))
            }
            // Perhaps another one has room. Each is asked once.
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

    /// The answer to the first ask is of no use: it is asked again, or `refusal` is its answer in the end.
    fn again(&mut self, refusal: Refusal, place: Again) -> Result<(), PipelineInterrupt> {
        let mut item = self.settle()?;
        item.tries += 1;
        if item.tries >= MOST_USELESS {
            self.note_answer();
            return Ok(self.handler.answer(item.tag, PipelineReply::Refused(refusal))?);
        }
        if place == Again::Here {
            self.todo.push_back(item);
            return Ok(());
        }
        self.later.push_back(item);
        if self.later.len() >= MOST_LATER {
            return Err(PipelineInterrupt::Elsewhere(refusal.message));
        }
        self.later_why = refusal.message;
        Ok(())
    }

    /// The content is not here yet: it is asked for at one of `holders`, once everything else is answered.
    fn lacking(&mut self, holders: Vec<Endpoint>) -> Result<(), PipelineInterrupt> {
        let item = self.settle()?;
        self.later.push_back(PendingRequest { lacking: true, ..item });
        if self.holders.is_empty() {
            self.holders = holders;
        }
        if self.later.len() >= MOST_LATER { Err(self.lacks()) } else { Ok(()) }
    }

    /// What follows from asks whose content is not here.
    pub(super) fn lacks(&mut self) -> PipelineInterrupt {
        PipelineInterrupt::Lacking(std::mem::take(&mut self.holders))
    }

    /// Nobody has the content of these asks: that is their answer.
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

    /// The first ask is answered.
    fn finish(&mut self, answer: PipelineReply<'_>) -> Result<(), PipelineInterrupt> {
        let tag = self.settle()?.tag;
        self.note_answer();
        Ok(self.handler.answer(tag, answer)?)
    }

    /// Takes the first ask out of the window.
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

    /// The current server answers. The first time, it counts as reached.
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

/// What `Details` of this path are named.
fn name_of(path: &TreePath) -> &str {
    path.as_str().rsplit('/').next().unwrap_or_default()
}

/// Checks what a single part does not show: the server's own folder at the top, and the length of the whole.
fn check_name(folder: &TreePath, name: &str) -> Result<(), PipelineInterrupt> {
    if folder.is_root() || folder.as_str().len() + 1 + name.len() > limits::PATH {
        folder.join(name).map_err(WireError::from)?;
    }
    Ok(())
}

/// Errors that end the connection. They say nothing about the request that they came for.
fn check_connection(refusal: &Refusal) -> Result<(), PipelineInterrupt> {
    use ErrorCode::{
        BadProof, BadRequest, BadServer, BadTicket, BadVersion, Busy, Cut, Draining, Interrupted,
        Local, LoginNeeded, LoginRefused, NoSlave, TimedOut, Unreachable, Usage,
    };
    match refusal.code {
        Draining | TimedOut | Busy | NoSlave | LoginNeeded | LoginRefused | BadTicket
        | BadVersion | BadProof => Err(PipelineInterrupt::Lost(refusal.message.clone())),
        // What is asked here is well-formed.
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
