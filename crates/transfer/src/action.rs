//! What follows an error answer: the table of the failover policy. Pure.
//!
//! | answer | reading content | changing the tree |
//! |---|---|---|
//! | class `never`, `done` | stop | stop |
//! | class `login` | log in again | log in again |
//! | `changed` | restart | stop: the precondition is not met |
//! | `bad-offset` | restart | restart |
//! | `damaged` | another server | restart |
//! | `conflict` | stop | stop: another id is needed |
//! | `storage` | another server | another server |
//! | `no-content` | a holder of the content | stop |
//! | `no-changes`, `behind` | another server, which this one is not blamed for | the same |
//! | `no-space` | stop | another server; each is asked once |
//! | other codes of class `later`, `elsewhere` | another server; this one failed | the same |
//!
//! [`Failover`](crate::Failover) adds what codes cannot say: a lost connection and a violation of
//! the protocol lead to another server as well.

use relais_proto::{ErrorCode, RetryClass};

/// Whether a request reads, or changes the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It changes nothing.
    Read,
    /// It stores content, or changes names. It carries an id, so a repetition is harmless.
    Change,
}

/// What follows a failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The error is final.
    Stop,
    /// Repeat at the same server, from the start of the content.
    Restart,
    /// Repeat after a new login. The server is not at fault.
    LogIn,
    /// Repeat at another server. This one has failed, and is avoided for a while.
    Failover,
    /// As [`Self::Failover`], but the fault is about this content only.
    Elsewhere,
    /// Repeat at another server. This one works, and may be used again soon.
    Leave,
    /// Repeat at a server that holds the content.
    Redirect,
    /// Repeat at a server that has space.
    FindSpace,
}

/// Returns what follows an error answer.
#[must_use]
pub fn action(code: ErrorCode, purpose: Purpose) -> Action {
    use ErrorCode::{BadOffset, Behind, Changed, Damaged, NoChanges, NoContent, NoSpace, Storage};
    match (code, purpose) {
        (Changed, Purpose::Read) | (BadOffset, _) | (Damaged, Purpose::Change) => Action::Restart,
        (Damaged, Purpose::Read) | (Storage, _) => Action::Elsewhere,
        (Behind | NoChanges, _) => Action::Leave,
        (NoContent, Purpose::Read) => Action::Redirect,
        (NoSpace, Purpose::Change) => Action::FindSpace,
        (NoContent | NoSpace, _) => Action::Stop,
        _ => match code.retry() {
            RetryClass::Never | RetryClass::Done | RetryClass::Restart => Action::Stop,
            RetryClass::Login => Action::LogIn,
            RetryClass::Later | RetryClass::Elsewhere => Action::Failover,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_action() {
        use Action::{Elsewhere, Failover, FindSpace, Leave, LogIn, Redirect, Restart, Stop};
        for code in ErrorCode::ALL {
            let expected = match code.text() {
                "login-needed" | "bad-ticket" => (LogIn, LogIn),
                "changed" => (Restart, Stop),
                "bad-offset" => (Restart, Restart),
                "damaged" => (Elsewhere, Restart),
                "storage" => (Elsewhere, Elsewhere),
                "behind" | "no-changes" => (Leave, Leave),
                "no-content" => (Redirect, Stop),
                "no-space" => (Stop, FindSpace),
                "busy" | "no-slave" | "draining" | "timed-out" => (Failover, Failover),
                // Clients use them for their own failures.
                "unreachable" | "cut" | "bad-server" => (Failover, Failover),
                _ => (Stop, Stop),
            };
            let actual = (action(*code, Purpose::Read), action(*code, Purpose::Change));
            assert_eq!(actual, expected, "{code}");
        }
    }
}
