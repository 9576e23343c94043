//! What a client keeps between its runs: which slaves a master named last, the ticket for them, and the highest change seen.
//!
//! With it a client that is started while the master is away still finds the slaves, and a later run never sees less than an
//! earlier one. It is a help and no more: without a place for it, or where that cannot be written, everything else goes on. What
//! is read may have been changed by anybody, so each field is checked, and a file that is no good is told of once, left alone
//! until there is something new to write, and then replaced.

mod authorities;
mod file;
mod folder;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::debug;
use relais_net::tls::Fingerprint;
use relais_proto::{Lsn, limits};

use crate::notices::Notices;
use crate::origin::{Origin, host_key};
use crate::session::{Host, Route};
pub use folder::StateFolder;

/// What is kept for one host and user.
pub struct SavedState {
    folder: StateFolder,
    host: String,
    user: String,
    notices: Notices,
    /// A master's answer that is not written yet.
    new: Option<String>,
    /// The mark that the file has.
    kept: Option<(Origin, Lsn)>,
    /// Whether the user was told that a file is no good.
    warned: std::cell::Cell<bool>,
}

impl SavedState {
    /// What is kept of `host` for `user` in `folder`. Nothing is read yet.
    #[must_use]
    pub fn new(folder: StateFolder, host: &Host, user: &str, notices: Notices) -> Self {
        let warned = std::cell::Cell::new(false);
        Self {
            folder,
            host: host_key(host),
            user: user.to_owned(),
            notices,
            new: None,
            kept: None,
            warned,
        }
    }

    /// Changes the user, who was asked for after the start.
    pub fn set_user(&mut self, user: &str) {
        user.clone_into(&mut self.user);
    }

    /// The slaves that the master named last, with a ticket that may still be good.
    pub fn route(&mut self) -> Option<Route> {
        let text = self.read(&self.name())?;
        match file::parse(&text, &self.host, &self.user) {
            Ok((route, received)) => {
                let age = now().saturating_sub(received);
                let is_good = Duration::from_secs(age) < limits::TICKET_TIME;
                if !is_good {
                    debug!("the ticket that was kept is {age} s old");
                }
                is_good.then_some(route)
            }
            Err(why) => {
                self.warn_bad_file(&self.name(), &why);
                None
            }
        }
    }

    /// The highest change that any run has seen of these servers.
    #[must_use]
    pub fn lsn(&self, origin: &Origin) -> Option<Lsn> {
        let name = mark_name(origin);
        let text = self.read(&name)?;
        let lsn = file::parse_mark(&text);
        if lsn.is_none() {
            self.warn_bad_file(&name, "it holds no number of a change");
        }
        lsn
    }

    /// Where the highest change of these servers is kept.
    #[must_use]
    pub fn mark_file(&self, origin: &Origin) -> String {
        self.folder.shown(&mark_name(origin))
    }

    /// The authority of this host's servers, where that was met before.
    ///
    /// # Errors
    /// The file, and what is wrong with it.
    pub fn authority(&self) -> Result<Option<Fingerprint>, String> {
        let found = self
            .folder
            .read(authorities::NAME)
            .and_then(|text| authorities::find(&text.unwrap_or_default(), &self.host));
        found.map_err(|why| format!("{}: {why}", self.authorities_file()))
    }

    /// The authority of this host's servers was met. Yields what is kept: another one where another client has met that meanwhile.
    ///
    /// # Errors
    /// Why it is not kept.
    pub fn remember_authority(&self, authority: Fingerprint) -> Result<Fingerprint, String> {
        let writer = self.folder.writer()?;
        let text = self.folder.read(authorities::NAME)?.unwrap_or_default();
        if let Some(known) = authorities::find(&text, &self.host)? {
            return Ok(known);
        }
        let text = authorities::add(&text, &self.host, authority);
        if text.len() > authorities::LONGEST {
            return Err("the list is too long".to_owned());
        }
        writer.replace(authorities::NAME, &text)?;
        Ok(authority)
    }

    /// Where authorities are kept.
    #[must_use]
    pub fn authorities_file(&self) -> String {
        self.folder.shown(authorities::NAME)
    }

    /// A master's answer, to be written by the next [`Self::keep`].
    pub fn set_route(&mut self, route: &Route) {
        self.new = Some(file::format(route, &self.host, &self.user, now()));
    }

    /// Writes what is new.
    pub fn save(&mut self, origin: &Origin, lsn: Lsn) {
        let is_known = self.kept.as_ref().is_some_and(|(of, kept)| of == origin && *kept >= lsn);
        if self.new.is_none() && is_known {
            return;
        }
        if let Err(why) = self.write(origin, lsn) {
            debug!("nothing is kept for later runs: {why}");
        }
    }

    /// What was kept of these servers is impossible: `lsn` takes its place, though it is lower.
    pub fn lower(&mut self, origin: &Origin, lsn: Lsn) {
        self.kept = None;
        let lowered = self
            .folder
            .writer()
            .and_then(|writer| writer.replace(&mark_name(origin), &file::format_mark(lsn)));
        if let Err(why) = lowered {
            debug!("the impossible mark is still kept: {why}");
        }
    }

    fn write(&mut self, origin: &Origin, lsn: Lsn) -> Result<(), String> {
        let writer = self.folder.writer()?;
        if let Some(text) = &self.new {
            writer.replace(&self.name(), text)?;
            self.new = None;
        }
        // Another client may have seen more in the meantime; the lock keeps it from writing between the two steps.
        let name = mark_name(origin);
        let known = self.folder.read(&name).ok().flatten().and_then(|text| file::parse_mark(&text));
        if known.is_none_or(|known| known < lsn) {
            writer.replace(&name, &file::format_mark(lsn))?;
        }
        self.kept = Some((origin.clone(), known.map_or(lsn, |known| known.max(lsn))));
        Ok(())
    }

    fn read(&self, name: &str) -> Option<String> {
        self.folder.read(name).unwrap_or_else(|why| {
            self.warn_bad_file(name, &why);
            None
        })
    }

    /// Tells the user once of a file that is no good.
    fn warn_bad_file(&self, name: &str, why: &str) {
        if !self.warned.replace(true) {
            self.notices.say(&format!("{}: left out: {why}", self.folder.shown(name)));
        }
    }

    /// The file of this host and user; what they are named says nothing about whether it can be a file's name.
    fn name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.host.as_bytes()).update(&[0]).update(self.user.as_bytes());
        format!("host-{}.json", &hasher.finalize().to_hex()[..32])
    }
}

fn mark_name(origin: &Origin) -> String {
    format!("seen-{}", origin.hash())
}

/// Seconds since 1970. A clock before that is taken for one at it.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
