//! The uploads under way: so that one that is gone on with on another connection ends on its first.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::pass::Inbox;
use crate::staging::StagedName;

/// The uploads of one worker, and the way to the other workers.
pub struct Uploads {
    here: Mutex<HashMap<StagedName, Arc<TcpStream>>>,
    inboxes: Arc<Vec<Inbox>>,
}

impl Uploads {
    /// None is under way.
    #[must_use]
    pub fn new(inboxes: Arc<Vec<Inbox>>) -> Self {
        Self { here: Mutex::default(), inboxes }
    }

    /// An upload is under way on this connection.
    pub fn begin(&self, name: &StagedName, stream: &Arc<TcpStream>) {
        self.here().insert(name.clone(), stream.clone());
    }

    /// It is not any more.
    pub fn end(&self, name: &StagedName) {
        self.here().remove(name);
    }

    /// Closes the connection of an upload of this worker.
    pub fn end_here(&self, name: &StagedName) {
        if let Some(stream) = self.here().remove(name) {
            // It may be closed already; then its session ends by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Closes the connection of an upload, whichever worker has it.
    pub fn end_everywhere(&self, name: &StagedName) {
        self.end_here(name);
        self.inboxes.iter().for_each(|inbox| inbox.end_upload(name));
    }

    fn here(&self) -> MutexGuard<'_, HashMap<StagedName, Arc<TcpStream>>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
