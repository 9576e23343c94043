//! The crate suppaftp, in the clear and with explicit TLS.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use suppaftp::types::FileType;
use suppaftp::{FtpStream, Mode, RustlsConnector, RustlsFtpStream};

use crate::harness::{TestDir, content};
use crate::site::{EVERY_LOGIN, Login, Site, assert_same, certificate, file};

#[test]
fn reads_writes_resumes_and_lists() {
    for login in EVERY_LOGIN {
        // Without TLS an account may log in from this host only.
        let site = Site::start(login);
        for mode in [Mode::Passive, Mode::ExtendedPassive] {
            let mut ftp = FtpStream::connect(site.ftp.to_string()).unwrap();
            ftp.set_mode(mode);
            let (user, password) = site.user();
            ftp.login(user, password).unwrap();
            ftp.transfer_type(FileType::Binary).unwrap();
            let got = ftp.retr_as_buffer("large.bin").unwrap().into_inner();
            assert_same(&got, &file("large.bin"), "got");
            assert_eq!(ftp.size("large.bin").unwrap(), got.len());
            ftp.mdtm("large.bin").unwrap();
            let names = ftp.nlst(Some("docs")).unwrap();
            assert!(names.iter().any(|name| name.contains("ümläut.txt")), "{names:?}");
            assert!(ftp.list(Some("docs")).unwrap().len() >= 2);
            assert!(ftp.mlsd(Some("docs")).unwrap().len() >= 2);
            ftp.mkdir("new").unwrap();
            ftp.cwd("new").unwrap();
            let (first, second) = (content(1, 100_000), content(2, 50_000));
            assert_eq!(ftp.put_file("file", &mut Cursor::new(&first)).unwrap(), 100_000);
            ftp.append_file("file", &mut Cursor::new(&second)).unwrap();
            assert_same(&site.served("new/file"), &[first, second].concat(), "appended");
            ftp.rename("file", "moved").unwrap();
            ftp.rm("moved").unwrap();
            ftp.cdup().unwrap();
            ftp.rmdir("new").unwrap();
            ftp.quit().unwrap();
        }
        if login == Login::Account {
            let mut ftp = FtpStream::connect(site.ftp.to_string()).unwrap();
            assert!(ftp.login("ann", "wrong").is_err());
        }
    }
}

/// Trusts the certificate in a file.
fn connector(cert: &Path) -> RustlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(cert).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config).into()
}

/// This client uses each session ticket once, and closes an upload without reading.
#[test]
fn transfers_by_tls_resume_the_session_of_the_login() {
    let dir = TestDir::new();
    let options = certificate(dir.path());
    let mut all: Vec<&str> = options.iter().map(String::as_str).collect();
    all.extend(["--ftp-tls-reuse", "required"]);
    let site = Site::start_with(Login::Account, &all);
    let connector = connector(Path::new(&options[1]));
    let ftp = RustlsFtpStream::connect(site.ftp.to_string()).unwrap();
    let mut ftp = ftp.into_secure(connector, "localhost").unwrap();
    let (user, password) = site.user();
    ftp.login(user, password).unwrap();
    ftp.transfer_type(FileType::Binary).unwrap();
    // The login has brought 8 tickets, of which the first download needs one.
    for n in 0..7 {
        let sent = content(n, 100_000);
        ftp.put_file("file", &mut Cursor::new(&sent)).unwrap();
        assert_same(&site.served("file"), &sent, "sent");
    }
    // A download brings new tickets.
    for _ in 0..4 {
        let got = ftp.retr_as_buffer("large.bin").unwrap().into_inner();
        assert_same(&got, &file("large.bin"), "got");
        ftp.put_file("file", &mut Cursor::new(&got)).unwrap();
    }
    ftp.quit().unwrap();
}
