//! Encrypted connections to trusted servers.
//!
//! The client remembers the authority that it first meets at a host, and rejects every other
//! authority from then on.

use std::io;
use std::net::SocketAddr;

use log::debug;
use relais_net::Connection;
use relais_net::tls::{DialError, Dialer, Fingerprint, TlsMode, TrustError, TrustPolicy};
use relais_transfer::Fault;

use super::handshake::Timeouts;
use super::state::Session;
use crate::error::plain;
use crate::{Failure, Result};

impl Session {
    /// Connects to a server known by `name`, or by its address alone.
    ///
    /// From here on the Ctrl-C handler can shut the socket down.
    pub(super) fn dial(
        &mut self,
        addr: SocketAddr,
        name: Option<&str>,
        timeouts: Timeouts,
    ) -> Result<Connection, Fault> {
        debug!("connecting to {addr}");
        let mut connection = if self.is_encrypted(addr) {
            self.dial_encrypted(addr, name, timeouts)?
        } else {
            Connection::connect(addr, timeouts.connect).map_err(|e| gone(&e))?
        };
        connection.set_silence(timeouts.silence);
        self.interrupt.watch(connection.stream());
        Ok(connection)
    }

    /// Whether a connection to this address must be encrypted.
    ///
    /// A known authority requires encryption inside this machine too: an attacker who redirects the
    /// name to this machine does not bring its servers here.
    pub(super) fn is_encrypted(&mut self, addr: SocketAddr) -> bool {
        let encrypt = self.settings.encrypt;
        encrypt.applies(addr.ip())
            || self.tls.everywhere
            || encrypt != TlsMode::Never
                && self.known_authority().is_ok_and(|known| known.is_some())
    }

    /// Encrypts all connections from now on; returns whether that changes anything.
    pub(super) fn encrypt_from_now(&mut self) -> bool {
        self.settings.encrypt != TlsMode::Never
            && !std::mem::replace(&mut self.tls.everywhere, true)
    }

    fn dial_encrypted(
        &mut self,
        addr: SocketAddr,
        name: Option<&str>,
        timeouts: Timeouts,
    ) -> Result<Connection, Fault> {
        let trust = self.trust()?;
        let dialer = Dialer::new(self.settings.encrypt).map_err(|e| gone(&e))?;
        let name = name.map_or_else(|| addr.ip().to_canonical().to_string(), str::to_owned);
        let connection = dialer.connect_encrypted(addr, timeouts.connect, &trust, &name).map_err(
            |e| match e {
                DialError::Io(e) => gone(&e),
                DialError::NotEncrypted => not_encrypting(addr, &trust).into(),
                DialError::Trust(e) => self.not_trusted(addr, &e).into(),
            },
        )?;
        if let (TrustPolicy::FirstUse, Some(identity)) =
            (&trust, connection.tls_info().and_then(|secured| secured.identity))
        {
            self.remember(addr, identity.authority)?;
        }
        Ok(connection)
    }

    /// Checks that a password may go over this connection.
    ///
    /// The client sends no password to an authority that it meets anew in each run.
    pub(super) fn check_authority_saved(&self, connection: &Connection) -> Result<()> {
        if connection.tls_info().is_none() || !self.tls.unsaved || self.settings.insecure {
            return Ok(());
        }
        fail!(
            NotTrusted,
            "the authority of this server cannot be saved, so a change would go unnoticed; \
             --ca names a trusted authority"
        )
    }

    /// Returns the authority that was met before.
    fn known_authority(&mut self) -> Result<Option<Fingerprint>, String> {
        if self.tls.authority.is_none()
            && let Some(saved) = &self.saved
        {
            self.tls.authority = saved.authority()?;
        }
        Ok(self.tls.authority)
    }

    /// Returns the trust policy for the next connection.
    fn trust(&mut self) -> Result<TrustPolicy> {
        if let Some(chosen) = &self.settings.authorities {
            return Ok(TrustPolicy::Authorities(chosen.clone()));
        }
        // An unreadable list must not pass for a missing one.
        let known = self.known_authority().map_err(|why| {
            failure!(NotTrusted, "{why}: the trusted authority is unknown; --ca sets it")
        })?;
        Ok(known.map_or(TrustPolicy::FirstUse, TrustPolicy::Pinned))
    }

    /// Remembers the authority at the first meeting with these servers.
    fn remember(&mut self, addr: SocketAddr, authority: Fingerprint) -> Result<()> {
        let host = &self.settings.host;
        let met = format!("first encrypted meeting with {host}: its authority is {authority}");
        let (place, saved) = match &self.saved {
            Some(saved) => {
                (format!(" in {}", saved.authorities_file()), saved.remember_authority(authority))
            }
            None => (String::new(), Err("there is no home folder".to_owned())),
        };
        match saved {
            Ok(known) if known != authority => {
                return Err(self.not_trusted(addr, &TrustError::Changed { known, now: authority }));
            }
            Ok(_) => say!(self.notices, "{met}, remembered{place}"),
            Err(why) => {
                self.tls.unsaved = true;
                say!(self.notices, "{met}; not remembered{place}: {why}");
            }
        }
        self.tls.authority = Some(authority);
        Ok(())
    }

    fn not_trusted(&self, addr: SocketAddr, error: &TrustError) -> Failure {
        let host = &self.settings.host;
        let hint = match (error, &self.saved) {
            (TrustError::Changed { .. }, Some(saved)) => format!(
                ". An attacker may be answering there. If you know that the servers of {host} have \
                 a new authority, remove the line of {host} from {}",
                saved.authorities_file()
            ),
            _ => String::new(),
        };
        failure!(NotTrusted, "the server at {addr} is NOT TRUSTED: {error}{hint}")
    }
}

/// The failure for a server without encryption; an attacker in between can fake this.
fn not_encrypting(addr: SocketAddr, trust: &TrustPolicy) -> Failure {
    let is_known = matches!(trust, TrustPolicy::Pinned(_));
    let before = if is_known { ", as those of its cluster did before" } else { "" };
    failure!(
        NotTrusted,
        "the server at {addr} does not encrypt connections (no TLS){before}, \
         or an attacker is answering there: nothing was sent to it"
    )
}

pub(super) fn gone(error: &io::Error) -> Fault {
    Fault::Lost(if error.kind() == io::ErrorKind::TimedOut {
        "no answer in time".to_owned()
    } else {
        plain(error)
    })
}
