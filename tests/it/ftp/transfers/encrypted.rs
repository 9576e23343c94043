//! Encrypted data connections: their end, and the TLS session that they resume.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion};

use super::super::tls::{TlsClient, config};
use super::super::{FtpTestClient, reset, start_ftp};
use crate::harness::{SOON, content};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

type TlsData = StreamOwned<ClientConnection, TcpStream>;

/// Logs in over TLS, with private data connections.
fn logged_in(addr: SocketAddr, config: &Arc<ClientConfig>) -> TlsClient {
    let mut client = TlsClient::explicit(addr, config);
    for (line, code) in [
        ("USER anonymous", 331),
        ("PASS x", 230),
        ("PBSZ 0", 200),
        ("PROT P", 200),
        ("TYPE I", 200),
    ] {
        client.expect(line, code);
    }
    client
}

/// Opens a data connection that is not encrypted yet.
fn connect(client: &mut TlsClient) -> TcpStream {
    let reply = client.expect("EPSV", 229);
    let port = reply.split('|').nth(3).unwrap().parse().unwrap();
    let tcp = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    tcp.set_read_timeout(Some(SOON)).unwrap();
    tcp
}

/// Begins a transfer up to the reply 150.
fn begin(client: &mut TlsClient, line: &str, config: &Arc<ClientConfig>) -> TlsData {
    let tcp = connect(client);
    client.expect(line, 150);
    let name = ServerName::try_from("files.example").unwrap();
    StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), tcp)
}

#[test]
fn downloads_end_with_close_notify() {
    let bytes = content(71, 3_000_000);
    let (_slave, addr) = start_ftp(&[], &[("f", &bytes)]);
    for version in VERSIONS {
        let config = config(&[version]);
        let mut client = logged_in(addr, &config);
        let mut data = begin(&mut client, "RETR f", &config);
        let mut got = Vec::new();
        data.read_to_end(&mut got).expect("close_notify");
        assert!(got == bytes);
        client.reply_of(226);
        let mut data = begin(&mut client, "NLST", &config);
        let mut names = String::new();
        data.read_to_string(&mut names).expect("close_notify");
        assert_eq!(names, "f\r\n");
        client.reply_of(226);
    }
}

#[test]
fn upload_without_close_notify_is_cut_unless_lenient() {
    let bytes = content(72, 1_500_000);
    for (args, is_stored) in [(&[][..], false), (&["--ftp-tls-eof", "lenient"], true)] {
        let (slave, addr) = start_ftp(args, &[]);
        for version in VERSIONS {
            let config = config(&[version]);
            let mut client = logged_in(addr, &config);
            let mut data = begin(&mut client, "STOR whole", &config);
            data.write_all(&bytes).unwrap();
            data.conn.send_close_notify();
            data.flush().unwrap();
            let mut rest = Vec::new();
            data.read_to_end(&mut rest).expect("the server answers close_notify at once");
            client.reply_of(226);
            assert!(fs::read(slave.root.join("whole")).unwrap() == bytes);

            let mut data = begin(&mut client, "STOR open", &config);
            data.write_all(&bytes).unwrap();
            data.flush().unwrap();
            drop(data);
            if is_stored {
                client.reply_of(226);
                assert!(fs::read(slave.root.join("open")).unwrap() == bytes);
            } else {
                let reply = client.reply_of(426);
                assert!(reply.contains("close_notify"), "{reply}");
                assert!(!slave.root.join("open").exists());
                assert!(client.expect("SIZE open", 213).contains(&bytes.len().to_string()));
            }

            let mut data = begin(&mut client, "STOR reset", &config);
            data.write_all(&bytes[..1000]).unwrap();
            data.flush().unwrap();
            reset(data.sock);
            client.reply_of(426);
            assert!(!slave.root.join("reset").exists());
        }
    }
}

#[test]
fn data_connections_resume_their_control_session_if_required() {
    let (_slave, addr) = start_ftp(&["--ftp-tls-reuse", "required"], &[("f", b"content")]);
    for version in VERSIONS {
        let own = config(&[version]);
        let mut client = logged_in(addr, &own);
        let mut data = begin(&mut client, "RETR f", &own);
        let mut got = Vec::new();
        data.read_to_end(&mut got).expect("close_notify");
        assert_eq!(got, b"content");
        client.reply_of(226);
        let mut data = begin(&mut client, "RETR f", &config(&[version]));
        let other = data.read_to_end(&mut Vec::new());
        assert!(other.is_err(), "{version:?}: the session of another client");
        client.reply_of(522);
    }
}

/// Clients of rustls use each ticket of TLS 1.3 once.
#[test]
fn uploads_resume_their_control_session_again_and_again() {
    let (_slave, addr) = start_ftp(&["--ftp-tls-reuse", "required"], &[]);
    for version in VERSIONS {
        let own = config(&[version]);
        let mut client = logged_in(addr, &own);
        for n in 0..20 {
            let mut data = begin(&mut client, &format!("STOR f{n}"), &own);
            data.write_all(b"content").unwrap();
            data.conn.send_close_notify();
            data.flush().unwrap();
            // New tickets come with the end.
            data.read_to_end(&mut Vec::new()).expect("close_notify");
            client.reply_of(226);
        }
        // These clients close first. The tickets of the control connection are enough for some.
        let own = config(&[version]);
        let mut client = logged_in(addr, &own);
        for n in 0..8 {
            let mut data = begin(&mut client, &format!("STOR f{n}"), &own);
            data.write_all(b"content").unwrap();
            data.conn.send_close_notify();
            data.flush().unwrap();
            drop(data);
            client.reply_of(226);
        }
    }
}

#[test]
fn a_handshake_that_does_not_end_hears_the_control_connection() {
    let (_slave, addr) = start_ftp(&[], &[("f", b"content")]);
    let config = config(rustls::ALL_VERSIONS);
    let mut client = logged_in(addr, &config);
    // The handshake begins after its command, and before it.
    for first in [&b""[..], b"\x16\x03\x01"] {
        let began = Instant::now();
        let mut data = connect(&mut client);
        data.write_all(first).unwrap();
        client.expect("NOOP", 200);
        client.expect("RETR f", 150);
        client.expect("STAT", 211);
        client.expect("ABOR", 426);
        client.reply_of(226);
        assert!(began.elapsed() < Duration::from_secs(8), "before the handshake's time is over");
        drop(data);
        let mut data = begin(&mut client, "RETR f", &config);
        let mut got = Vec::new();
        data.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"content");
        client.reply_of(226);
    }
    let mut data = connect(&mut client);
    client.expect("STOR new", 150);
    drop(client);
    // The slave closes or resets the connection.
    assert!(!matches!(data.read(&mut [0]), Ok(1..)));
    assert!(FtpTestClient::anonymous(addr).command("SIZE new").code == 550);
}
