//! Logins by FTP: the master decides for its slaves, and sessions follow the accounts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

use nix::sys::signal::Signal;
use relais_proto::limits;
use socket2::{Domain, Socket, Type};

use super::{FtpReply, FtpTestClient, ftp_address, start_ftp};
use crate::accounts::{add, password, password_file, user, wait_revoked};
use crate::harness::{Cluster, ClusterBuilder, SOON, eventually};

/// A cluster whose slaves also serve FTP.
struct FtpCluster(Cluster);

impl FtpCluster {
    fn of(builder: ClusterBuilder) -> Self {
        Self(builder.slave_args(&["--ftp", "127.0.0.1:0"]).start())
    }

    /// One slave with the files `f` and `home/x`, and these accounts (name, rights, root).
    fn with(users: &[(&str, &str, &str)]) -> Self {
        let cluster = Self::of(Cluster::of(1).file("f", b"top").file("home/x", b"home"));
        cluster.add(users);
        cluster
    }

    fn add(&self, users: &[(&str, &str, &str)]) {
        for (name, rights, root) in users {
            add(&self.0.dir, &self.state(), name, rights, root);
        }
        let Some((name, ..)) = users.first() else { return };
        eventually(SOON, "the accounts are in force", || {
            let (_, reply) = log_in(self.ftp(0), 1, name, &password(name));
            (reply.code == 230).then_some(())
        });
    }

    fn state(&self) -> PathBuf {
        self.0.dir.folder("master")
    }

    fn ftp(&self, slave: usize) -> SocketAddr {
        ftp_address(&self.0.slaves[slave].program, "ftp")
    }

    /// Runs `ftpmaster user`.
    #[track_caller]
    fn user(&self, words: &[&str]) {
        user(&self.0.dir, &self.state(), words).ok();
    }

    /// Sets another password.
    #[track_caller]
    fn set_password(&self, name: &str, password: &str) {
        let file = password_file(&self.0.dir, password);
        self.user(&["passwd", name, "--password-file", file.to_str().unwrap()]);
    }

    #[track_caller]
    fn open(&self, name: &str) -> FtpTestClient {
        let (client, reply) = log_in(self.ftp(0), 1, name, &password(name));
        assert_eq!(reply.code, 230, "{name}: {reply:?}");
        client
    }
}

/// Connects from the loopback address 127.0.0.`host`.
fn connect_from(host: u8, addr: SocketAddr) -> FtpTestClient {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, host));
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.connect(&addr.into()).unwrap();
    FtpTestClient::over(TcpStream::from(socket))
}

/// Logs in on a new connection from 127.0.0.`host`; returns the reply to the password.
fn log_in(addr: SocketAddr, host: u8, user: &str, password: &str) -> (FtpTestClient, FtpReply) {
    let mut client = connect_from(host, addr);
    client.expect(&format!("USER {user}"), 331);
    let reply = client.command(&format!("PASS {password}"));
    (client, reply)
}

fn code(addr: SocketAddr, host: u8, user: &str, password: &str) -> u16 {
    log_in(addr, host, user, password).1.code
}

/// Sends a harmless command until the session ends with 530.
#[track_caller]
fn wait_ended(client: &mut FtpTestClient) {
    eventually(SOON, "the session ends", || match client.command("NOOP").code {
        200 => None,
        530 => Some(()),
        other => panic!("{other}"),
    });
    assert!(client.try_reply().is_none(), "it is closed");
}

#[test]
fn accounts_of_the_master_hold_at_every_slave() {
    let cluster = FtpCluster::of(Cluster::of(2).file("f", b"top").file("home/x", b"home"));
    cluster.add(&[("ann", "write", "/home"), ("eve", "read", "/")]);
    for slave in [0, 1] {
        let addr = cluster.ftp(slave);
        let (mut ann, reply) = log_in(addr, 1, "ann", &password("ann"));
        assert_eq!(reply.code, 230, "{reply:?}");
        ann.expect("TYPE I", 200);
        assert_eq!(ann.expect("SIZE x", 213).text(), "4");
        ann.expect("SIZE f", 550);
        ann.expect("CWD ..", 550);
        ann.expect(&format!("MKD d{slave}"), 257);
        assert!(cluster.0.slaves[slave].root.join(format!("home/d{slave}")).is_dir());
        let (mut eve, reply) = log_in(addr, 1, "eve", &password("eve"));
        assert_eq!(reply.code, 230, "{reply:?}");
        eve.expect("TYPE I", 200);
        assert_eq!(eve.expect("SIZE f", 213).text(), "3");
        for line in ["MKD e", "DELE f", "RMD home/d0", "MFMT 20200101000000 f"] {
            eve.expect(line, 550);
        }
        assert_eq!(code(addr, 1, "bob", "x"), 530);
        assert_eq!(code(addr, 1, "anonymous", "x"), 530);
    }
    for program in cluster.0.slaves.iter().map(|slave| &slave.program).chain([&cluster.0.master]) {
        assert!(!program.stderr.text().contains(&password("ann")), "a password in a log");
    }
}

