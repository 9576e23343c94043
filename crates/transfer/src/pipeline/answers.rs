//! Handles answers: checks each against its request, and passes it on once.

use std::time::Instant;

use relais_net::Connection;
use relais_proto::{
    ContentHeader, Digest, EntriesPage, ErrorCode, Kind, Refusal, Reply, Request, TreePath,
    WireError, limits,
};

use super::content::take_in;
use super::handler::{PipelineReply, SMALL};
use super::queue::PendingRequest;
use super::window::Window;
use crate::action::{Action, Purpose, action};
use crate::error::{Fault, other_content};
use crate::exchange::{PATIENCE, check_header};
use crate::failover::MAX_USELESS;

impl Window<'_> {
    /// Handles one answer, one frame of a listing, or one keep-alive.
    pub(super) fn step(&mut self, from: &mut Connection) -> Result<(), Fault> {
        let Some(reply) = from.read_reply()? else { return Err(Fault::closed()) };
        self.outbox.server_is_alive();
        if matches!(reply, Reply::Wait(_) | Reply::MasterUnreachable { .. }) {
            return self.still_coming();
        }
        let sent = self.outbox.sent();
        let Some(first) = self.unanswered.front().filter(|first| first.begins < sent) else {
            return Err(Fault::unexpected(&reply));
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
            (Request::Get(get), Reply::ContentHeader(header)) => {
                check_header(get, &header)?;
                self.content(from, &header)
            }
            (Request::Get(_) | Request::Hash(_), Reply::Elsewhere { holders }) => {
                self.defer(holders)
            }
            (
                Request::Put(_) | Request::MakeFolder { .. } | Request::Remove { .. },
                Reply::Committed { version, copies, digest, current, .. },
            ) if first.ends <= sent => {
                match first.upload.as_ref().map(|upload| (upload.digest, digest)) {
                    Some((sent, Some(stored))) if sent != stored => {
                        self.finish(PipelineReply::Refused(other_content(stored, sent)))
                    }
                    Some((_, None)) if current => {
                        Err(Fault::Violation("an acknowledgement has no digest".to_owned()))
                    }
                    _ => {
                        self.failover.arrived();
                        self.finish(PipelineReply::Committed { version, copies })
                    }
                }
            }
            (_, other) => Err(Fault::unexpected(&other)),
        }
    }

    /// Handles a keep-alive. The server may delay an answer, but not forever.
    fn still_coming(&mut self) -> Result<(), Fault> {
        let now = Instant::now();
        if now.duration_since(*self.begun.get_or_insert(now)) > PATIENCE {
            return Err(Fault::Lost("no answer came in time".to_owned()));
        }
        Ok(())
    }

    /// Handles entries of a listing. A repeated request continues after the last one.
    fn entries(&mut self, page: &EntriesPage) -> Result<(), Fault> {
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
                return Err(Fault::Violation("the names of a listing do not rise".to_owned()));
            }
            check_name(path, &entry.name)?;
            after.clone_from(&entry.name);
            let tag = *tag;
            self.note_answer();
            self.handler.answer(tag, PipelineReply::Entry(entry))?;
        }
        Ok(())
    }

    fn content(&mut self, from: &mut Connection, header: &ContentHeader) -> Result<(), Fault> {
        let too_large = header.size > SMALL;
        if too_large {
            // Reported at once, so the request need not be repeated whatever happens to the rest.
            self.unfinished = true;
            self.finish(PipelineReply::TooLarge { header })?;
        }
        let ended = take_in(from, header, &mut self.buffer, &mut self.stats.bytes_in);
        self.outbox.server_is_alive();
        self.unfinished &= ended.as_ref().is_err_and(|fault| !fault.is_answer());
        match ended {
            // It was answered before.
            Err(Fault::Refused(refusal)) if too_large => {
                match action(refusal.code, Purpose::Read) {
                    Action::Failover | Action::LogIn => Err(Fault::Refused(refusal)),
                    _ => Ok(()),
                }
            }
            Err(Fault::Refused(refusal)) => self.refused(refusal),
            Err(fault) => Err(fault),
            Ok(_) if too_large => Ok(()),
            Ok(digest) => self.whole(header, digest),
        }
    }

    /// Handles content that is complete in the buffer.
    fn whole(&mut self, header: &ContentHeader, digest: Digest) -> Result<(), Fault> {
        let length = usize::try_from(header.length).unwrap_or(usize::MAX).min(self.buffer.len());
        if *blake3::hash(&self.buffer[..length]).as_bytes() != digest.0 {
            let path = match self.unanswered.front().map(|first| &first.request) {
                Some(Request::Get(get)) => get.path.to_string(),
                _ => String::new(),
            };
            let why = format!("{path}: the content does not have its digest");
            return self.repeat(Refusal::new(ErrorCode::Damaged, why), true);
        }
        let tag = self.settle()?.tag;
        self.failover.arrived();
        self.note_answer();
        Ok(self.handler.answer(
            tag,
            PipelineReply::Content { header, bytes: &self.buffer[..length], digest },
        )?)
    }

    /// Handles an error answer. Most errors are the final answer.
    fn refused(&mut self, refusal: Refusal) -> Result<(), Fault> {
        let refusal = match Fault::refused(refusal) {
            Fault::Refused(refusal) => refusal,
            violation => return Err(violation),
        };
        let Some(first) = self.unanswered.front_mut() else {
            return Err(Fault::Refused(refusal));
        };
        let of_content = matches!(first.request, Request::Get(_) | Request::Hash(_));
        match (action(refusal.code, first.purpose()), first.purpose()) {
            _ if self.final_codes.contains(&refusal.code) => {
                self.finish(PipelineReply::Refused(refusal))
            }
            (Action::Restart, _) => self.repeat(refusal, false),
            (Action::Elsewhere, Purpose::Read) => self.repeat(refusal, true),
            // Later requests may depend on this change, so all are repeated in order.
            (Action::Elsewhere, Purpose::Change) if first.tries + 1 < MAX_USELESS => {
                first.tries += 1;
                self.progressed = true;
                Err(Fault::Lost(refusal.message))
            }
            (Action::Redirect, _) if of_content => self.defer(Vec::new()),
            (Action::Stop | Action::Elsewhere | Action::Redirect, _) => {
                self.finish(PipelineReply::Refused(refusal))
            }
            // The server cannot serve this request now, nor those behind it.
            _ => Err(Fault::Refused(refusal)),
        }
    }
}

/// Returns the expected name in the `Details` of this path.
fn name_of(path: &TreePath) -> &str {
    path.as_str().rsplit('/').next().unwrap_or_default()
}

/// Checks the whole path: its length, and the server's own folder at the root.
fn check_name(folder: &TreePath, name: &str) -> Result<(), Fault> {
    if folder.is_root() || folder.as_str().len() + 1 + name.len() > limits::PATH {
        folder.join(name).map_err(WireError::from)?;
    }
    Ok(())
}
