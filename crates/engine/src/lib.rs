//! What a session may do: commands, rights, freshness, uploads, the transfer log and waiting.
//!
//! An [`Engine`] serves one folder in one process, and has a [`Session`] for each user that has
//! logged in. A session returns values and typed refusals. It knows neither frames nor sockets: a
//! front end turns outcomes into the bytes of its protocol, and says through [`KeepAlive`] that an
//! answer takes longer. The engine knows no processes either: what it needs of them comes through
//! [`Host`] and [`SecretSource`].
//!
//! It reads the folder and the catalogue and writes staged files. It never gives a file its name:
//! a change becomes a proposal, which the catalogue writer makes. Each session belongs to one
//! thread, which may block; the engine itself starts only short threads for large syncs.

mod active_uploads;
mod change;
mod changes;
mod checksum;
mod computations;
mod content;
mod content_hasher;
mod context;
mod copy;
mod cut_upload;
mod engine;
mod entries;
mod hash_semaphore;
mod host;
mod keep_alive;
mod listing;
mod locks;
mod login;
mod login_renewal;
mod owner;
mod path_upload;
mod pending_changes;
mod pending_login;
mod principal;
mod properties;
mod protocol;
mod remote_content;
mod session;
mod sha256;
mod staged;
mod staged_hasher;
mod transfer_counter;
mod transfer_log;
mod upload;
mod upload_hasher;
mod upload_prefix;
mod watch;

pub use active_uploads::Disconnect;
pub use change::{Committed, PreparedChange};
pub use checksum::{Checksum, ChecksumAlgorithm, ChecksumHasher};
pub use content::{Content, Located, ReadFailure};
pub use copy::CopyRequest;
pub use engine::{DISPLACED, Engine, EngineSettings};
pub use entries::{Details, EntryList};
pub use host::{Host, MOST_PENDING, ProposalChannel};
pub use keep_alive::KeepAlive;
pub use listing::Listing;
pub use locks::FoundLock;
pub use login::{
    Authenticator, LoginDecision, LoginPolicy, LoginProgress, SecretSource, check_not_logged_out,
};
pub use login_renewal::LoginRenewer;
pub use owner::Owner;
pub use path_upload::{PathUpload, PendingUpload, UploadStart};
pub use pending_login::{
    IssuedTicket, LoginOutcome, MasterAnswer, MasterLogins, MasterQuery, PendingLogin,
    VerifiedLogin,
};
pub use principal::{Credential, Principal};
pub use protocol::Protocol;
pub use remote_content::{FoundContent, RemoteContent};
pub use session::{Session, SlaveStatus};
pub use transfer_log::{LoggedCommand, TransferLog};
pub use upload::{SMALL_UPLOAD, Upload, UploadProgress};
pub use upload_prefix::PrefixUpload;
pub use watch::{Watch, WatchUpdate};
