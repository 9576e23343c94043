//! The uploads that are being received, so that a resumed one ends in its older session.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use relais_storage::StagedName;

/// Closes the connection of a session, from any thread. It does not block.
pub type Disconnect = Arc<dyn Fn() + Send + Sync>;

/// The uploads that the sessions of one process receive.
#[derive(Default)]
pub(crate) struct ActiveUploads(Mutex<HashMap<StagedName, Disconnect>>);

impl ActiveUploads {
    /// Registers an upload that a session receives.
    pub fn begin(&self, name: &StagedName, disconnect: &Disconnect) {
        self.0.lock().insert(*name, disconnect.clone());
    }

    /// Removes an upload, unless another session has resumed it already.
    pub fn end(&self, name: &StagedName, disconnect: &Disconnect) {
        let mut active = self.0.lock();
        if active.get(name).is_some_and(|active| Arc::ptr_eq(active, disconnect)) {
            active.remove(name);
        }
    }

    /// Disconnects the session that receives an upload.
    pub fn disconnect(&self, name: &StagedName) {
        let session = self.0.lock().remove(name);
        if let Some(disconnect) = session {
            disconnect();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use relais_proto::{ChangeId, TreePath};

    use super::*;

    #[test]
    fn old_session_does_not_remove_a_resumed_upload() {
        let session = || {
            let ended = Arc::new(AtomicU32::new(0));
            let counter = ended.clone();
            let disconnect: Disconnect = Arc::new(move || {
                counter.fetch_add(1, Ordering::SeqCst);
            });
            (disconnect, move || ended.load(Ordering::SeqCst))
        };
        let ((older, first), (newer, second)) = (session(), session());
        let name = StagedName::new(ChangeId([1; 16]), "", &TreePath::new("f").unwrap(), None);
        let uploads = ActiveUploads::default();
        uploads.begin(&name, &older);
        uploads.disconnect(&name);
        uploads.disconnect(&name);
        assert_eq!(first(), 1, "its client has come back");
        uploads.begin(&name, &newer);
        uploads.end(&name, &older);
        uploads.disconnect(&name);
        assert_eq!((first(), second()), (1, 1));
        uploads.begin(&name, &newer);
        uploads.end(&name, &newer);
        assert!(uploads.0.lock().is_empty());
    }
}
