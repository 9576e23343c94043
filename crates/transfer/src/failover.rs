//! The failover policy of downloads, uploads, streams, pipelines, requests and connects.
//!
//! It decides what follows a failed try: the action, the pause before it, and the end. No loop has
//! rules of its own. The decision is pure: the caller passes the time.
//!
//! | failure | action | end |
//! |---|---|---|
//! | connection lost, silent or too slow | another server | see below |
//! | violation of the protocol | another server | the third one |
//! | answer [`Fault::Elsewhere`] | a holder of the content | `--retry`, at least 5 s |
//! | error answer | by [`action`] | by its action |
//!
//! | action | end | pause |
//! |---|---|---|
//! | failover, log in | 16 tries in a row with less than 30 KiB, or 15 s (`--retry` if longer) without a byte | from the second in a row, within `--retry` |
//! | restart, elsewhere | the fourth for one content | none |
//! | leave, redirect | `--retry` (redirect: at least 5 s) | if no other server can be used, or after four in a row |
//! | find space | each server is asked once | none |
//!
//! Pauses begin with 100 ms and double up to 1 s. While no server can be connected to, all known
//! servers are tried in rounds, with a pause after each, until `--retry` is over.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::debug;
use relais_proto::{ErrorCode, limits};

use crate::action::{Action, Purpose, action};
use crate::error::{Fault, TransferError};
use crate::sessions::Sessions;

/// Lost connections in a row that brought less than [`limits::RATE_FLOOR`] bytes each.
const MAX_FAILURES: u32 = 16;
/// Shortest time for tries without any progress.
///
/// Each may last for [`limits::SILENCE`], and a user should wait for less than half a minute.
const RETRY_TIME: Duration = Duration::from_secs(15);
/// Violations of the protocol before a server is reported.
const MAX_VIOLATIONS: u32 = 3;
/// Useless results for one content: replaced meanwhile, damaged, or unreadable.
pub(crate) const MAX_USELESS: u32 = 4;
/// Moves to working servers in a row without a pause; more of them may be a circle.
const MOVES_AT_ONCE: u32 = 4;
/// Shortest wait for content without a holder, because it may be on its way.
const CONTENT_TIME: Duration = Duration::from_secs(5);
/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// Interval of checks for an interruption.
const INTERRUPT_CHECK: Duration = Duration::from_millis(50);

/// The `count`th pause; none for 0.
fn backoff(count: u32) -> Duration {
    match count.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => (FIRST_PAUSE * (1 << doublings.min(8))).min(LAST_PAUSE),
    }
}

/// One try, as the policy has to know it.
pub struct Try<'a> {
    /// What was requested.
    pub purpose: Purpose,
    /// The server, if one was reached.
    pub server: Option<SocketAddr>,
    /// Whether an answer is unfinished, so the connection is unusable for other requests.
    pub unfinished: bool,
    /// Whether the request can be repeated. If not, its first failure ends it.
    pub repeatable: bool,
    /// Returns whether the user has interrupted.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// The state of the policy for one transfer or request, from its first try to its end.
#[derive(Debug, Default)]
pub struct Failover {
    retry: Duration,
    /// Failures in a row, and when the first one without any progress was.
    failures: u32,
    failing_since: Option<Instant>,
    violations: u32,
    useless: u32,
    /// Moves in a row to working servers, and when the first one was.
    moves: u32,
    moving_since: Option<Instant>,
    without_space: Vec<SocketAddr>,
    /// The last server that served the request, and whether its connection was lost since.
    served: Option<SocketAddr>,
    lost: bool,
}

impl Failover {
    /// Makes the policy for a request that is retried for `retry` (`--retry`).
    #[must_use]
    pub fn new(retry: Duration) -> Self {
        Self { retry, ..Self::default() }
    }

    /// Makes the policy for connecting, which begins at `now`. See [`Self::next_round`].
    #[must_use]
    pub fn connecting(retry: Duration, now: Instant) -> Self {
        Self { failing_since: Some(now), ..Self::new(retry) }
    }

    /// Records `bytes` of progress since the last failure.
    pub fn gained(&mut self, bytes: u64) {
        if bytes > 0 {
            self.failing_since = None;
        }
        if bytes >= limits::RATE_FLOOR {
            self.failures = 0;
        }
    }

