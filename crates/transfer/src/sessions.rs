//! The source of connections for all loops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use relais_net::Connection;
use relais_proto::Endpoint;

use crate::error::{Fault, TransferError};

/// Source of connections with open sessions; a session handles one request after another.
pub trait Sessions {
    /// Returns the open session with the current server, and opens one if necessary.
    ///
    /// A new session avoids servers that failed. Opening takes at most the own retry time.
    ///
    /// # Errors
    /// [`TransferError::Unreachable`], [`TransferError::Refused`] by a login, or
    /// [`TransferError::Interrupted`].
    fn connection(&mut self) -> Result<&mut Connection, TransferError>;

    /// Drops the connection, because the current server failed.
    ///
    /// The next [`Self::connection`] uses another server if there is one.
    fn failed(&mut self, why: &str);

    /// Drops the connection in the middle of an answer that is no longer needed.
    ///
    /// The server is not at fault.
    fn abandon(&mut self) {
        self.failed("the rest of an answer is not wanted any more");
    }

    /// Handles a server without the content; `holders` have it.
    ///
    /// Returns whether the next [`Self::connection`] is with another server. The current server is
    /// not at fault. If the result is false, the connection may still be usable.
    fn elsewhere(&mut self, holders: &[Endpoint]) -> bool {
        let _ = holders;
        self.failed("it does not have the content yet");
        true
    }

    /// Drops the connection to a server that works but cannot serve the request now.
    ///
    /// Returns whether the next connection may be with another server. If not, the connection is
    /// kept.
    fn leave(&mut self, why: &str) -> bool {
        self.failed(why);
        true
    }

    /// Handles a server without space for the upload; returns whether another one may have some.
    ///
    /// If so, the next [`Self::connection`] is with that server if it is in service. If not,
    /// nothing has changed.
    fn full(&mut self, why: &str) -> bool {
        let _ = why;
        false
    }

    /// Returns a source of more sessions for the same transfer; `None` if there shall be none.
    ///
    /// Called with an open session.
    fn streams(&mut self) -> Option<Arc<dyn StreamSource>> {
        None
    }

    /// Returns how long to retry while no server can serve the request.
    fn retry(&self) -> Duration {
        Duration::ZERO
    }
}

/// Source of further sessions for one transfer, beside that of [`Sessions`].
pub trait StreamSource: Send + Sync {
    /// Returns the highest number of sessions, with that of [`Sessions`]; at least 1.
    fn limit(&self) -> usize;

    /// Returns the servers that may have the content, each with its addresses.
    fn servers(&self) -> Vec<Vec<SocketAddr>>;

    /// Returns the most bytes of one request, after the first one.
    fn longest_request(&self) -> u64 {
        u64::MAX
    }

    /// Opens a session with the server of this index.
    ///
    /// It does not wait for a free slot, and does not retry.
    ///
    /// # Errors
    /// A [`Fault`].
    fn open(&self, server: usize) -> Result<Connection, Fault>;
}
