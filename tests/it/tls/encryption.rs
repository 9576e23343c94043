//! Encryption: which connections are encrypted, what an eavesdropper reads, and men in the middle.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relais_net::tls::{Dialer, ServerCertificate, TlsMode, TlsServer, TrustPolicy};
use relais_net::{FrameHandler, FrameLogin, LoginStep, PreAuthListener, PreAuthPool, TlsRule};
use relais_proto::{ErrorCode, FrameType, Reply, WireError};

use crate::accounts::{add, password, password_file};
use crate::harness::{
    Client, Cluster, Network, ProgramBuilder, RawClient, SOON, Standalone, TestDir, eventually,
    over_tls,
};

#[test]
fn a_password_is_sent_to_other_machines_only_over_tls() {
    let network = Network::new();
    let dir = TestDir::new();
    let (root, state) = (dir.folder("root"), dir.folder("state"));
    crate::harness::write_old(&root.join("f"), b"content");
    add(&dir, &state, "ann", "read", "/");
    let file = password_file(&dir, &password("ann"));
    let login = ["-u", "ann", "--password-file", file.to_str().unwrap(), "--json", "-c", "get f"];
    let start = |extra: &[&str]| {
        let mut slave = ProgramBuilder::new("ftpslave", dir.path())
            .args([
                "0",
                "--standalone",
                "--listen",
                Network::ADDRESS,
                "--state",
                state.to_str().unwrap(),
                "--root",
                root.to_str().unwrap(),
            ])
            .args(extra)
            .under(&network.under())
            .start();
        let addr = slave.ready();
        (slave, addr)
    };
    let run = |addr: SocketAddr, extra: &[&str]| {
        let client = Client::new(addr);
        let output = Client::finish(
            &mut client.setup(&[&login[..], extra].concat()).under(&network.under()).start(),
        );
        let got = output.status == 0;
        assert_eq!(client.folder().join("f").exists(), got, "{output:?}");
        output
    };
    let (slave, addr) = start(&[]);
    let met = run(addr, &[]).ok();
    assert!(met.stderr.contains("first encrypted meeting"), "{met:?}");
    let refused = run(addr, &["--tls", "never"]).fails(4);
    assert_eq!(
        refused.json()["error"]["code"],
        "login-needed",
        "no client sends the password in clear text"
    );
    let refused = run(addr, &["--tls", "never", "--insecure"]).fails(4);
    assert_eq!(
        refused.json()["error"]["code"],
        "tls-needed",
        "no server accepts the password in clear text"
    );
    drop(slave);
    let (_slave, addr) = start(&["--tls", "never"]);
    let refused = run(addr, &[]).fails(4);
    assert_eq!(
        refused.json()["error"]["code"],
        "not-trusted",
        "the client was downgraded to clear text"
    );
    run(addr, &["--tls", "never"]).fails(4);
    run(addr, &["--tls", "never", "--insecure"]).ok();
}

#[test]
fn local_connections_are_clear_unless_a_server_requires_tls() {
    let slave = Standalone::start(&["--tls", "always"], &[("f", b"content")]);
    let mut wire = RawClient::connect(slave.addr);
    wire.send(&[crate::harness::hello()]);
    assert!(matches!(wire.reply(), Reply::Error(refusal) if refusal.code == ErrorCode::TlsNeeded));
    // The client follows the server's demand.
    let output = slave.client().run(&["-c", "get f"]).ok();
    assert!(output.stderr.contains("first encrypted meeting"), "{output:?}");
    let refused = slave.client().run(&["--tls", "never", "--json", "-c", "get f"]).fails(4);
    assert_eq!(refused.json()["error"]["code"], "tls-needed");
    let clear = Standalone::start(&[], &[("f", b"content")]);
    let output = clear.client().run(&["-c", "get f"]).ok();
    assert!(output.stderr.is_empty(), "{output:?}");
    let output = clear.client().run(&["--tls", "always", "-c", "get f"]).ok();
    assert!(output.stderr.contains("first encrypted meeting"), "{output:?}");
}

#[test]
fn operator_commands_use_tls_if_the_master_requires_it() {
    let always = ["--tls", "always"];
    // `wait_in_service` has already asked for the status, without any TLS option.
    let cluster = Cluster::of(1).master_args(&always).slave_args(&always).start();
    assert_eq!(cluster.status(&["--json"]).ok().json()["slaves"][0]["state"], "in-service");
    let refused = cluster.status(&["--tls", "never"]).fails(1);
    assert!(refused.stderr.contains("encrypted"), "{refused:?}");
}

/// Records the bytes between a client and a server, in both directions.
#[derive(Clone, Default)]
struct WireTap(Arc<Mutex<Vec<u8>>>);

