//! Connecting, encrypted where that is due, to servers that are trusted: the authority of a host's servers is remembered when it is met
//! first, and another one is refused from then on.

use std::io;
use std::net::SocketAddr;

use log::debug;
use relais_net::Connection;
use relais_net::tls::{
    DialError, Dialer, Fingerprint, TlsMode, TrustError, TrustPolicy, TrustedAuthorities,
};
use relais_proto::ErrorCode;

use super::Session;
use super::handshake::{ServerError, Timeouts};
use crate::Failure;
use crate::error::plain;

/// How lines to servers are kept safe.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// Which are encrypted.
    pub encrypt: TlsMode,
    /// Whose servers are trusted; none: those of the authority that was met first.
    pub chosen: Option<TrustedAuthorities>,
    /// Whether a password may go over a line that is not encrypted.
    pub insecure: bool,
}

/// What this session has found out about encrypted lines.
#[derive(Debug, Default)]
pub(super) struct TlsState {
    /// Made when the first line is encrypted.
    dialer: Option<Dialer>,
    /// The authority of the servers, once it is known.
    authority: Option<Fingerprint>,
    /// Whether a server has asked for it on this machine too.
    everywhere: bool,
    /// Whether the authority could not be remembered for later runs.
    unsaved: bool,
}

impl Session {
    /// Connects to a server that is known by `name`, or by its address alone; the handler of Ctrl-C knows the socket from here on.
    pub(super) fn dial(
        &mut self,
        addr: SocketAddr,
        name: Option<&str>,
        timeouts: Timeouts,
    ) -> Result<Connection, ServerError> {
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

    /// Whether the line to this address is to be encrypted: also inside this machine where that was so before, since whoever leads
    /// a name here has not led its servers here.
    pub(super) fn is_encrypted(&mut self, addr: SocketAddr) -> bool {
        let encrypt = self.settings.security.encrypt;
        encrypt.applies(addr.ip())
            || self.tls.everywhere
            || encrypt != TlsMode::Never
                && self.known_authority().is_ok_and(|known| known.is_some())
    }

    /// A server takes no line in the clear, also from this machine: whether the next one will be another.
    pub(super) fn encrypt_from_now(&mut self) -> bool {
        self.settings.security.encrypt != TlsMode::Never
            && !std::mem::replace(&mut self.tls.everywhere, true)
    }

    fn dial_encrypted(
        &mut self,
        addr: SocketAddr,
        name: Option<&str>,
        timeouts: Timeouts,
    ) -> Result<Connection, ServerError> {
        let trust = self.trust().map_err(ServerError::Aborted)?;
        let dialer = match &self.tls.dialer {
            Some(dialer) => dialer,
            None => self
                .tls
                .dialer
                .insert(Dialer::new(self.settings.security.encrypt).map_err(|e| gone(&e))?),
        };
        let name = name.map_or_else(|| addr.ip().to_canonical().to_string(), str::to_owned);
        let connection = dialer.connect_encrypted(addr, timeouts.connect, &trust, &name).map_err(
            |e| match e {
                DialError::Io(e) => gone(&e),
                DialError::NotEncrypted => ServerError::Aborted(not_encrypting(addr, &trust)),
                DialError::Trust(e) => ServerError::Aborted(self.not_trusted(addr, &e)),
            },
        )?;
        if let (TrustPolicy::FirstUse, Some(identity)) =
            (&trust, connection.tls_info().and_then(|secured| secured.identity))
        {
            self.remember(addr, identity.authority).map_err(ServerError::Aborted)?;
        }
        Ok(connection)
    }

    /// Whether a password may go over this line: nobody gives it to an authority that is met anew each time.
    pub(super) fn check_authority_saved(&self, connection: &Connection) -> Result<(), Failure> {
        if connection.tls_info().is_none() || !self.tls.unsaved || self.settings.security.insecure {
            return Ok(());
        }
        let why = "the authority of this server cannot be remembered, so that another one would not be noticed: --ca says whom to trust";
        Err(Failure::new(ErrorCode::NotTrusted, why))
    }

    /// The authority that was met before.
    fn known_authority(&mut self) -> Result<Option<Fingerprint>, String> {
        if self.tls.authority.is_none()
            && let Some(saved) = &self.saved
        {
            self.tls.authority = saved.authority()?;
        }
        Ok(self.tls.authority)
    }

    /// Whom to trust.
    fn trust(&mut self) -> Result<TrustPolicy, Failure> {
        if let Some(chosen) = &self.settings.security.chosen {
            return Ok(TrustPolicy::Authorities(chosen.clone()));
        }
        // A list that cannot be read is not taken for one that was never there.
        let known = self.known_authority().map_err(|why| {
            let why = format!("{why}: whom to trust is not known; --ca says it as well");
            Failure::new(ErrorCode::NotTrusted, why)
        })?;
        Ok(known.map_or(TrustPolicy::FirstUse, TrustPolicy::Pinned))
    }

    /// The first meeting with the authority of these servers.
    fn remember(&mut self, addr: SocketAddr, authority: Fingerprint) -> Result<(), Failure> {
        let host = &self.settings.host;
        let met = format!("first encrypted meeting with {host}: its authority is {authority}");
        match self
            .saved
            .as_ref()
            .map(|saved| (saved.remember_authority(authority), saved.authorities_file()))
        {
            Some((Ok(kept), _)) if kept != authority => {
                return Err(
                    self.not_trusted(addr, &TrustError::Changed { known: kept, now: authority })
                );
            }
            Some((Ok(_), place)) => self.notices.say(&format!("{met}, remembered in {place}")),
            Some((Err(why), place)) => {
                self.tls.unsaved = true;
                self.notices.say(&format!("{met}; not remembered in {place}: {why}"));
            }
            None => {
                self.tls.unsaved = true;
                self.notices.say(&format!("{met}; not remembered: there is no home folder"));
            }
        }
        self.tls.authority = Some(authority);
        Ok(())
    }

    fn not_trusted(&self, addr: SocketAddr, error: &TrustError) -> Failure {
        let host = &self.settings.host;
        let mut why = format!("the server at {addr} is NOT TRUSTED: {error}");
        if let (TrustError::Changed { .. }, Some(saved)) = (error, &self.saved) {
            why += &format!(
                ". Somebody else may be answering there. Only if you know that the servers of {host} have got another authority, \
                 remove the line of {host} from {}",
                saved.authorities_file()
            );
        }
        Failure::new(ErrorCode::NotTrusted, why)
    }
}

/// A server that does not encrypt. Whoever can change what passes can make it look so.
fn not_encrypting(addr: SocketAddr, trust: &TrustPolicy) -> Failure {
    let before = if matches!(trust, TrustPolicy::Pinned(_)) {
        ", as those of its cluster did before"
    } else {
        ""
    };
    let why = format!(
        "the server at {addr} does not encrypt connections (no TLS){before}, or somebody else is answering there: nothing was sent to it"
    );
    Failure::new(ErrorCode::NotTrusted, why)
}

fn gone(error: &io::Error) -> ServerError {
    ServerError::Disconnected(if error.kind() == io::ErrorKind::TimedOut {
        "no answer in time".to_owned()
    } else {
        plain(error)
    })
}