    /// Records that the request was served, so a later move to another server begins anew.
    pub fn arrived(&mut self) {
        (self.moves, self.moving_since) = (0, None);
    }

    /// Records the server that serves from now on; returns the lost one that it replaces.
    ///
    /// Both are the same if the same server was reached again.
    pub fn served_by(&mut self, server: SocketAddr) -> Option<SocketAddr> {
        let before = self.served.replace(server);
        before.filter(|_| std::mem::take(&mut self.lost))
    }

    /// Decides what follows `fault` at `now`: the action, and the pause before the next try.
    ///
    /// The pause is `None` if there is no next try.
    fn decide(
        &mut self,
        fault: &Fault,
        purpose: Purpose,
        server: Option<SocketAddr>,
        now: Instant,
    ) -> (Action, Option<Duration>) {
        let action = match fault {
            Fault::Fatal(_) => Action::Stop,
            Fault::Lost(_) => Action::Failover,
            Fault::Elsewhere(_) if purpose == Purpose::Read => Action::Redirect,
            Fault::Violation(_) | Fault::Elsewhere(_) => {
                self.violations += 1;
                if self.violations >= MAX_VIOLATIONS {
                    return (Action::Failover, None);
                }
                Action::Failover
            }
            Fault::Refused(refusal) => match action(refusal.code, purpose) {
                // Another server has served the request, so this server may be wrong.
                Action::Stop if purpose == Purpose::Read && self.is_other(server) => {
                    Action::Failover
                }
                action => action,
            },
        };
        let pause = match action {
            Action::Stop => None,
            Action::Restart | Action::Elsewhere => {
                self.useless += 1;
                (self.useless < MAX_USELESS).then_some(Duration::ZERO)
            }
            Action::Failover | Action::LogIn => self.after_failure(now),
            Action::Leave => self.after_move(self.retry, now),
            Action::Redirect => self.after_move(self.retry.max(CONTENT_TIME), now),
            Action::FindSpace => {
                let is_new = server.is_some_and(|server| !self.without_space.contains(&server));
                self.without_space.extend(server);
                is_new.then_some(Duration::ZERO)
            }
        };
        (action, pause)
    }

    /// Returns whether another server than this one has served the request.
    fn is_other(&self, server: Option<SocketAddr>) -> bool {
        self.served.is_some() && self.served != server
    }

    fn after_failure(&mut self, now: Instant) -> Option<Duration> {
        self.failures += 1;
        let failing = now.duration_since(*self.failing_since.get_or_insert(now));
        (self.failures < MAX_FAILURES && failing < self.retry.max(RETRY_TIME))
            .then(|| backoff(self.failures - 1).min(self.retry.saturating_sub(failing)))
    }

    fn after_move(&mut self, budget: Duration, now: Instant) -> Option<Duration> {
        self.moves += 1;
        let moving = now.duration_since(*self.moving_since.get_or_insert(now));
        (self.moves == 1 || moving < budget)
            .then(|| backoff(self.moves.saturating_sub(MOVES_AT_ONCE)))
    }

    /// Returns the pause before all known servers are tried again, after none could be used.
    ///
    /// `code` is that of the most telling failure. `None` if there is no further round.
    pub fn next_round(&mut self, code: ErrorCode, now: Instant) -> Option<Duration> {
        let is_temporary = code == ErrorCode::Unreachable
            || code != ErrorCode::BadServer
                && matches!(action(code, Purpose::Read), Action::Failover | Action::Leave);
        let trying = now.duration_since(*self.failing_since.get_or_insert(now));
        let left = self.retry.saturating_sub(trying);
        self.failures += 1;
        (is_temporary && !left.is_zero()).then(|| backoff(self.failures).min(left))
    }