impl WireTap {
    fn tap(&self, server: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = self.0.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect(server).unwrap();
                for (mut from, mut to) in
                    [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    let seen = seen.clone();
                    std::thread::spawn(move || {
                        let mut buffer = [0; 4096];
                        while let Ok(got @ 1..) = from.read(&mut buffer) {
                            seen.lock().unwrap().extend_from_slice(&buffer[..got]);
                            if to.write_all(&buffer[..got]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        addr
    }

    fn has(&self, what: &[u8]) -> bool {
        self.0.lock().unwrap().windows(what.len()).any(|window| window == what)
    }
}

#[test]
fn an_eavesdropper_reads_no_passwords_names_or_contents() {
    for encrypted in [true, false] {
        let slave =
            Standalone::start(&[], &[("a-name-that-stands-out", b"content that stands out")]);
        add(&slave.dir, &slave.dir.folder("state"), "ann", "read", "/");
        let file = password_file(&slave.dir, &password("ann"));
        eventually(SOON, "the account is in force", || {
            slave.client().run(&["-c", "ls"]).stderr.contains("password").then_some(())
        });
        let tapped = WireTap::default();
        let client = Client::new(tapped.tap(slave.addr));
        let tls = if encrypted { "always" } else { "remote" };
        client
            .run(&[
                "--tls",
                tls,
                "-u",
                "ann",
                "--password-file",
                file.to_str().unwrap(),
                "-c",
                "get a-name-that-stands-out",
            ])
            .ok();
        for what in [
            &password("ann").into_bytes()[..],
            b"a-name-that-stands-out",
            b"content that stands out",
            b"ann",
            b"RELA",
        ] {
            assert_eq!(tapped.has(what), !encrypted, "{}", String::from_utf8_lossy(what));
        }
    }
}

/// Accepts every client with its first frame.
struct ManInTheMiddle;

impl FrameHandler for ManInTheMiddle {
    type Value = (FrameType, Vec<u8>);
    fn on_frame(&mut self, kind: FrameType, payload: &[u8]) -> LoginStep<Self::Value> {
        LoginStep::Done { value: (kind, payload.to_vec()), send: Vec::new() }
    }
    fn refuse(&mut self, _: &WireError) -> Vec<u8> {
        Vec::new()
    }
}

/// Starts a man in the middle between any client and `server`, with its own keys for both.
fn man_in_the_middle(server: SocketAddr) -> SocketAddr {
    let key = rcgen::generate_simple_self_signed(["master.relais.internal".to_owned()]).unwrap();
    let certificate = ServerCertificate::empty();
    certificate.set((key.signing_key.serialize_pem() + &key.cert.pem()).as_bytes()).unwrap();
    let tls = TlsServer::new(TlsMode::Always, Arc::new(certificate)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut room =
            PreAuthPool::new(vec![PreAuthListener::new(listener, TlsRule::Detect(tls))], 8)
                .unwrap();
        loop {
            for arrival in room
                .poll(true, &[], None, &mut |new| FrameLogin::new(new.peer, ManInTheMiddle))
                .unwrap()
            {
                let far = Dialer::new(TlsMode::Always)
                    .unwrap()
                    .connect(server, SOON, &TrustPolicy::Anyone, "")
                    .unwrap()
                    .stream()
                    .clone();
                let near = Arc::new(arrival.stream);
                let (kind, payload) = arrival.value;
                let header =
                    relais_proto::FrameHeader { kind, len: u32::try_from(payload.len()).unwrap() };
                let first = [&header.to_bytes()[..], &payload].concat();
                std::thread::spawn(move || {
                    far.set_read_timeout(None).unwrap();
                    (&*far).write_all(&first).unwrap();
                    let (up, down) = ((near.clone(), far.clone()), (far, near));
                    std::thread::spawn(move || std::io::copy(&mut &*up.0, &mut &*up.1));
                    let _ = std::io::copy(&mut &*down.0, &mut &*down.1);
                });
            }
        }
    });
    addr
}

#[test]
fn a_man_in_the_middle_is_rejected_by_all_programs() {
    over_tls(|| {
        let cluster = Cluster::of(1).file("f", b"content").start();
        let between = man_in_the_middle(cluster.addr);
        // A client that has been connected before.
        let client = cluster.client();
        client.run(&["-c", "get f"]).ok();
        let list = client.home().join("state/relais/client/authorities");
        let known = fs::read_to_string(&list)
            .unwrap()
            .replace(&cluster.addr.to_string(), &between.to_string());
        fs::write(&list, known).unwrap();
        let led = Client::new(between);
        let folder = led.home().join("state/relais/client");
        fs::create_dir_all(&folder).unwrap();
        fs::copy(&list, folder.join("authorities")).unwrap();
        assert_eq!(
            led.run(&["--json", "-c", "get f"]).fails(4).json()["error"]["code"],
            "not-trusted"
        );
        // The operator's key is right, and the connection is not.
        let state = cluster.dir.folder("master");
        let status = |master: SocketAddr| {
            let args =
                ["status", "--master", &master.to_string(), "--state", state.to_str().unwrap()];
            Client::finish(
                &mut ProgramBuilder::new("ftpmaster", cluster.dir.path()).args(args).start(),
            )
        };
        status(cluster.addr).ok();
        let refused = status(between).fails(1);
        assert!(refused.stderr.contains("does not have the key"), "{refused:?}");
        let root = cluster.dir.folder("led");
        let slave = ProgramBuilder::new("ftpslave", cluster.dir.path())
            .args([
                "0",
                "--master",
                &between.to_string(),
                "--cluster-key",
                cluster.key().to_str().unwrap(),
                "--root",
                root.to_str().unwrap(),
            ])
            .start();
        slave.stderr.wait_for(SOON, "the slave logs it", |text| {
            text.contains("does not have the key").then_some(())
        });
        assert_eq!(cluster.status_json().unwrap()["slaves"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn certificates_are_renewed_while_everything_runs() {
    over_tls(|| {
        // A validity of nine seconds.
        let cluster = Cluster::of(2)
            .master_args(&["--certificate-days", "0.0001"])
            .file("f", b"content")
            .start();
        let client = cluster.client();
        client.run(&["-c", "get f"]).ok();
        let shown = || {
            cluster
                .slaves
                .iter()
                .map(|slave| fs::read(slave.root.join(".relais/certificate.pem")).unwrap())
                .collect::<Vec<_>>()
        };
        // A certificate is renewed before it expires, so the second renewal is after that.
        for _ in 0..2 {
            let before = shown();
            eventually(SOON, "both slaves have another certificate", || {
                shown().iter().zip(&before).all(|(now, then)| now != then).then_some(())
            });
        }
        for _ in 0..4 {
            client.run(&["-c", "get f"]).ok();
        }
        // Sessions under the former certificate continue.
        assert_eq!(cluster.count("in-service"), 2);
    });
}

fn handshake() -> &'static [u8] {
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
}

#[test]
fn incomplete_handshakes_time_out_like_logins() {
    let slave = Standalone::start(&["--tls", "always", "--workers", "2"], &[("f", b"content")]);
    let unauthenticated: Vec<RawClient> = (0..400)
        .map(|n| {
            let mut wire = RawClient::connect(slave.addr);
            wire.raw(if n % 2 == 0 { handshake() } else { b"\x16" });
            wire
        })
        .collect();
    // A correct client at the same time.
    slave.client().run(&["-c", "get f"]).ok();
    // A client that sends a byte a second is closed at the login timeout.
    let mut slow = RawClient::connect(slave.addr);
    let began = std::time::Instant::now();
    for byte in handshake().iter().chain(&[0; 100]) {
        if !slow.raw(&[*byte]) {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(began.elapsed() < 3 * relais_proto::limits::LOGIN_TIME, "{:?}", began.elapsed());
    for mut wire in unauthenticated {
        wire.closed_within(3 * relais_proto::limits::LOGIN_TIME);
    }
    slave.client().run(&["-c", "get f"]).ok();
}

#[test]
fn a_stopping_slave_delivers_its_answers() {
    over_tls(|| {
        let bytes = crate::harness::content(3, 30_000_000);
        let mut slave = Standalone::start(&["--grace", "30"], &[("f", &bytes)]);
        let proxy = crate::harness::Proxy::to(slave.addr);
        proxy.throttle(Some(10_000_000));
        let client = Client::new(proxy.addr());
        let mut program = client.start(&["-c", "get f"]);
        let mut came = 0;
        eventually(SOON, "the transfer has begun", || {
            came += proxy.take_content_bytes();
            (came > 1_000_000).then_some(())
        });
        slave.program.signal(nix::sys::signal::Signal::SIGTERM);
        Client::finish(&mut program).ok();
        assert!(client.read("f") == bytes);
        assert_eq!(slave.program.wait(SOON), 0);
    });
}

#[test]
fn two_slaves_of_one_folder_start_together() {
    for _ in 0..5 {
        let dir = TestDir::new();
        let root = dir.folder("root");
        let start = || {
            ProgramBuilder::new("ftpslave", dir.path())
                .args(["0", "--standalone", "--root"])
                .args([&root])
                .start()
        };
        let mut both = [start(), start(), start()];
        assert!(both.iter_mut().all(|slave| slave.ready().port() > 0));
    }
}
