//! The session as `relais-transfer` uses it: lends its connection and learns of failures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use relais_net::Connection;
use relais_proto::{Endpoint, ErrorCode, Refusal};
use relais_transfer::{Sessions, StreamSource, TransferError};

use super::state::Session;
use crate::{Failure, Result};

impl Sessions for Session {
    fn connection(&mut self) -> Result<&mut Connection, TransferError> {
        self.ensure_open().map(|open| &mut open.connection).map_err(into_fetch_error)
    }

    fn failed(&mut self, why: &str) {
        self.mark_lost(why);
    }

    fn abandon(&mut self) {
        self.drop_connection();
    }

    fn elsewhere(&mut self, holders: &[Endpoint]) -> bool {
        self.switch_to_holder(holders)
    }

    fn leave(&mut self, why: &str) -> bool {
        if !self.is_in_cluster() {
            return false;
        }
        log::debug!("leaving this server: {why}");
        if let Some(slave) = self.observed.slave() {
            self.avoid.pass_over(slave, Instant::now());
        }
        self.drop_connection();
        true
    }

    fn full(&mut self, why: &str) -> bool {
        if !self.is_in_cluster() {
            return false;
        }
        self.mark_lost(why);
        true
    }

    fn streams(&mut self) -> Option<Arc<dyn StreamSource>> {
        self.stream_source()
    }

    fn retry(&self) -> Duration {
        self.settings.retry
    }
}

/// Converts a failure; it ends a transfer for good only if no other server could do better.
fn into_fetch_error(failure: Failure) -> TransferError {
    use ErrorCode::{
        BadTicket, Behind, Denied, Interrupted, LoginNeeded, LoginRefused, NotTrusted, TlsNeeded,
    };
    match failure.code {
        Interrupted => TransferError::Interrupted,
        LoginNeeded | LoginRefused | BadTicket | Denied | Behind | TlsNeeded | NotTrusted => {
            TransferError::Refused(Refusal::new(failure.code, failure.message))
        }
        _ => TransferError::Unreachable(failure.message),
    }
}
