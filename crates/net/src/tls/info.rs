//! What both sides of TLS share: settings, and the facts about an encrypted connection.

use std::io;
use std::sync::Arc;

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;

use super::trust::ServerIdentity;

/// The ALPN protocol name.
pub(super) const PROTOCOL: &[u8] = b"relais";
/// The exporter label of the channel binding, after `tls-exporter` of RFC 9266.
const BINDING: &[u8] = b"EXPORTER-Channel-ChannelBinding";

/// A value that the two ends of one TLS session share; it ties a proof to that session.
pub type ChannelBinding = [u8; 32];

/// Facts about an encrypted connection.
#[derive(Debug, Clone, Copy)]
pub struct TlsInfo {
    /// The channel binding, which ties proofs to this connection.
    pub binding: ChannelBinding,
    /// The identity of the server; none with [`TrustPolicy::Anyone`](super::TrustPolicy::Anyone).
    pub identity: Option<ServerIdentity>,
}

/// The cryptographic provider of all TLS configurations.
///
/// AES-128-GCM comes first: it is secure for decades, and costs both sides less than AES-256-GCM.
pub(super) fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite.suite()));
    Arc::new(provider)
}

fn is_aes_128(suite: CipherSuite) -> bool {
    use CipherSuite::{
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        TLS13_AES_128_GCM_SHA256,
    };
    matches!(
        suite,
        TLS13_AES_128_GCM_SHA256
            | TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

pub(super) fn other(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Computes the channel binding of a connection.
pub(super) fn binding(tls: &rustls::Connection) -> io::Result<ChannelBinding> {
    tls.export_keying_material([0; 32], BINDING, Some(&[])).map_err(other)
}
