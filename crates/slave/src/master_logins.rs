//! A worker's way to the master for logins: asks through the replicator, and matches the answers.
//!
//! The worker's main thread receives the answers. The threads of sessions ask and wait.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use log::{debug, error};
use parking_lot::Mutex;
use relais_engine::{IssuedTicket, MasterAnswer, MasterLogins, MasterQuery};
use relais_os::ProcessMailbox;
use relais_proto::{ErrorCode, ForwardedLogin, LinkMessage, Refusal, TicketRenewal, limits};

use crate::context::SlaveContext;
use crate::login_message::{LoginMessage, query_number};

/// Passwords of one worker whose result is not known yet.
const PASSWORDS: usize = 64;
/// Longest time for which a renewal waits for space in the replicator's mailbox.
const SEND_TIME: Duration = Duration::from_secs(1);
/// Time between two attempts to send a renewal.
const SEND_RETRY: Duration = Duration::from_millis(5);

/// The queries of one worker.
pub struct WorkerLogins {
    worker: usize,
    context: Arc<SlaveContext>,
    /// Whether all listeners of this slave are on loopback.
    is_local: bool,
    open: Mutex<OpenQueries>,
}

struct OpenQueries {
    /// The number of the last query.
    last: u64,
    asked: HashMap<u64, OpenQuery>,
}

struct OpenQuery {
    to: Sender<MasterAnswer>,
    is_password: bool,
    until: Instant,
}

impl WorkerLogins {
    /// Makes the queries of a worker. Call it in the worker, after the fork.
    ///
    /// # Errors
    /// The system provides no random bytes.
    pub fn new(worker: usize, context: Arc<SlaveContext>, is_local: bool) -> io::Result<Self> {
        // Answers to a former worker with this index must match none of these queries.
        let last = u64::from_ne_bytes(relais_os::random()?);
        let open = Mutex::new(OpenQueries { last, asked: HashMap::new() });
        Ok(Self { worker, context, is_local, open })
    }

    fn answers(&self) -> &ProcessMailbox<LoginMessage> {
        self.context.logins.of_worker(self.worker)
    }

    /// The descriptor that is readable when an answer has come.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.answers().as_fd()
    }

    /// Passes the answers that have come to those who wait for them.
    pub fn receive(&self) {
        for LoginMessage { query, message } in self.answers().take() {
            let answer = match message {
                LinkMessage::TicketIssued { lsn, ticket, .. } => Ok(IssuedTicket { ticket, lsn }),
                LinkMessage::LoginRefused { why, .. } => Err(why),
                _ => continue,
            };
            match self.open.lock().asked.remove(&query) {
                // The client may have gone.
                Some(open) => drop(open.to.send(answer)),
                None => debug!("an answer to a login came too late"),
            }
        }
    }

    /// Sends a query. A renewal waits while the mailbox is full, because its session waits anyway.
    fn send(&self, message: &LoginMessage, is_password: bool) -> io::Result<()> {
        let until = Instant::now() + SEND_TIME;
        loop {
            match self.context.logins.to_master.send(message) {
                Err(e)
                    if e.kind() == io::ErrorKind::WouldBlock
                        && !is_password
                        && Instant::now() < until =>
                {
                    std::thread::sleep(SEND_RETRY);
                }
                sent => return sent,
            }
        }
    }

    fn message(&self, number: u64, query: MasterQuery<'_>) -> LinkMessage {
        let local = self.is_local;
        match query {
            MasterQuery::LogIn { user, password, address } => {
                LinkMessage::ForwardedLogin(ForwardedLogin {
                    query: number,
                    client: SocketAddr::new(address, 0),
                    local,
                    user: user.to_owned(),
                    password: password.into(),
                })
            }
            MasterQuery::Renew { ticket, address } => LinkMessage::TicketRenewal(TicketRenewal {
                query: number,
                client: SocketAddr::new(address, 0),
                local,
                ticket: ticket.to_vec(),
            }),
        }
    }
}

impl MasterLogins for WorkerLogins {
    fn ask(&self, query: MasterQuery<'_>) -> Result<Receiver<MasterAnswer>, Refusal> {
        if let MasterQuery::LogIn { user, password, .. } = query
            && (user.len() > limits::USER || password.len() > limits::PASSWORD)
        {
            let message = "user or password are wrong";
            return Err(Refusal::new(ErrorCode::LoginRefused, message));
        }
        let is_password = matches!(query, MasterQuery::LogIn { .. });
        let (number, answer) = self.open.lock().begin(self.worker, is_password)?;
        let sent = LoginMessage::new(self.message(number, query))
            .map_or(Ok(()), |message| self.send(&message, is_password));
        sent.map_err(|e| {
            self.open.lock().asked.remove(&number);
            if e.kind() != io::ErrorKind::WouldBlock {
                error!("cannot send a login to the replicator: {e}");
            }
            busy()
        })?;
        Ok(answer)
    }
}

impl OpenQueries {
    fn begin(
        &mut self,
        worker: usize,
        is_password: bool,
    ) -> Result<(u64, Receiver<MasterAnswer>), Refusal> {
        let now = Instant::now();
        self.asked.retain(|_, open| open.until > now);
        let passwords = self.asked.values().filter(|open| open.is_password).count();
        if is_password && passwords >= PASSWORDS {
            return Err(busy());
        }
        self.last = self.last.wrapping_add(1);
        let number = query_number(worker, self.last);
        let (to, answer) = channel();
        let open = OpenQuery { to, is_password, until: now + limits::LOGIN_TIME };
        self.asked.insert(number, open);
        Ok((number, answer))
    }
}

fn busy() -> Refusal {
    let message = "too many logins wait; try again in 1 s";
    Refusal { retry_after: 1, ..Refusal::new(ErrorCode::Busy, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queries() -> OpenQueries {
        OpenQueries { last: u64::MAX, asked: HashMap::new() }
    }

    #[test]
    fn passwords_that_wait_are_limited_and_renewals_are_not() {
        let mut open = queries();
        let answers: Vec<_> = (0..PASSWORDS).map(|_| open.begin(1, true).unwrap()).collect();
        assert_eq!(open.begin(1, true).unwrap_err().code, ErrorCode::Busy);
        assert!(open.begin(1, false).is_ok());
        open.asked.remove(&answers[0].0);
        assert!(open.begin(1, true).is_ok());
    }

    #[test]
    fn queries_without_an_answer_are_forgotten() {
        let mut open = queries();
        let (number, answer) = open.begin(1, true).unwrap();
        open.asked.get_mut(&number).unwrap().until = Instant::now();
        open.begin(1, true).unwrap();
        assert!(!open.asked.contains_key(&number));
        assert!(answer.recv().is_err(), "its client is told at once");
    }
}
