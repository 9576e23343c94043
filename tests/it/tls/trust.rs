//! Trust of the client: the authority of the first connection, or the one that its user has chosen.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use relais_net::tls::{Fingerprint, ServerCertificate, TlsMode, TlsServer};
use relais_net::{FrameHandler, FrameLogin, LoginStep, PreAuthListener, PreAuthPool, TlsRule};
use relais_proto::{Capabilities, ClusterId, FrameType, Reply, Request, ServerRole, WireError};

use crate::accounts::{add, password, password_file};
use crate::harness::{Client, Cluster, SOON, Standalone, eventually, over_tls};

/// Returns the client's list of known authorities.
fn authorities(client: &Client) -> PathBuf {
    client.home().join("state/relais/client/authorities")
}

fn fingerprint(file: PathBuf) -> String {
    Fingerprint::of_pem(&fs::read(file).unwrap()).unwrap().to_string()
}

/// Starts a cluster and returns the file with its authority's certificate.
fn cluster() -> (Cluster, PathBuf) {
    let cluster = Cluster::of(2).file("f", b"content").start();
    let file = cluster.dir.folder("master").join("authority.pem");
    (cluster, file)
}

#[test]
fn a_new_authority_is_shown_once_and_remembered() {
    over_tls(|| {
        let (cluster, authority) = cluster();
        let client = cluster.client();
        let first = client.run(&["-c", "get f"]).ok();
        let shown = fingerprint(authority);
        assert_eq!(first.stderr.matches(&shown).count(), 1, "{first:?}");
        assert_eq!(
            fs::read_to_string(authorities(&client)).unwrap(),
            format!("{} {shown}\n", cluster.addr)
        );
        let status = client.command("status").ok().json();
        assert_eq!(
            (status["encrypted"].as_bool(), status["authority"].as_str()),
            (Some(true), Some(shown.as_str())),
            "{status}"
        );
        // All slaves are certified by the same authority.
        for _ in 0..4 {
            let again = client.run(&["-c", "get f"]).ok();
            assert!(!again.stderr.contains("SHA256"), "{again:?}");
        }
    });
}

#[test]
fn another_authority_is_refused_before_any_request() {
    over_tls(|| {
        let (mut cluster, _) = cluster();
        let client = cluster.client();
        client.run(&["-c", "get f"]).ok();
        let known = fs::read_to_string(authorities(&client)).unwrap();
        fs::remove_file(cluster.dir.folder("master").join("authority.key")).unwrap();
        let state = cluster.dir.folder("master");
        add(&cluster.dir, &state, "ann", "read", "/");
        let file = password_file(&cluster.dir, &password("ann"));
        cluster.master.kill();
        cluster.restart_master();
        cluster.wait_in_service(2);
        let refused = client
            .run(&["--json", "-u", "ann", "--password-file", file.to_str().unwrap(), "-c", "get f"])
            .fails(4);
        assert_eq!(refused.json()["error"]["code"], "not-trusted");
        let message = refused.json()["error"]["message"].to_string();
        assert!(
            message.contains("NOT TRUSTED")
                && message.contains(&fingerprint(state.join("authority.pem"))),
            "{message}"
        );
        assert!(
            message.contains(known.trim().split_once(' ').unwrap().1)
                && message.contains("authorities"),
            "{message}"
        );
        assert_eq!(fs::read_to_string(authorities(&client)).unwrap(), known);
        // A user who removes the line, as advised, accepts the new authority.
        fs::write(authorities(&client), "").unwrap();
        client.run(&["-u", "ann", "--password-file", file.to_str().unwrap(), "-c", "get f"]).ok();
    });
}

#[test]
fn an_unreadable_list_of_authorities_trusts_no_server() {
    over_tls(|| {
        let (cluster, _) = cluster();
        for text in ["nonsense\n", "\u{1}", &format!("{} SHA256:00\n", cluster.addr)] {
            let client = cluster.client();
            fs::create_dir_all(authorities(&client).parent().unwrap()).unwrap();
            fs::write(authorities(&client), text).unwrap();
            assert_eq!(
                client.run(&["--json", "-c", "get f"]).fails(4).json()["error"]["code"],
                "not-trusted"
            );
            assert_eq!(fs::read_to_string(authorities(&client)).unwrap(), text);
        }
    });
}

#[test]
fn an_unreachable_list_of_authorities_is_not_empty() {
    over_tls(|| {
        let (cluster, _) = cluster();
        let client = cluster.client();
        let folder = authorities(&client).parent().unwrap().to_owned();
        fs::create_dir_all(folder.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&folder, &folder).unwrap();
        assert_eq!(
            client.run(&["--json", "-c", "get f"]).fails(4).json()["error"]["code"],
            "not-trusted"
        );
        fs::remove_file(&folder).unwrap();
        client.run(&["-c", "get f"]).ok();
    });
}

