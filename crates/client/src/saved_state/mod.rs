//! State that the client keeps between runs: the last redirect, its ticket, the highest LSN, and
//! the key that signs entries of a `.log`.
//!
//! With this state a client can find the slaves while the master is down, and a later run never
//! shows an older state than an earlier one. The state is optional: all else works if it cannot be
//! read or written.
//!
//! Files are untrusted input, so each field is checked. The client reports a bad file once and
//! ignores it until the next write replaces it.

mod authorities;
mod file;
mod folder;
#[cfg(test)]
mod tests;

use std::time::Duration;

use log::debug;
use relais_net::Host;
use relais_net::tls::Fingerprint;
use relais_proto::{Lsn, limits};

use crate::notices::Notices;
use crate::origin::{Origin, host_key};
use crate::route::Route;
pub use folder::StateFolder;
use folder::replace;

/// Name of the file with the key that signs entries of a `.log`.
const LOG_KEY: &str = "log-key";

/// The saved state of one host and user.
pub struct SavedState {
    folder: StateFolder,
    host: String,
    user: String,
    notices: Notices,
    /// A redirect that is not written yet.
    new: Option<String>,
    /// The LSN that the file holds.
    kept: Option<(Origin, Lsn)>,
    /// Whether the user was told of a bad file.
    warned: std::cell::Cell<bool>,
}

impl SavedState {
    /// Opens the saved state of `host` and `user` in `folder`; reads nothing yet.
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

    /// Sets the user, if the client asked for the name after the start.
    pub fn set_user(&mut self, user: &str) {
        user.clone_into(&mut self.user);
    }

    /// Returns the saved route if its ticket may still be valid.
    pub fn route(&mut self) -> Option<Route> {
        let parse = |text: &str| file::parse(text, &self.host, &self.user);
        let (route, received) = self.read(&self.name(), parse)?;
        let age = now().saturating_sub(received);
        let is_good = Duration::from_secs(age) < limits::TICKET_TIME;
        if !is_good {
            debug!("the saved ticket is {age} s old");
        }
        is_good.then_some(route)
    }

    /// Returns the highest LSN that any run has seen of these servers.
    pub fn lsn(&self, origin: &Origin) -> Option<Lsn> {
        self.read(&lsn_file_name(origin), |text| {
            file::parse_lsn(text).ok_or_else(|| "it contains no LSN".to_owned())
        })
    }

    /// Returns the path of the file with the highest LSN of these servers.
    pub fn lsn_file(&self, origin: &Origin) -> String {
        self.folder.shown(&lsn_file_name(origin))
    }

    /// Returns the known authority of this host's servers.
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

    /// Saves the authority of this host's servers, and returns the authority that is saved.
    ///
    /// The result differs from `authority` if another client saved one first.
    ///
    /// # Errors
    /// Why it cannot be saved.
    pub fn remember_authority(&self, authority: Fingerprint) -> Result<Fingerprint, String> {
        self.folder.write(|lock| {
            let text = self.folder.read(authorities::NAME)?.unwrap_or_default();
            if let Some(known) = authorities::find(&text, &self.host)? {
                return Ok(known);
            }
            let text = authorities::add(&text, &self.host, authority);
            if text.len() > authorities::MAX_FILE_SIZE {
                return Err("the list is too long".to_owned());
            }
            replace(lock, authorities::NAME, &text)?;
            Ok(authority)
        })
    }

    /// Returns the path of the file with the known authorities.
    pub fn authorities_file(&self) -> String {
        self.folder.shown(authorities::NAME)
    }

    /// Returns the key that signs entries of a `.log`; makes one if there is none.
    ///
    /// # Errors
    /// Why there is no key.
    pub fn log_key(&self) -> Result<[u8; 32], String> {
        let read = || -> Result<Option<[u8; 32]>, String> {
            let Some(text) = self.folder.read(LOG_KEY)? else { return Ok(None) };
            let key = blake3::Hash::from_hex(text.trim())
                .map_err(|_| format!("{}: it contains no key", self.folder.shown(LOG_KEY)))?;
            Ok(Some(key.into()))
        };
        if let Some(key) = read()? {
            return Ok(key);
        }
        self.folder.write(|lock| {
            // Another client may have made a key before this one had the lock.
            if let Some(key) = read()? {
                return Ok(key);
            }
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|e| format!("no random numbers: {e}"))?;
            replace(lock, LOG_KEY, &blake3::Hash::from(key).to_hex())?;
            Ok(key)
        })
    }

    /// Sets the redirect that the next [`Self::save`] writes.
    pub fn set_route(&mut self, route: &Route) {
        self.new = Some(file::format(route, &self.host, &self.user, now()));
    }

    /// Writes what has changed.
    pub fn save(&mut self, origin: &Origin, lsn: Lsn) {
        let is_known = self.kept.as_ref().is_some_and(|(of, kept)| of == origin && *kept >= lsn);
        if self.new.is_none() && is_known {
            return;
        }
        if let Err(why) = self.write(origin, lsn) {
            debug!("the state is not saved for later runs: {why}");
        }
    }

    /// Replaces the LSN `impossible` by the lower `lsn`. Another saved LSN is left.
    pub fn lower_lsn(&mut self, origin: &Origin, impossible: Lsn, lsn: Lsn) {
        self.kept = None;
        let name = lsn_file_name(origin);
        let lowered = self.folder.write(|lock| {
            let known = self.folder.read(&name).ok().flatten();
            if known.and_then(|text| file::parse_lsn(&text)) != Some(impossible) {
                return Ok(());
            }
            replace(lock, &name, &file::format_lsn(lsn))
        });
        if let Err(why) = lowered {
            debug!("the impossible LSN is still saved: {why}");
        }
    }

    fn write(&mut self, origin: &Origin, lsn: Lsn) -> Result<(), String> {
        let name = lsn_file_name(origin);
        let known = self.folder.write(|lock| {
            if let Some(text) = &self.new {
                replace(lock, &self.name(), text)?;
            }
            // Another client may have seen a later change; the lock prevents a write between both
            // steps.
            let known = self.folder.read(&name).ok().flatten();
            let known = known.and_then(|text| file::parse_lsn(&text));
            if known.is_none_or(|known| known < lsn) {
                replace(lock, &name, &file::format_lsn(lsn))?;
            }
            Ok(known)
        })?;
        self.new = None;
        self.kept = Some((origin.clone(), known.map_or(lsn, |known| known.max(lsn))));
        Ok(())
    }

    /// Reads and parses a file; the user is told once of a bad file.
    fn read<T>(&self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.folder.read(name);
        let parsed = text.and_then(|text| text.as_deref().map(parse).transpose());
        parsed.unwrap_or_else(|why| {
            if !self.warned.replace(true) {
                say!(self.notices, "{}: ignored: {why}", self.folder.shown(name));
            }
            None
        })
    }

    /// Returns the file name for this host and user; it is a hash, because either may hold any
    /// character.
    fn name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.host.as_bytes()).update(&[0]).update(self.user.as_bytes());
        format!("host-{}.json", &hasher.finalize().to_hex()[..32])
    }
}

fn lsn_file_name(origin: &Origin) -> String {
    format!("seen-{}", origin.hash())
}

/// Returns the seconds since 1970; 0 for a clock before that.
fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}
