//! The uploads under way: so that one that is gone on with on another connection ends on its first.

use std::collections::HashMap;
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use relais_net::Socket;

use super::mailbox::WorkerMailbox;
use crate::staging::StagedName;

/// The uploads of one worker, and the way to the other workers.
pub struct ActiveUploads {
    here: Mutex<HashMap<StagedName, Arc<Socket>>>,
    mailboxes: Arc<Vec<WorkerMailbox>>,
}

impl ActiveUploads {
    /// None is under way.
    #[must_use]
    pub fn new(mailboxes: Arc<Vec<WorkerMailbox>>) -> Self {
        Self { here: Mutex::default(), mailboxes }
    }

    /// An upload is under way on this connection.
    pub fn begin(&self, name: &StagedName, stream: &Arc<Socket>) {
        self.here().insert(name.clone(), stream.clone());
    }

    /// It is not any more. Another connection may have gone on with it already.
    pub fn end(&self, name: &StagedName, stream: &Arc<Socket>) {
        let mut here = self.here();
        if here.get(name).is_some_and(|under_way| Arc::ptr_eq(under_way, stream)) {
            here.remove(name);
        }
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
        self.mailboxes.iter().for_each(|mailbox| mailbox.send_end_upload(name));
    }

    fn here(&self) -> MutexGuard<'_, HashMap<StagedName, Arc<Socket>>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use relais_proto::{ChangeId, TreePath};

    use super::*;

    #[test]
    fn the_connection_that_an_upload_left_does_not_hide_the_one_that_it_is_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pair = || {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, Arc::new(Socket::from(listener.accept().unwrap().0)))
        };
        let ((mut first, older), (mut second, newer)) = (pair(), pair());
        let name = StagedName::new(ChangeId([1; 16]), "", &TreePath::new("f").unwrap(), None);
        let uploads = ActiveUploads::new(Arc::new(vec![WorkerMailbox::new().unwrap()]));
        uploads.begin(&name, &older);
        uploads.end_everywhere(&name);
        assert_eq!(first.read(&mut [0]).unwrap(), 0, "its client has come back");
        uploads.begin(&name, &newer);
        uploads.end(&name, &older);
        uploads.end_here(&name);
        assert_eq!(second.read(&mut [0]).unwrap(), 0);
        uploads.begin(&name, &newer);
        uploads.end(&name, &newer);
        assert!(uploads.here().is_empty());
    }
}
