//! The way of logins from a worker to the master.

use std::sync::mpsc::Receiver;

use relais_engine::{MasterAnswer, MasterLogins, MasterQuery};
use relais_proto::{ErrorCode, Refusal};

/// A worker's way to the master.
pub struct MasterMailbox;

impl MasterLogins for MasterMailbox {
    fn ask(&self, _: MasterQuery<'_>) -> Result<Receiver<MasterAnswer>, Refusal> {
        Err(Refusal::new(ErrorCode::Busy, "this slave cannot forward logins to its master yet"))
    }
}
