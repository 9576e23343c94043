//! Which sessions one connection lets its peer resume, and which it resumes.
//!
//! A ticket also has the id of the connection for which it was issued. By that id a data connection
//! proves that its peer is that of the control connection. Peers without tickets resume by a
//! session id, for which the control connection stores its own session.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustls::server::{ProducesTickets, StoresServerSessions};

use super::tickets::{EPOCH, TicketSecret, random};

/// Identifies the connection for which a ticket was issued.
type ConnectionId = [u8; 16];

/// Which side of a data connection sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataDirection {
    /// This side. The peer reads, so it gets a new ticket at once: some use each ticket once.
    Sending,
    /// The peer. It could leave a ticket unread, and its socket would then reset the connection
    /// instead of closing it. So it gets a new ticket after its closing alert, if it still reads.
    Receiving,
}

/// The sessions of one connection.
#[derive(Debug)]
pub(crate) struct Resumption {
    secret: TicketSecret,
    purpose: Purpose,
    /// The connection whose ticket was decrypted last.
    presented: Mutex<Option<ConnectionId>>,
    /// Whether the session of that ticket was resumed.
    is_confirmed: AtomicBool,
    /// The session of this connection, with its session id (TLS 1.2).
    stored: Mutex<Option<(Vec<u8>, Vec<u8>)>>,
}

#[derive(Debug)]
enum Purpose {
    /// Issue tickets with this id, and accept all.
    Control(ConnectionId),
    /// Accept the sessions of one control connection.
    Data(Option<DataSessions>, DataDirection),
}

/// The sessions that a data connection accepts.
#[derive(Debug)]
struct DataSessions {
    control: Arc<Resumption>,
    /// The connections whose tickets the client of the control connection has.
    ids: Vec<ConnectionId>,
}

impl Resumption {
    /// Lets later connections resume the session of this one.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn of_control(secret: TicketSecret) -> io::Result<Self> {
        Ok(Self::new(secret, Purpose::Control(random()?)))
    }

    /// Lets a data connection resume the session of `control`.
    ///
    /// `is_resumed`: whether `control` has itself resumed an earlier session, whose tickets its
    /// client may still use.
    pub fn of_data(
        secret: TicketSecret,
        control: Option<(&Arc<Self>, bool)>,
        direction: DataDirection,
    ) -> Self {
        let sessions = control.map(|(control, is_resumed)| {
            let own = match control.purpose {
                Purpose::Control(id) => Some(id),
                Purpose::Data(..) => None,
            };
            let earlier = control.presented.lock().filter(|_| is_resumed);
            let ids = own.into_iter().chain(earlier).collect();
            DataSessions { control: control.clone(), ids }
        });
        Self::new(secret, Purpose::Data(sessions, direction))
    }

    fn new(secret: TicketSecret, purpose: Purpose) -> Self {
        let (presented, stored) = (Mutex::default(), Mutex::default());
        Self { secret, purpose, presented, is_confirmed: AtomicBool::new(false), stored }
    }

    /// Notes that the session of the presented ticket is being resumed.
    ///
    /// Before, a ticket proves nothing: another peer may have seen it on the network.
    pub fn confirm(&self) {
        self.is_confirmed.store(true, Ordering::Relaxed);
    }

    fn is_confirmed(&self) -> bool {
        self.is_confirmed.load(Ordering::Relaxed)
    }

    /// Whether new tickets are sent only with the closing alert.
    pub fn holds_tickets(&self) -> bool {
        matches!(self.purpose, Purpose::Data(_, DataDirection::Receiving))
    }

    /// Whether it is that of a control connection.
    pub fn is_control(&self) -> bool {
        matches!(self.purpose, Purpose::Control(_))
    }

    fn stored(&self, key: &[u8]) -> Option<Vec<u8>> {
        let stored = self.stored.lock();
        stored.as_ref().filter(|(id, _)| id == key).map(|(_, session)| session.clone())
    }
}

impl ProducesTickets for Resumption {
    fn enabled(&self) -> bool {
        // TLS 1.2 asks between the decryption of a ticket and its confirmation. No empty new ticket
        // must replace the one that was accepted.
        self.is_control() || self.is_confirmed() || self.presented.lock().is_none()
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(EPOCH.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        match &self.purpose {
            Purpose::Control(id) => self.secret.encrypt([id, plain].concat()),
            Purpose::Data(Some(sessions), _) if self.is_confirmed() => {
                self.secret.encrypt([sessions.ids.first()?, plain].concat())
            }
            Purpose::Data(..) => None,
        }
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let mut plain = self.secret.decrypt(ticket)?;
        let id = *plain.first_chunk()?;
        if let Purpose::Data(sessions, _) = &self.purpose
            && !sessions.as_ref()?.ids.contains(&id)
        {
            return None;
        }
        *self.presented.lock() = Some(id);
        plain.drain(..id.len());
        Some(plain)
    }
}

impl StoresServerSessions for Resumption {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        if self.is_control() {
            *self.stored.lock() = Some((key, value));
        }
        self.is_control()
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        match &self.purpose {
            Purpose::Data(Some(sessions), _) => sessions.control.stored(key),
            // The process that a new control connection reaches may be another one.
            Purpose::Control(_) | Purpose::Data(None, _) => None,
        }
    }

    /// For TLS 1.3, which resumes by tickets here.
    fn take(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn can_cache(&self) -> bool {
        self.is_control()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_tickets_are_those_of_their_control_connection() {
        let secret = TicketSecret::generate().unwrap();
        let control = || Arc::new(Resumption::of_control(secret.clone()).unwrap());
        let (own, other) = (control(), control());
        let [ours, theirs] = [&own, &other].map(|tickets| tickets.encrypt(b"session").unwrap());
        for direction in [DataDirection::Sending, DataDirection::Receiving] {
            let data = Resumption::of_data(secret.clone(), Some((&own, false)), direction);
            assert_eq!(data.decrypt(&theirs), None);
            assert!(data.enabled());
            assert_eq!(data.decrypt(&ours).as_deref(), Some(&b"session"[..]));
            assert!(!data.enabled() && data.encrypt(b"session").is_none(), "not confirmed");
            data.confirm();
            let next = data.encrypt(b"session").filter(|_| data.enabled()).unwrap();
            assert!(data.decrypt(&next).is_some());
            assert_eq!(data.holds_tickets(), direction == DataDirection::Receiving);
        }
        // The client of `own` has resumed the session of `other`.
        assert!(own.decrypt(&theirs).is_some());
        for is_resumed in [false, true] {
            let control = Some((&own, is_resumed));
            let data = Resumption::of_data(secret.clone(), control, DataDirection::Sending);
            assert_eq!(data.decrypt(&theirs).is_some(), is_resumed);
        }
    }

    #[test]
    fn a_stored_session_belongs_to_its_control_connection() {
        let secret = TicketSecret::generate().unwrap();
        let [own, other] =
            [(); 2].map(|()| Arc::new(Resumption::of_control(secret.clone()).unwrap()));
        assert!(own.put(vec![1], vec![2]) && own.can_cache() && own.get(&[1]).is_none());
        let data = |control| {
            Resumption::of_data(secret.clone(), Some((control, false)), DataDirection::Sending)
        };
        assert_eq!(data(&own).get(&[1]), Some(vec![2]));
        assert_eq!((data(&own).get(&[3]), data(&other).get(&[1])), (None, None));
        assert!(!data(&own).put(vec![1], vec![3]) && !data(&own).can_cache());
    }
}
