//! TLS around connections, for the listening and the connecting side.
//!
//! The threads that read and write a connection also decrypt and encrypt (`session`).

mod certificate;
mod client;
mod expiry;
mod info;
mod mode;
mod pem;
mod resumption;
mod server;
mod session;
mod tickets;
mod trust;

pub use certificate::ServerCertificate;
pub use client::{DialError, Dialer};
pub use expiry::expiry_s;
pub use info::{ChannelBinding, TlsInfo};
pub use mode::{TlsMode, TlsOptions};
pub use pem::read_pem;
pub use resumption::DataDirection;
pub(crate) use resumption::Resumption;
pub use server::TlsServer;
pub(crate) use session::TlsSession;
pub use tickets::TicketSecret;
pub use trust::{
    Fingerprint, MASTER_NAME, SLAVE_NAME, TrustError, TrustPolicy, TrustedAuthorities,
};
