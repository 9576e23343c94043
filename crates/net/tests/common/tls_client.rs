//! TLS clients of the rustls library, as those of other programs.

use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedCipherSuite,
    SupportedProtocolVersion,
};

pub type TlsClient = StreamOwned<ClientConnection, TcpStream>;

/// Trusts `root`, speaks these versions, and remembers its sessions.
pub fn client_config(
    root: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    client_config_with(root, versions, &rustls::crypto::ring::default_provider().cipher_suites)
}

/// As [`client_config`], with these cipher suites in this order.
pub fn client_config_with(
    root: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
    suites: &[SupportedCipherSuite],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites = suites.to_vec();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Begins TLS on a connection to `files.example`.
pub fn encrypt(tcp: TcpStream, config: &Arc<ClientConfig>) -> TlsClient {
    let name = ServerName::try_from("files.example").unwrap();
    StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), tcp)
}
