//! TLS 1.3 around connections, for the listening and the connecting side.
//!
//! Each open connection has a thread (`pump`) that owns the encrypted socket. All other code uses
//! the near end of a local socket pair as it would use a TCP socket: it can be polled, shut down
//! and filled by `sendfile`.

mod client;
mod info;
mod mode;
mod pem;
mod pump;
mod server;
mod trust;

pub use client::{DialError, Dialer};
pub use info::{ChannelBinding, TlsInfo};
pub use mode::{TlsMode, TlsOptions};
pub use pem::read_pem;
pub use pump::wait_until_delivered;
pub(crate) use server::Encrypted;
pub use server::{ServerCertificate, TlsServer};
pub use trust::{
    Fingerprint, MASTER_NAME, SLAVE_NAME, TrustError, TrustPolicy, TrustedAuthorities,
};