    /// Decides what follows `fault`, and prepares `sessions` for the next try.
    ///
    /// # Errors
    /// The error that ends the transfer or request.
    pub fn recover(
        &mut self,
        sessions: &mut dyn Sessions,
        fault: Fault,
        tried: &Try<'_>,
    ) -> Result<Action, TransferError> {
        // A socket that was shut down by an interruption looks like a lost one.
        if (tried.interrupted)() {
            if tried.unfinished {
                sessions.abandon();
            }
            return Err(TransferError::Interrupted);
        }
        let why = fault.to_string();
        let (action, pause) = self.decide(&fault, tried.purpose, tried.server, Instant::now());
        let pause = pause.filter(|_| tried.repeatable);
        debug!("{action:?} after {pause:?}: {why}");
        let Some(mut pause) = pause else {
            match (action, &fault) {
                (Action::Failover | Action::LogIn, _) => sessions.failed(&why),
                // The server may close the connection after this error.
                (_, Fault::Refused(refusal)) if refusal.code == ErrorCode::BadName => {
                    sessions.abandon();
                }
                _ if tried.unfinished => sessions.abandon(),
                _ => {}
            }
            return Err(self.end(action, fault));
        };
        let mut moved = true;
        match action {
            Action::Failover | Action::Elsewhere => sessions.failed(&why),
            // A server that rejects a new login as well has failed.
            Action::LogIn if self.failures > 1 => sessions.failed(&why),
            // The first time may be due to the bytes of an earlier upload.
            Action::Restart if tried.purpose == Purpose::Change && self.useless > 1 => {
                sessions.failed(&why);
            }
            Action::Restart if tried.unfinished => sessions.abandon(),
            Action::Restart | Action::Stop => {}
            Action::LogIn => sessions.abandon(),
            Action::Leave | Action::Redirect => {
                if tried.unfinished {
                    sessions.abandon();
                }
                moved = match &fault {
                    Fault::Elsewhere(holders) => sessions.elsewhere(holders),
                    _ if action == Action::Redirect => sessions.elsewhere(&[]),
                    _ => sessions.leave(&why),
                };
            }
            Action::FindSpace => {
                if !sessions.full(&why) {
                    if tried.unfinished {
                        sessions.abandon();
                    }
                    return Err(fault.into());
                }
            }
        }
        self.lost |= match action {
            Action::Failover | Action::Elsewhere | Action::FindSpace => true,
            Action::LogIn => self.failures > 1,
            _ => false,
        };
        if !moved {
            pause = pause.max(backoff(self.moves));
        }
        wait(pause, tried.interrupted);
        Ok(action)
    }

    /// Returns the error for a fault after which there is no further try.
    fn end(&self, action: Action, fault: Fault) -> TransferError {
        match fault {
            Fault::Refused(refusal) => match action {
                Action::Failover | Action::LogIn => TransferError::Unreachable(refusal.message),
                Action::Redirect => Fault::Elsewhere(Vec::new()).into(),
                Action::FindSpace if self.without_space.len() > 1 => TransferError::refused(
                    refusal.code,
                    format!("{}; no other slave in service has room", refusal.message),
                ),
                _ => TransferError::Refused(refusal),
            },
            other => other.into(),
        }
    }
}

