//! TLS of the control connection: AUTH TLS, implicit TLS, resumption.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, SignatureScheme, StreamOwned};

use super::{FtpTestClient, ftp_address, start_ftp};
use crate::harness::{SOON, Standalone, children, eventually};

/// Trusts each certificate: the tests are about the protocol.
#[derive(Debug)]
struct TrustAll;

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519]
    }
}

/// A client for these versions, which remembers its sessions.
pub fn config(versions: &[&'static rustls::SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAll))
        .with_no_client_auth();
    Arc::new(config)
}

/// An encrypted control connection.
pub struct TlsClient(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl TlsClient {
    /// Runs the handshake on a connection.
    pub fn over(tcp: TcpStream, config: &Arc<ClientConfig>) -> Self {
        tcp.set_read_timeout(Some(SOON)).unwrap();
        let name = ServerName::try_from("files.example").unwrap();
        let tls = ClientConnection::new(config.clone(), name).unwrap();
        Self(BufReader::new(StreamOwned::new(tls, tcp)))
    }

    /// Connects and begins TLS with AUTH.
    pub fn explicit(addr: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let mut clear = FtpTestClient::connect(addr);
        clear.expect("AUTH TLS", 234);
        Self::over(clear.control().try_clone().unwrap(), config)
    }

    #[track_caller]
    pub fn reply_of(&mut self, code: u16) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert!(line.starts_with(&format!("{code} ")), "{code}: {line:?}");
        line
    }

    #[track_caller]
    pub fn expect(&mut self, line: &str, code: u16) -> String {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
        self.reply_of(code)
    }

    fn is_resumed(&self) -> bool {
        self.0.get_ref().conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

#[test]
fn auth_tls_encrypts_the_login() {
    let (_slave, addr) = start_ftp(&[], &[]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = TlsClient::explicit(addr, &config(&[version]));
        client.expect("AUTH TLS", 503);
        client.expect("PROT P", 503);
        client.expect("PBSZ 0", 200);
        client.expect("PROT P", 200);
        client.expect("USER anonymous", 331);
        client.expect("PASS x", 230);
        client.expect("PWD", 257);
        client.expect("QUIT", 221);
        let mut rest = Vec::new();
        // The end is announced, so it is no error.
        client.0.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
    }
}

#[test]
fn commands_before_the_handshake_are_discarded() {
    let (_slave, addr) = start_ftp(&[], &[]);
    let config = config(rustls::ALL_VERSIONS);
    for injected in ["USER anonymous\r\nPASS x\r\nMKD injected\r\n", "NOOP\r\nUSER anonymous", "\r"]
    {
        let mut clear = FtpTestClient::connect(addr);
        clear.send_bytes(format!("USER anonymous\r\nAUTH TLS\r\n{injected}").as_bytes());
        clear.reply_of(331);
        clear.reply_of(234);
        let mut client = TlsClient::over(clear.control().try_clone().unwrap(), &config);
        // Neither the injected commands nor the user before the handshake count.
        client.expect("PASS x", 503);
        client.expect("PWD", 530);
        client.expect("USER anonymous", 331);
        client.expect("PASS x", 230);
        client.expect("CWD injected", 550);
    }
}

#[test]
fn implicit_tls_greets_after_the_handshake() {
    let slave = Standalone::start(&["--ftps", "127.0.0.1:0"], &[]);
    let addr = ftp_address(&slave.program, "ftps");
    let tcp = TcpStream::connect(addr).unwrap();
    let mut client = TlsClient::over(tcp, &config(rustls::ALL_VERSIONS));
    client.reply_of(220);
    client.expect("AUTH TLS", 503);
    // Data connections are encrypted without PBSZ.
    client.expect("PROT P", 200);
    client.expect("USER anonymous", 331);
    client.expect("PASS x", 230);
    client.expect("REIN", 220);
    client.expect("PROT P", 200);
    let mut clear = TcpStream::connect(addr).unwrap();
    clear.set_read_timeout(Some(SOON)).unwrap();
    clear.write_all(b"USER anonymous\r\n").unwrap();
    let mut answer = Vec::new();
    // A TLS alert may come, or a reset.
    let _ = clear.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"220"), "{answer:?}");
}

#[test]
fn tls_can_be_turned_off_or_required() {
    let (_slave, addr) = start_ftp(&["--ftp-tls", "off"], &[]);
    let mut client = FtpTestClient::connect(addr);
    client.expect("AUTH TLS", 502);
    assert!(!client.expect("FEAT", 211).text().contains("AUTH"));
    let (_slave, addr) = start_ftp(&["--ftp-tls", "required"], &[]);
    let mut client = FtpTestClient::connect(addr);
    assert!(client.expect("USER anonymous", 530).text().contains("AUTH TLS"));
    assert!(client.expect("FEAT", 211).text().contains("AUTH TLS"));
    let mut client = TlsClient::explicit(addr, &config(rustls::ALL_VERSIONS));
    client.expect("USER anonymous", 331);
    client.expect("PASS x", 230);
}

#[test]
fn ftp_has_tls_also_if_native_connections_have_none() {
    let (_slave, addr) = start_ftp(&["--tls", "never"], &[]);
    TlsClient::explicit(addr, &config(rustls::ALL_VERSIONS)).expect("NOOP", 200);
}

/// Downloads the file `f` over a data connection with the sessions of `config`.
fn retrieve(
    client: &mut TlsClient,
    addr: SocketAddr,
    config: &Arc<ClientConfig>,
) -> Result<String, String> {
    let passive = client.expect("EPSV", 229);
    let port = passive.split("|||").nth(1).unwrap().split('|').next().unwrap();
    let data = TcpStream::connect((addr.ip(), port.parse().unwrap())).unwrap();
    client.expect("RETR f", 150);
    let mut data = TlsClient::over(data, config);
    let mut content = String::new();
    // The slave may close instead.
    let _ = data.0.read_to_string(&mut content);
    let mut end = String::new();
    client.0.read_line(&mut end).unwrap();
    if end.starts_with("226 ") { Ok(content) } else { Err(end) }
}

#[test]
fn data_connections_must_resume_their_control_connection() {
    let (_slave, addr) = start_ftp(&["--ftp-tls-reuse", "required"], &[("f", b"content")]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let [own, other] = [(); 2].map(|()| config(&[version]));
        let mut clients = [&own, &other].map(|config| {
            let mut client = TlsClient::explicit(addr, config);
            for (line, code) in
                [("PBSZ 0", 200), ("PROT P", 200), ("USER anonymous", 331), ("PASS x", 230)]
            {
                client.expect(line, code);
            }
            client
        });
        // More transfers than tickets of the control connection.
        for _ in 0..5 {
            assert_eq!(retrieve(&mut clients[0], addr, &own).as_deref(), Ok("content"));
        }
        // Another session of the same host, and none.
        for config in [&other, &config(&[version])] {
            let end = retrieve(&mut clients[0], addr, config).unwrap_err();
            assert!(end.starts_with("522 "), "{end}");
        }
        assert_eq!(retrieve(&mut clients[0], addr, &own).as_deref(), Ok("content"));
        assert_eq!(retrieve(&mut clients[1], addr, &other).as_deref(), Ok("content"));
    }
}

#[test]
fn a_proxy_names_the_client_before_implicit_tls() {
    let args = ["--ftps", "127.0.0.1:0", "--trusted-proxy", "127.0.0.1"];
    let slave = Standalone::start(&args, &[]);
    let mut tcp = TcpStream::connect(ftp_address(&slave.program, "ftps")).unwrap();
    tcp.write_all(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\xc0\0\x02\x01\x13\x88\0\x15")
        .unwrap();
    let mut client = TlsClient::over(tcp, &config(rustls::ALL_VERSIONS));
    client.reply_of(220);
    // The name of a user is not refused, because the connection is encrypted.
    client.expect("USER ann", 331);
}

#[test]
fn each_worker_resumes_the_sessions_of_the_others() {
    let (slave, addr) = start_ftp(&["--workers", "3", "--sessions-per-worker", "4"], &[]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = config(&[version]);
        let mut open = Vec::new();
        // More sessions than a worker takes.
        for n in 0..9 {
            let mut client = TlsClient::explicit(addr, &config);
            client.expect("USER anonymous", 331);
            client.expect("PASS x", 230);
            assert_eq!(client.is_resumed(), n > 0, "{version:?}: connection {n}");
            open.push(client);
        }
    }
    // The secret outlives the workers.
    let config = config(&[&rustls::version::TLS13]);
    TlsClient::explicit(addr, &config).expect("NOOP", 200);
    let before = children(slave.program.pid());
    before.iter().for_each(|pid| kill(*pid, Signal::SIGKILL).unwrap());
    eventually(SOON, "the children are replaced", || {
        let now = children(slave.program.pid());
        (now.len() == before.len() && !now.iter().any(|pid| before.contains(pid))).then_some(())
    });
    let mut client = TlsClient::explicit(addr, &config);
    client.expect("NOOP", 200);
    assert!(client.is_resumed());
}