#[test]
fn no_password_is_sent_if_the_authority_cannot_be_saved() {
    over_tls(|| {
        let slave = Standalone::start(&[], &[("f", b"content")]);
        add(&slave.dir, &slave.dir.folder("state"), "ann", "read", "/");
        let file = password_file(&slave.dir, &password("ann"));
        eventually(SOON, "the account is in force", || {
            slave.client().run(&["-c", "ls"]).stderr.contains("password").then_some(())
        });
        let authority = slave.root.join(".relais/authority.pem");
        let run = |extra: &[&str]| {
            let client = slave.client();
            // A file at the path of the folder that the client would create.
            fs::write(client.home().join("state"), "").unwrap();
            client.run(
                &[
                    &[
                        "--json",
                        "-u",
                        "ann",
                        "--password-file",
                        file.to_str().unwrap(),
                        "-c",
                        "get f",
                    ],
                    extra,
                ]
                .concat(),
            )
        };
        let refused = run(&[]).fails(4);
        assert_eq!(refused.json()["error"]["code"], "not-trusted");
        assert!(refused.stderr.contains("not remembered"), "{refused:?}");
        run(&["--ca", authority.to_str().unwrap()]).ok();
        run(&["--insecure"]).ok();
    });
}

#[test]
fn a_host_known_by_tls_is_never_used_in_clear_text() {
    let slave = Standalone::start(&[], &[("f", b"content")]);
    let client = slave.client();
    assert_eq!(client.command("status").ok().json()["encrypted"], false);
    client.run(&["--tls", "always", "-c", "get f"]).ok();
    let other = Standalone::start(&[], &[("f", b"other")]);
    let known = fs::read_to_string(authorities(&client))
        .unwrap()
        .replace(&slave.addr.to_string(), &other.addr.to_string());
    let led = other.client();
    fs::create_dir_all(authorities(&led).parent().unwrap()).unwrap();
    fs::write(authorities(&led), known).unwrap();
    assert_eq!(led.run(&["--json", "-c", "get f"]).fails(4).json()["error"]["code"], "not-trusted");
    led.run(&["--tls", "never", "-c", "get f"]).ok();
}

#[test]
fn only_the_chosen_authority_is_trusted() {
    over_tls(|| {
        let (cluster, authority) = cluster();
        let other = Standalone::start(&[], &[("f", b"other")]);
        let others = other.root.join(".relais/authority.pem");
        let client = cluster.client();
        let chosen = client.run(&["--ca", authority.to_str().unwrap(), "-c", "get f"]).ok();
        assert!(!chosen.stderr.contains("SHA256") && !authorities(&client).exists(), "{chosen:?}");
        let refused =
            client.run(&["--json", "--ca", others.to_str().unwrap(), "-c", "get f"]).fails(4);
        assert_eq!(refused.json()["error"]["code"], "not-trusted");
        // Both authorities in one file.
        let both = client.home().join("both.pem");
        fs::write(&both, [fs::read(&authority).unwrap(), fs::read(&others).unwrap()].concat())
            .unwrap();
        client.run(&["--ca", both.to_str().unwrap(), "-c", "get f"]).ok();
        other.client().run(&["--ca", both.to_str().unwrap(), "-c", "get f"]).ok();
        for bad in [&b""[..], b"x", &fs::read(&authority).unwrap()[..60]] {
            fs::write(&both, bad).unwrap();
            client.run(&["--ca", both.to_str().unwrap(), "-c", "get f"]).fails(2);
        }
        client.run(&["--ca", "/nowhere", "-c", "get f"]).fails(2);
    });
}

/// A server that pretends to be a master and records the frames it receives.
#[derive(Clone, Default)]
struct ImpostorServer(Arc<Mutex<Vec<FrameType>>>);

impl FrameHandler for ImpostorServer {
    type Value = ();
    fn on_frame(&mut self, kind: FrameType, payload: &[u8]) -> LoginStep<()> {
        self.0.lock().unwrap().push(kind);
        match Request::decode(kind, payload) {
            Ok(Request::Hello(_)) => {
                let mut bytes = Vec::new();
                let cluster = ClusterId([1; 16]);
                Reply::Welcome {
                    version: 1,
                    role: ServerRole::Master,
                    cluster,
                    capabilities: Capabilities::default(),
                    agent: String::new(),
                }
                .encode(&mut bytes);
                LoginStep::Reply(bytes)
            }
            _ => LoginStep::Reply(Vec::new()),
        }
    }
    fn refuse(&mut self, _: &WireError) -> Vec<u8> {
        Vec::new()
    }
}

