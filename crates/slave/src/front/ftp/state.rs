//! What the commands of a session have set for later ones.

use relais_ftp::{ByteRange, DataProtection, FactSet, HashAlgorithm, TransferType};
use relais_proto::TreePath;

/// Where the next transfer begins, and for a range where it ends.
///
/// Each transfer or listing uses it up, also if it fails. RFC 3659 section 5.3 wants REST directly
/// before the transfer, but clients send PASV or TYPE in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferStart {
    /// REST: from this byte on.
    Offset(u64),
    /// RANG: these bytes.
    Range(ByteRange),
}

/// What a client can set before and after its login.
#[derive(Debug, Clone, Default)]
pub struct LoginSettings {
    /// PROT: whether data connections are encrypted. With implicit TLS they are from the start.
    pub protection: DataProtection,
    /// Whether PBSZ has come, as PROT requires. With implicit TLS it is not required.
    pub has_buffer_size: bool,
    /// OPTS HASH: the algorithm of HASH.
    pub hash: HashAlgorithm,
    /// OPTS MLST: the facts of MLST and MLSD.
    pub facts: FactSet,
}

/// What the commands of a session have set.
#[derive(Debug, Default)]
pub struct SessionState {
    /// What could be set before the login, too.
    pub settings: LoginSettings,
    /// The current folder.
    pub cwd: TreePath,
    /// TYPE: whether line ends are converted.
    pub transfer_type: TransferType,
    /// REST or RANG for the next transfer.
    pub start: Option<TransferStart>,
    /// ALLO: bytes that the next upload announces.
    pub announced: Option<u64>,
    /// RNFR: what the next RNTO renames.
    pub rename_from: Option<TreePath>,
}
