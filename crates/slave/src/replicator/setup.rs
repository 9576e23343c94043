//! What the replicator gets at its start. No behaviour.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use relais_os::ProcessMailbox;
use relais_proto::{FolderId, SlaveId};
use relais_storage::MetadataFolder;
use relais_tree::Folder;

use crate::certificate::Certificate;
use crate::changes::channel::ProposalSocket;
use crate::config::Config;
use crate::hints::Hint;
use crate::scoreboard::Scoreboard;

/// What the replicator gets at its start.
pub struct ReplicatorSetup {
    /// The slave's settings.
    pub config: Config,
    /// The served folder.
    pub folder: Folder,
    /// The slave's own folder in it.
    pub own: MetadataFolder,
    /// Id of the served folder.
    pub folder_id: FolderId,
    /// Id of this slave.
    pub slave_id: SlaveId,
    /// What the processes of the slave share in memory.
    pub scoreboard: Arc<Scoreboard>,
    /// Paths that workers found different from the catalogue.
    pub hints: Arc<ProcessMailbox<Hint>>,
    /// Where sessions hand in their changes.
    pub proposal_socket: Arc<ProposalSocket>,
    /// The address on which the slave listens.
    pub listen: SocketAddr,
    /// Control socket, which is readable when the replicator has to end.
    pub control: OwnedFd,
    /// The certificate; none if no connection is encrypted.
    pub certificate: Option<Arc<Certificate>>,
}