#[test]
fn standby_slave_asks_the_master_over_its_own_link() {
    let cluster = FtpCluster::of(Cluster::of(2).shared().file("f", b"top"));
    cluster.add(&[("ann", "write", "/")]);
    for slave in [0, 1] {
        let (mut client, reply) = log_in(cluster.ftp(slave), 1, "ann", &password("ann"));
        assert_eq!(reply.code, 230, "{reply:?}");
        client.expect(&format!("MKD d{slave}"), 257);
    }
}

#[test]
fn wrong_passwords_delay_the_address_of_the_client() {
    let cluster = FtpCluster::of(Cluster::of(2).file("f", b"top"));
    cluster.add(&[("ann", "read", "/")]);
    let mut client = connect_from(2, cluster.ftp(0));
    for guess in ["one", "two", "three"] {
        client.expect("USER ann", 331);
        client.expect(&format!("PASS {guess}"), 530);
    }
    assert!(client.try_reply().is_none(), "three attempts");
    assert_eq!(code(cluster.ftp(0), 2, "ann", "four"), 530);
    // It has to wait at each slave, and other addresses of the same slave do not.
    for slave in [0, 1] {
        let (_, reply) = log_in(cluster.ftp(slave), 2, "ann", &password("ann"));
        assert_eq!(reply.code, 421, "slave {slave}: {reply:?}");
        assert_eq!(code(cluster.ftp(slave), 3, "ann", &password("ann")), 230, "slave {slave}");
    }
    eventually(SOON, "the wait ends", || {
        (code(cluster.ftp(0), 2, "ann", &password("ann")) == 230).then_some(())
    });
    let log = cluster.0.master.stderr.text();
    assert!(log.contains("login failed for \"ann\" from 127.0.0.2 through slave "), "{log}");
}

#[test]
fn removed_user_ends_at_the_next_command_and_no_other_does() {
    let cluster = FtpCluster::with(&[("ann", "write", "/"), ("bob", "write", "/")]);
    let (mut ann, mut bob) = (cluster.open("ann"), cluster.open("bob"));
    cluster.user(&["remove", "bob"]);
    wait_ended(&mut bob);
    ann.expect("MKD d", 257);
    assert_eq!(code(cluster.ftp(0), 1, "bob", &password("bob")), 530);
    cluster.user(&["remove", "ann"]);
    wait_ended(&mut ann);
}

#[test]
fn changed_rights_are_taken_over_and_a_changed_password_ends_sessions() {
    let cluster = FtpCluster::with(&[("ann", "write", "/"), ("bob", "write", "/")]);
    let (mut ann, mut bob) = (cluster.open("ann"), cluster.open("bob"));
    cluster.user(&["set", "ann", "--rights", "read", "--root", "/home"]);
    let mut made = 0;
    eventually(SOON, "she may only read", || {
        made += 1;
        (ann.command(&format!("MKD d{made}")).code == 550).then_some(())
    });
    ann.expect("TYPE I", 200);
    assert_eq!(ann.expect("SIZE x", 213).text(), "4");
    ann.expect("SIZE f", 550);
    cluster.set_password("ann", "another");
    wait_ended(&mut ann);
    bob.expect("MKD bob", 257);
    assert_eq!(code(cluster.ftp(0), 1, "ann", &password("ann")), 530);
    assert_eq!(code(cluster.ftp(0), 1, "ann", "another"), 230);
}

#[test]
fn standalone_slave_follows_its_accounts_too() {
    let (slave, addr) = start_ftp(&["--workers", "2"], &[("f", b"top")]);
    let state = slave.dir.folder("state");
    for name in ["ann", "bob", "eve"] {
        add(&slave.dir, &state, name, "write", "/");
    }
    let open = |name: &str| {
        eventually(SOON, "the account is in force", || {
            let (client, reply) = log_in(addr, 1, name, &password(name));
            (reply.code == 230).then_some(client)
        })
    };
    let [mut ann, mut bob, mut eve] = ["ann", "bob", "eve"].map(open);
    user(&slave.dir, &state, &["remove", "bob"]).ok();
    user(&slave.dir, &state, &["set", "eve", "--rights", "read"]).ok();
    wait_ended(&mut bob);
    let mut made = 0;
    eventually(SOON, "she may only read", || {
        made += 1;
        (eve.command(&format!("MKD d{made}")).code == 550).then_some(())
    });
    ann.expect("MKD ann", 257);
    eve.expect("PWD", 257);
}

