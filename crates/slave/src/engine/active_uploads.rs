//! The uploads that are being received, so that a resumed one ends on its older connection.

use std::collections::HashMap;
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use relais_net::Socket;
use relais_os::ProcessMailbox;
use relais_storage::StagedName;

use crate::worker_message::{WorkerMessage, notify};

/// The uploads that one worker receives, and the mailboxes of all workers.
pub struct ActiveUploads {
    active: Mutex<HashMap<StagedName, Arc<Socket>>>,
    mailboxes: Arc<Vec<ProcessMailbox<WorkerMessage>>>,
}

impl ActiveUploads {
    /// Makes an empty table.
    #[must_use]
    pub fn new(mailboxes: Arc<Vec<ProcessMailbox<WorkerMessage>>>) -> Self {
        Self { active: Mutex::default(), mailboxes }
    }

    /// Registers an upload that this connection receives.
    pub fn begin(&self, name: &StagedName, stream: &Arc<Socket>) {
        self.lock().insert(name.clone(), stream.clone());
    }

    /// Removes an upload, unless another connection has resumed it already.
    pub fn end(&self, name: &StagedName, stream: &Arc<Socket>) {
        let mut active = self.lock();
        if active.get(name).is_some_and(|socket| Arc::ptr_eq(socket, stream)) {
            active.remove(name);
        }
    }

    /// Closes the connection of an upload of this worker.
    pub fn end_here(&self, name: &StagedName) {
        if let Some(stream) = self.lock().remove(name) {
            // It may be closed already; then its session ends without this.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Closes the connection of an upload in any worker.
    pub fn end_everywhere(&self, name: &StagedName) {
        self.end_here(name);
        notify(self.mailboxes.iter(), &WorkerMessage::EndUpload(name.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StagedName, Arc<Socket>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use relais_proto::{ChangeId, TreePath};

    use super::*;

    #[test]
    fn old_connection_does_not_remove_a_resumed_upload() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pair = || {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, Arc::new(Socket::from(listener.accept().unwrap().0)))
        };
        let ((mut first, older), (mut second, newer)) = (pair(), pair());
        let name = StagedName::new(ChangeId([1; 16]), "", &TreePath::new("f").unwrap(), None);
        let uploads = ActiveUploads::new(Arc::new(vec![ProcessMailbox::new().unwrap()]));
        uploads.begin(&name, &older);
        uploads.end_everywhere(&name);
        assert_eq!(first.read(&mut [0]).unwrap(), 0, "its client has come back");
        uploads.begin(&name, &newer);
        uploads.end(&name, &older);
        uploads.end_here(&name);
        assert_eq!(second.read(&mut [0]).unwrap(), 0);
        uploads.begin(&name, &newer);
        uploads.end(&name, &newer);
        assert!(uploads.lock().is_empty());
    }
}
