//! Common parts of all pipelined conversations with a server: their end and their notices.

use std::net::SocketAddr;

use relais_proto::{ChangeId, TreePath};
use relais_transfer::pipeline::{PipelineError, PipelineHandler, PipelineStats, run};

use crate::interrupt::Interrupt;
use crate::notices::Notices;
use crate::session::Session;
use crate::shell::Shell;
use crate::{Failure, Result};

/// The notices and the interruption state that a conversation uses.
pub struct ConversationContext {
    /// Standard error.
    pub notices: Notices,
    /// State of Ctrl-C.
    pub interrupt: Interrupt,
}

impl ConversationContext {
    /// Clones the shell's.
    pub fn new(shell: &Shell) -> Self {
        Self { notices: shell.notices.clone(), interrupt: shell.interrupt.clone() }
    }

    /// Tells the user in one line that another server has taken over.
    pub fn moved(&self, from: SocketAddr, to: SocketAddr) {
        let why = self.notices.take_lost_reason();
        self.notices.say(&format!("lost {from} ({why}); continuing with {to}"));
    }

    /// Whether the user pressed Ctrl-C.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.interrupt.is_raised()
    }
}

/// Runs a conversation to its end.
///
/// # Errors
/// No server answers, the user interrupted, or an answer ended the conversation.
pub fn run_conversation(
    session: &mut Session,
    notices: &Notices,
    conversation: &mut dyn PipelineHandler,
) -> Result<PipelineStats> {
    let ran = run(session, conversation)?;
    // The conversation does not learn of a server that failed before its first answer.
    if let (Some(gone), Some((now, _))) = (notices.take_lost(), session.server()) {
        notices.say(&format!("lost {} ({}); continuing with {now}", gone.addr, gone.why));
    }
    Ok(ran)
}

/// Returns the error that ends a conversation with `failure`.
pub fn stopped(failure: Failure) -> PipelineError {
    failure.into()
}

/// Joins `path` to `base`.
///
/// # Errors
/// The joined path is too long.
pub fn under(base: &TreePath, path: &TreePath) -> Result<TreePath> {
    if base.is_root() || path.is_root() {
        return Ok(if base.is_root() { path.clone() } else { base.clone() });
    }
    TreePath::new(format!("{}/{}", base.as_str(), path.as_str()))
        .map_err(|e| Failure::from(e).of(&path.to_string()))
}

/// Ids for many changes, derived from one random seed with a single system call.
pub struct ChangeIds {
    seed: [u8; 32],
    used: u64,
}

impl ChangeIds {
    /// Creates a new seed.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new() -> Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| failure!(Local, "no random numbers: {e}"))?;
        Ok(Self { seed, used: 0 })
    }

    /// Returns the next id.
    pub fn next(&mut self) -> ChangeId {
        self.used += 1;
        let mut id = [0; 16];
        blake3::Hasher::new_keyed(&self.seed)
            .update(&self.used.to_be_bytes())
            .finalize_xof()
            .fill(&mut id);
        ChangeId(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_up_to_the_limit() {
        let path = |text: &str| TreePath::new(text).unwrap();
        for (base, rest, whole) in
            [("a", "b/c", "a/b/c"), ("", "b", "b"), ("a", "", "a"), ("", "", "")]
        {
            assert_eq!(under(&path(base), &path(rest)).unwrap(), path(whole));
        }
        let long = path(&vec!["n".repeat(255); 15].join("/"));
        assert!(
            under(&long, &path(&"n".repeat(255))).is_ok()
                && under(&long, &path(&format!("{}/x", "n".repeat(255)))).is_err()
        );
    }

    #[test]
    fn change_ids_differ() {
        let (mut one, mut other) = (ChangeIds::new().unwrap(), ChangeIds::new().unwrap());
        let ids =
            std::collections::HashSet::from([one.next(), one.next(), other.next(), other.next()]);
        assert_eq!(ids.len(), 4);
    }
}
