//! The piece values of a content, requested by a session of their own and proved by the digest.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use log::debug;
use relais_proto::{Digest, Request, TreePath};

use crate::download::requests::ask_for_pieces;
use crate::error::{Fault, TransferError};
use crate::exchange::ask;
use crate::sessions::StreamSource;

/// Values that a thread requests, for which the server reads its file.
pub(in crate::download) struct ProvedValues(Receiver<Vec<Digest>>);

impl ProvedValues {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn request(
        source: &Arc<dyn StreamSource>,
        path: &TreePath,
        digest: Digest,
        size: u64,
    ) -> Result<Self, TransferError> {
        let (sender, values) = channel();
        let (source, path) = (source.clone(), path.clone());
        let spawned =
            std::thread::Builder::new().name("piece-values".to_owned()).spawn(move || {
                match proved(&*source, &path, digest, size) {
                    // The content may be complete by now, so that nothing waits for the values.
                    Ok(values) => drop(sender.send(values)),
                    Err(fault) => debug!("{path}: no piece values: {fault}"),
                }
            });
        spawned.map(|_| Self(values)).map_err(TransferError::local("starting a thread"))
    }

    /// Returns the values if they are there; an error if there will be none.
    pub fn poll(&self) -> Result<Option<Vec<Digest>>, ()> {
        match self.0.try_recv() {
            Ok(values) => Ok(Some(values)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(()),
        }
    }
}

/// Requests the values from the last server, whose line is the least used one.
fn proved(
    source: &dyn StreamSource,
    path: &TreePath,
    digest: Digest,
    size: u64,
) -> Result<Vec<Digest>, Fault> {
    let mut server = source.open(source.servers().len().saturating_sub(1))?;
    let count = relais_tree::piece_count(size);
    let mut ask = |request: &Request| ask(&mut server, request);
    let values = ask_for_pieces(&mut ask, path, digest, count)?;
    if relais_tree::join(&values, size) == Some(digest) {
        Ok(values)
    } else {
        Err(Fault::bad_value("piece values", count))
    }
}