#[test]
fn without_the_master_new_logins_are_refused_and_sessions_go_on() {
    let mut cluster = FtpCluster::with(&[("ann", "write", "/"), ("bob", "write", "/")]);
    let mut ann = cluster.open("ann");
    cluster.0.master.stop(Signal::SIGTERM);
    let reply = eventually(SOON, "logins are refused", || {
        let (_, reply) = log_in(cluster.ftp(0), 1, "ann", &password("ann"));
        (reply.code != 230).then_some(reply)
    });
    assert_eq!(reply.code, 421, "{reply:?}");
    assert!(reply.text().contains("master"), "{reply:?}");
    ann.expect("TYPE I", 200);
    assert_eq!(ann.expect("SIZE f", 213).text(), "3");
    cluster.0.restart_master();
    eventually(SOON, "logins work again", || {
        (code(cluster.ftp(0), 1, "ann", &password("ann")) == 230).then_some(())
    });
    ann.expect("NOOP", 200);
}

#[test]
fn silent_master_delays_no_login_for_long() {
    let cluster = FtpCluster::with(&[("ann", "read", "/")]);
    let mut ann = cluster.open("ann");
    cluster.0.master.signal(Signal::SIGSTOP);
    let began = Instant::now();
    let (_, reply) = log_in(cluster.ftp(0), 1, "ann", &password("ann"));
    assert_eq!(reply.code, 421, "{reply:?}");
    assert!(reply.text().contains("master"), "{reply:?}");
    assert!(began.elapsed() < limits::LOGIN_TIME, "{:?}", began.elapsed());
    ann.expect("NOOP", 200);
    cluster.0.master.signal(Signal::SIGCONT);
    eventually(SOON, "logins work again", || {
        (code(cluster.ftp(0), 1, "ann", &password("ann")) == 230).then_some(())
    });
}

#[test]
fn old_login_waits_for_the_master_to_renew_it() {
    let mut cluster = FtpCluster::with(&[("ann", "write", "/"), ("bob", "write", "/")]);
    let mut ann = cluster.open("ann");
    cluster.user(&["remove", "bob"]);
    wait_revoked(&cluster.0);
    cluster.0.master.kill();
    // The slave may not have noticed yet that the link has ended.
    eventually(SOON, "the login cannot be renewed", || {
        (ann.command("NOOP").code == 450).then_some(())
    });
    let reply = ann.expect("NOOP", 450);
    assert!(reply.text().contains("master"), "{reply:?}");
    cluster.0.restart_master();
    eventually(SOON, "the login is renewed", || (ann.command("NOOP").code == 200).then_some(()));
    ann.expect("MKD d", 257);
}

#[test]
fn anonymous_clients_have_the_rights_of_native_ones_without_accounts() {
    let cluster = FtpCluster::of(Cluster::of(1).file("f", b"top").file("pub/x", b"public"));
    for name in ["anonymous", "FTP"] {
        let (mut client, reply) = log_in(cluster.ftp(0), 1, name, "me@example.org");
        assert_eq!(reply.code, 230, "{reply:?}");
        client.expect(&format!("MKD {name}"), 257);
    }
    assert_eq!(code(cluster.ftp(0), 1, "ann", "x"), 530);
    // The first account ends such sessions.
    let (mut guest, _) = log_in(cluster.ftp(0), 1, "ftp", "x");
    cluster.add(&[("ann", "read", "/")]);
    wait_ended(&mut guest);
    assert_eq!(code(cluster.ftp(0), 1, "ftp", "x"), 530);
    cluster.add(&[("anonymous", "read", "/pub")]);
    let (mut guest, reply) = log_in(cluster.ftp(0), 1, "ftp", "x");
    assert_eq!(reply.code, 230, "{reply:?}");
    guest.expect("TYPE I", 200);
    assert_eq!(guest.expect("SIZE x", 213).text(), "6");
    guest.expect("SIZE f", 550);
    guest.expect("MKD d", 550);
}

#[test]
fn anonymous_clients_only_read_if_a_listener_is_not_on_loopback() {
    for builder in [
        Cluster::of(1).slave_args(&["--ftp", "0.0.0.0:0"]),
        Cluster::of(1).listen("0.0.0.0").slave_args(&["--ftp", "127.0.0.1:0"]),
    ] {
        let cluster = FtpCluster(builder.file("f", b"top").start());
        let port = cluster.ftp(0).port();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (mut client, reply) = log_in(addr, 1, "anonymous", "x");
        assert_eq!(reply.code, 230, "{reply:?}");
        client.expect("TYPE I", 200);
        assert_eq!(client.expect("SIZE f", 213).text(), "3");
        client.expect("MKD d", 550);
    }
}
