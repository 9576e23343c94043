//! What was carried on at the start and ended well, until the first command that names it: that
//! one does nothing more.

use relais_proto::{Identity, TreePath};

use crate::outcome::{Received, Sent, Several};
use crate::shell::Shell;

/// A transfer that was carried on at the start.
#[derive(Debug)]
pub struct Finished {
    /// The remote file or folder.
    pub remote: TreePath,
    /// The local name as the `.log` had it.
    pub logged: String,
    /// What it came to.
    pub done: Done,
}

/// What a transfer came to.
#[derive(Debug)]
pub enum Done {
    /// A file was fetched.
    Received(Received),
    /// A file with this identity was sent.
    Sent(Sent, Identity),
    /// A folder was fetched, or sent where the flag is set.
    Tree(Several, bool),
}

impl Shell {
    /// Takes out what has just been done with these names, where `fits` says that it is the same.
    pub fn take_finished<T>(
        &mut self,
        remote: &TreePath,
        logged: &str,
        fits: impl Fn(&Done) -> Option<T>,
    ) -> Option<T> {
        let same = |done: &Finished| {
            (done.remote == *remote && done.logged == logged).then(|| fits(&done.done)).flatten()
        };
        let (at, found) =
            self.finished.iter().enumerate().find_map(|(at, done)| Some((at, same(done)?)))?;
        self.finished.swap_remove(at);
        Some(found)
    }
}
