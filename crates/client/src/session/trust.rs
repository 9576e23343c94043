//! Connecting, encrypted where that is due, to servers that are trusted: the authority of a host's servers is remembered when it is met
//! first, and another one is refused from then on.

use std::io;
use std::net::SocketAddr;

use log::debug;
use relais_net::Connection;
use relais_net::tls::{Authorities, DialError, Dialer, Encrypt, Fingerprint, Trust, TrustError};
use relais_proto::ErrorCode;

use super::Session;
use super::greet::{Patience, Trouble};
use crate::Failure;
use crate::error::plain;

/// How lines to servers are kept safe.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// Which are encrypted.
    pub encrypt: Encrypt,
    /// Whose servers are trusted; none: those of the authority that was met first.
    pub chosen: Option<Authorities>,
    /// Whether a password may go over a line that is not encrypted.
    pub insecure: bool,
}

/// What this session has found out about encrypted lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Made when the first line is encrypted.
    dialer: Option<Dialer>,
    /// The authority of the servers, once it is known.
    authority: Option<Fingerprint>,
    /// Whether a server has asked for it on this machine too.
    everywhere: bool,
}

impl Session {
    /// Connects; the handler of Ctrl-C knows the socket from here on.
    pub(super) fn dial(&mut self, addr: SocketAddr, patience: Patience) -> Result<Connection, Trouble> {
        debug!("connecting to {addr}");
        let mut connection = if self.is_encrypted(addr) {
            self.dial_encrypted(addr, patience)?
        } else {
            Connection::connect(addr, patience.connect).map_err(|e| gone(&e))?
        };
        connection.set_silence(patience.silence);
        self.interrupt.watch(connection.stream());
        Ok(connection)
    }

    /// Whether the line to this address is to be encrypted.
    pub(super) fn is_encrypted(&self, addr: SocketAddr) -> bool {
        self.settings.security.encrypt.applies(addr.ip()) || self.lines.everywhere
    }

    /// A server takes no line in the clear, also from this machine: whether the next one will be another.
    pub(super) fn encrypt_from_now(&mut self) -> bool {
        self.settings.security.encrypt != Encrypt::Never && !std::mem::replace(&mut self.lines.everywhere, true)
    }

    fn dial_encrypted(&mut self, addr: SocketAddr, patience: Patience) -> Result<Connection, Trouble> {
        let trust = self.trust().map_err(Trouble::Stopped)?;
        let dialer = match &self.lines.dialer {
            Some(dialer) => dialer,
            None => self.lines.dialer.insert(Dialer::new(self.settings.security.encrypt).map_err(|e| gone(&e))?),
        };
        // What a redirect names is known by its address alone.
        let named = self.master.iter().chain([&self.settings.host]).find(|host| host.addresses().is_ok_and(|all| all.contains(&addr)));
        let host = named.map_or_else(|| addr.ip().to_canonical().to_string(), |host| host.name.clone());
        let connection = dialer.connect_encrypted(addr, patience.connect, &trust, &host).map_err(|e| match e {
            DialError::Io(e) => gone(&e),
            DialError::Clear => {
                let why = format!("{addr} {e}: it needs to be started without --tls never, or this program with it");
                Trouble::Stopped(Failure::new(ErrorCode::NotTrusted, why))
            }
            DialError::Trust(e) => Trouble::Stopped(self.not_trusted(addr, &e)),
        })?;
        if let (Trust::FirstMeeting, Some(identity)) = (&trust, connection.secured().and_then(|secured| secured.identity)) {
            self.remember(identity.authority);
        }
        Ok(connection)
    }

    /// Whom to trust.
    fn trust(&mut self) -> Result<Trust, Failure> {
        if let Some(chosen) = &self.settings.security.chosen {
            return Ok(Trust::Chosen(chosen.clone()));
        }
        if self.lines.authority.is_none()
            && let Some(memory) = &self.memory
        {
            // One that cannot be read is not taken for one that was never there.
            self.lines.authority = memory.authority().map_err(|why| {
                let why = format!("{why}: whom to trust is not known; --ca says it as well");
                Failure::new(ErrorCode::NotTrusted, why)
            })?;
        }
        Ok(self.lines.authority.map_or(Trust::FirstMeeting, Trust::Known))
    }

    /// The first meeting with the authority of these servers.
    fn remember(&mut self, authority: Fingerprint) {
        self.lines.authority = Some(authority);
        let host = &self.settings.host;
        let kept =
            self.memory.as_ref().map_or_else(|| Err("there is no home folder".to_owned()), |memory| memory.keep_authority(authority));
        match kept {
            Ok(place) => {
                self.notices.say(&format!("first encrypted meeting with {host}: its authority is {authority}, remembered in {place}"))
            }
            Err(why) => {
                self.notices.say(&format!("first encrypted meeting with {host}: its authority is {authority}; not remembered: {why}"))
            }
        }
    }

    fn not_trusted(&self, addr: SocketAddr, error: &TrustError) -> Failure {
        let host = &self.settings.host;
        let mut why = format!("the server at {addr} is NOT TRUSTED: {error}");
        if let (TrustError::Changed { .. }, Some(memory)) = (error, &self.memory) {
            why += &format!(
                ". Somebody else may be answering there. Only if you know that the servers of {host} have got another authority, \
                 remove the line of {host} from {}",
                memory.authorities_file()
            );
        }
        Failure::new(ErrorCode::NotTrusted, why)
    }
}

fn gone(error: &io::Error) -> Trouble {
    Trouble::Gone(if error.kind() == io::ErrorKind::TimedOut { "no answer in time".to_owned() } else { plain(error) })
}