/// Waits for `pause`, or until the user interrupts.
fn wait(pause: Duration, interrupted: &dyn Fn() -> bool) {
    let until = Instant::now() + pause;
    while !interrupted() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(INTERRUPT_CHECK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_proto::Refusal;

    const RETRY: Duration = Duration::from_secs(30);

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn lost() -> Fault {
        Fault::Lost("gone".to_owned())
    }

    fn refused(code: ErrorCode) -> Fault {
        Fault::Refused(Refusal::new(code, code.text()))
    }

    /// Decides about `fault` once a second until the end; returns the pauses in milliseconds.
    fn pauses(failover: &mut Failover, purpose: Purpose, fault: &Fault) -> Vec<u128> {
        let start = Instant::now();
        (0..)
            .map_while(|n| {
                let now = start + Duration::from_secs(n);
                failover.decide(fault, purpose, Some(addr(1)), now).1
            })
            .map(|pause| pause.as_millis())
            .collect()
    }

    #[test]
    fn failures_end_by_count_or_time() {
        let mut failover = Failover::new(RETRY);
        let all = pauses(&mut failover, Purpose::Read, &lost());
        assert_eq!(all.len(), MAX_FAILURES as usize - 1);
        assert_eq!(all[..6], [0, 100, 200, 400, 800, 1000]);
        // 15 s without `--retry`, and then no pauses.
        let all = pauses(&mut Failover::new(Duration::ZERO), Purpose::Change, &lost());
        assert_eq!(all, [0; 15]);
        // The pauses never exceed `--retry`.
        let all = pauses(&mut Failover::new(Duration::from_secs(2)), Purpose::Read, &lost());
        assert_eq!((&all[..3], all[3..].iter().sum::<u128>()), (&[0, 100, 0][..], 0));
    }

    #[test]
    fn progress_begins_anew() {
        let (mut failover, start) = (Failover::new(RETRY), Instant::now());
        let mut decide = |n: u32, bytes| {
            failover.gained(bytes);
            let now = start + Duration::from_secs(10) * n;
            failover.decide(&lost(), Purpose::Read, None, now).1
        };
        assert!((1..100).all(|n| decide(n, limits::RATE_FLOOR) == Some(Duration::ZERO)));
        // A little progress resets the time, but not the count.
        let count = (100..).take_while(|n| decide(*n, 1).is_some()).count();
        assert_eq!(count, MAX_FAILURES as usize - 2);
    }

    #[test]
    fn violations_and_useless_results_are_few() {
        let start = Instant::now();
        let count = |fault: &Fault, purpose, expected: Action| {
            let mut failover = Failover::new(RETRY);
            (1..)
                .take_while(|_| {
                    // Progress does not help.
                    failover.gained(u64::MAX);
                    let (action, pause) = failover.decide(fault, purpose, Some(addr(1)), start);
                    assert_eq!(action, expected);
                    pause.is_some()
                })
                .count()
        };
        let violation = Fault::Violation("lies".to_owned());
        assert_eq!(count(&violation, Purpose::Read, Action::Failover), 2);
        let holders = Fault::Elsewhere(Vec::new());
        assert_eq!(count(&holders, Purpose::Change, Action::Failover), 2);
        assert_eq!(count(&refused(ErrorCode::Changed), Purpose::Read, Action::Restart), 3);
        assert_eq!(count(&refused(ErrorCode::Damaged), Purpose::Read, Action::Elsewhere), 3);
        assert_eq!(count(&refused(ErrorCode::Damaged), Purpose::Change, Action::Restart), 3);
        assert_eq!(count(&refused(ErrorCode::NotFound), Purpose::Read, Action::Stop), 0);
        assert_eq!(count(&refused(ErrorCode::NoSpace), Purpose::Change, Action::FindSpace), 1);
    }

    #[test]
    fn moves_end_with_the_retry_time() {
        let behind = refused(ErrorCode::Behind);
        assert_eq!(pauses(&mut Failover::new(Duration::ZERO), Purpose::Read, &behind), [0]);
        let mut failover = Failover::new(Duration::from_secs(7));
        let all = pauses(&mut failover, Purpose::Change, &refused(ErrorCode::NoChanges));
        assert_eq!(all, [0, 0, 0, 0, 100, 200, 400]);
        failover.arrived();
        assert_eq!(pauses(&mut failover, Purpose::Change, &behind).len(), 7);
        // Content may be on its way.
        let holders = Fault::Elsewhere(Vec::new());
        assert_eq!(pauses(&mut Failover::new(Duration::ZERO), Purpose::Read, &holders).len(), 5);
    }

    #[test]
    fn a_server_that_served_is_believed_more() {
        let (mut failover, now) = (Failover::new(RETRY), Instant::now());
        let gone = refused(ErrorCode::NotFound);
        assert_eq!(failover.served_by(addr(1)), None);
        let mut of = |server, purpose| failover.decide(&gone, purpose, Some(addr(server)), now).0;
        assert_eq!(of(1, Purpose::Read), Action::Stop);
        assert_eq!(of(2, Purpose::Read), Action::Failover);
        assert_eq!(of(2, Purpose::Change), Action::Stop);
    }

    #[test]
    fn rounds_pause_until_the_retry_time_ends() {
        let start = Instant::now();
        let mut failover = Failover::connecting(Duration::from_secs(2), start);
        let mut round = |code, ms| {
            let now = start + Duration::from_millis(ms);
            failover.next_round(code, now).map(|pause| pause.as_millis())
        };
        assert_eq!(round(ErrorCode::Unreachable, 0), Some(100));
        assert_eq!(round(ErrorCode::NoSlave, 500), Some(200));
        assert_eq!(round(ErrorCode::Busy, 1900), Some(100));
        for code in [ErrorCode::LoginRefused, ErrorCode::BadServer, ErrorCode::NotTrusted] {
            assert_eq!(round(code, 1900), None, "{code}");
        }
        assert_eq!(round(ErrorCode::Unreachable, 2000), None);
    }
}