#[test]
fn a_compromised_slave_gets_no_passwords() {
    over_tls(|| {
        let (cluster, authority) = cluster();
        let stolen = fs::read(cluster.slaves[0].root.join(".relais/certificate.pem")).unwrap();
        let certificate = ServerCertificate::empty();
        certificate.set(&stolen).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let pretender = ImpostorServer::default();
        let (told, tls) =
            (pretender.0.clone(), TlsServer::new(TlsMode::Always, Arc::new(certificate)).unwrap());
        std::thread::spawn(move || {
            let mut room =
                PreAuthPool::new(vec![PreAuthListener::new(listener, TlsRule::Detect(tls))], 8)
                    .unwrap();
            loop {
                room.poll(true, &[], None, &mut |new| FrameLogin::new(new.peer, pretender.clone()))
                    .unwrap();
            }
        });
        let file = password_file(&cluster.dir, "secret");
        let client = Client::new(addr);
        let refused = client.run(&[
            "-u",
            "ann",
            "--password-file",
            file.to_str().unwrap(),
            "--ca",
            authority.to_str().unwrap(),
            "-c",
            "ls",
        ]);
        assert_ne!(refused.status, 0);
        assert!(refused.stderr.contains("certificate is that of a slave"), "{refused:?}");
        let told = told.lock().unwrap();
        assert!(!told.is_empty() && told.iter().all(|kind| *kind == FrameType::Hello), "{told:?}");
    });
}

/// Creates a private authority and a certificate for `name` with its key.
fn private_certificate(name: &str) -> (String, String) {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    (authority.pem(), key.serialize_pem() + &certificate.pem() + &authority.pem())
}

#[test]
fn private_certificates_are_served_and_reloaded() {
    over_tls(|| {
        let (authority, good) = private_certificate("127.0.0.1");
        let (_, other) = private_certificate("127.0.0.1");
        let dir = crate::harness::TestDir::new();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (ca, cert) = (write("ca.pem", &authority), write("server.pem", &good));
        let authority_of_good = ca.clone();
        let cluster = Cluster::of(1)
            .master_args(&["--tls-cert", &cert])
            .slave_args(&["--tls-cert", &cert])
            .file("f", b"content")
            .start();
        let client = cluster.client();
        client.run(&["--ca", &ca, "-c", "get f"]).ok();
        let met = client.run(&["-c", "get f"]).ok();
        assert!(
            met.stderr.contains(&Fingerprint::of_pem(authority.as_bytes()).unwrap().to_string()),
            "{met:?}"
        );
        // The key in a separate file.
        let (key, chain) = good.split_at(good.find("-----BEGIN CERT").unwrap());
        let (key, chain) = (write("key.pem", key), write("chain.pem", chain));
        let slave =
            Standalone::start(&["--tls-cert", &chain, "--tls-key", &key], &[("f", b"content")]);
        slave.client().run(&["--ca", &ca, "-c", "get f"]).ok();
        // Replaced while the server runs: loaded automatically, and rejected by clients that chose
        // the former authority.
        write("chain.pem", &other[other.find("-----BEGIN CERT").unwrap()..]);
        write("key.pem", &other[..other.find("-----BEGIN CERT").unwrap()]);
        eventually(SOON, "the new certificate is shown", || {
            (slave.client().run(&["--ca", &ca, "-c", "get f"]).status == 4).then_some(())
        });
        // A certificate for another host, and an invalid one.
        let (authority, wrong) = private_certificate("elsewhere.example");
        let (ca, wrong) = (write("ca2.pem", &authority), write("wrong.pem", &wrong));
        let slave = Standalone::start(&["--tls-cert", &wrong], &[("f", b"content")]);
        let refused = slave.client().run(&["--ca", &ca, "--json", "-c", "get f"]).fails(4);
        assert_eq!(refused.json()["error"]["code"], "not-trusted");
        let open = write("open.pem", &good);
        fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let pipe = pipe.to_str().unwrap().to_owned();
        for bad in
            [write("bad.pem", "x"), ca, "/nowhere".to_owned(), open, pipe, "/dev/zero".to_owned()]
        {
            let root = dir.folder("root");
            let mut slave = crate::harness::ProgramBuilder::new("ftpslave", dir.path())
                .args(["0", "--standalone", "--tls-cert", &bad, "--root", root.to_str().unwrap()])
                .start();
            assert_eq!(slave.wait(SOON), 1);
            let mut master = crate::harness::ProgramBuilder::new("ftpmaster", dir.path())
                .args(["--listen", "127.0.0.1:0", "--tls-cert", &bad])
                .start();
            assert_eq!(master.wait(SOON), 1, "{bad}");
            for program in [master, slave] {
                assert!(program.stdout.ends_within(SOON));
                assert_eq!(program.stdout.text(), "", "the ready line was printed: {bad}");
            }
        }
        // A pipe in place of a valid file blocks no server.
        fs::remove_file(&cert).unwrap();
        nix::unistd::mkfifo(cert.as_str(), nix::sys::stat::Mode::from_bits_truncate(0o600))
            .unwrap();
        std::thread::sleep(std::time::Duration::from_secs(2));
        client.run(&["--ca", &authority_of_good, "-c", "get f"]).ok();
        cluster.master.stderr.wait_for(SOON, "the log reports it", |said| {
            said.contains("is not a regular file").then_some(())
        });
        client.run(&["--ca", "/dev/zero", "-c", "get f"]).fails(2);
    });
}
