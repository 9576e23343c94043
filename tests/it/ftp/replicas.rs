//! RETR of content that the slave lacks: streamed from replicas, verified, continued after a crash.
//!
//! The disk of the slave that serves FTP is too small for the file. Two other slaves have it, each
//! behind a proxy that counts and spoils what it sends.

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;

use super::{FtpTestClient, ftp_address};
use crate::cluster::helpers::{open, report_at, rot, wait_settled};
use crate::harness::{
    Cluster, Fault, Program, ProgramBuilder, Proxy, SOON, Strace, TestDir, Volume, content,
    eventually, process_of,
};

const MIB: usize = 1024 * 1024;
/// More than the buffers of two connections hold, so a client that stops reading stops the stream.
const SIZE: usize = 40 * MIB + 12_345;
/// Size of the disk of the slave that serves FTP.
const DISK: &str = "size=12m";

/// A cluster whose last slave serves FTP and lacks the file `f`. Dropped in this order.
struct LackingSlave {
    slave: Program,
    ftp: SocketAddr,
    cluster: Cluster,
    _volume: Volume,
    logs: TestDir,
    bytes: Vec<u8>,
}

impl LackingSlave {
    #[track_caller]
    fn start() -> Self {
        let (cluster, volume) = (Cluster::of(2).proxied().start(), Volume::mount(DISK));
        let bytes = content(1, SIZE);
        open(&cluster, 0).put("f", &bytes).unwrap();
        wait_settled(&cluster);
        std::fs::create_dir(volume.path().join("root")).unwrap();
        let logs = TestDir::new();
        let mut slave = ProgramBuilder::new("ftpslave", cluster.dir.path())
            .args(["0", "--ftp", "127.0.0.1:0", "--workers", "1"])
            .args(["--master", &cluster.addr.to_string()])
            .args([PathBuf::from("--root"), volume.inside().join("root")])
            .args([PathBuf::from("--cluster-key"), cluster.key()])
            .args([PathBuf::from("--transfer-log"), logs.path().join("log")])
            .under(&volume.under())
            .start();
        let addr = slave.ready().to_string();
        let ftp = ftp_address(&slave, "ftp");
        let new = Self { slave, ftp, cluster, _volume: volume, logs, bytes };
        new.cluster.wait_in_service(3);
        eventually(SOON, "the slave knows the file and cannot store it", || {
            let report = report_at(&new.cluster, &addr);
            (report["unapplied"] == 1 && report["missing"] == 1 && report["lag"] == 0).then_some(())
        });
        new
    }

    fn proxy(&self, n: usize) -> &Proxy {
        self.cluster.slaves[n].proxy.as_ref().unwrap()
    }

    fn client(&self) -> FtpTestClient {
        FtpTestClient::anonymous(self.ftp)
    }

    /// Begins a RETR, reads the first MiB, and returns the slave that the rest comes from.
    #[track_caller]
    fn begin(&self, client: &mut FtpTestClient) -> (std::net::TcpStream, Vec<u8>, usize) {
        (0..2).for_each(|n| {
            self.proxy(n).take_content_bytes();
        });
        let mut data = client.begin("RETR f");
        let mut first = vec![0; MIB];
        data.read_exact(&mut first).unwrap();
        let sent = [0, 1].map(|n| self.proxy(n).content_bytes());
        (data, first, usize::from(sent[1] > sent[0]))
    }

    /// Returns command, bytes and result of each line of the transfer log.
    fn log(&self) -> Vec<(String, u64, String)> {
        let text = std::fs::read_to_string(self.logs.path().join("log")).unwrap_or_default();
        let fields = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| line[key].as_str().unwrap().to_owned();
            (text("command"), line["bytes"].as_u64().unwrap(), text("result"))
        };
        text.lines().map(fields).collect()
    }

    #[track_caller]
    fn wait_logged(&self, bytes: std::ops::RangeInclusive<u64>, result: &str) {
        eventually(SOON, "a line of the transfer log", || {
            let log = self.log();
            let (command, sent, last) = log.last()?;
            (command == "get" && bytes.contains(sent) && last == result).then_some(())
        });
    }
}

#[test]
fn missing_content_is_streamed_and_logged() {
    let fixture = LackingSlave::start();
    let mut client = fixture.client();
    assert!(client.get("RETR f") == fixture.bytes);
    fixture.wait_logged(SIZE as u64..=SIZE as u64, "ok");
    assert_eq!(client.expect("SIZE f", 213).text(), SIZE.to_string());
    for offset in [1, MIB - 1, MIB, SIZE - 7, SIZE] {
        client.expect(&format!("REST {offset}"), 350);
        assert!(client.get("RETR f") == fixture.bytes[offset..], "{offset}");
    }
    fixture.wait_logged(0..=0, "ok");
    // Checksums are those of the content, and no transfers.
    let lines = fixture.log().len();
    let digest = blake3::hash(&fixture.bytes).to_string();
    client.expect("OPTS HASH BLAKE3", 200);
    assert!(client.expect("HASH f", 213).text().contains(&digest));
    client.expect("REST 5", 350);
    let part = blake3::hash(&fixture.bytes[5..]).to_string();
    assert!(client.expect("HASH f", 213).text().contains(&part));
    assert_eq!(fixture.log().len(), lines);
}

#[test]
fn a_killed_replica_is_replaced_by_another() {
    let mut fixture = LackingSlave::start();
    let mut client = fixture.client();
    let (mut data, mut bytes, source) = fixture.begin(&mut client);
    fixture.cluster.slaves[source].program.kill();
    data.read_to_end(&mut bytes).unwrap();
    client.reply_of(226);
    assert!(bytes == fixture.bytes);
    assert!(fixture.proxy(1 - source).content_bytes() > 0, "the other replica has continued");
    fixture.wait_logged(SIZE as u64..=SIZE as u64, "ok");
    // The address of a restarted slave is found.
    fixture.cluster.restart_slave(source);
    fixture.cluster.wait_in_service(3);
    fixture.cluster.slaves[1 - source].program.kill();
    assert!(client.get("RETR f") == fixture.bytes);
}

#[test]
fn a_bit_flipped_on_the_way_does_not_reach_the_client() {
    let fixture = LackingSlave::start();
    let mut client = fixture.client();
    let (mut data, mut bytes, source) = fixture.begin(&mut client);
    fixture.proxy(source).fault_at_content(35_000_000, Fault::FlipBit);
    data.read_to_end(&mut bytes).unwrap();
    client.reply_of(226);
    assert!(bytes == fixture.bytes);
    assert!(fixture.proxy(source).struck(), "no byte was changed");
    assert!(fixture.slave.stderr.text().contains("is damaged"), "the stream met no changed byte");
}

#[test]
fn a_replica_with_a_damaged_disk_is_left() {
    let mut fixture = LackingSlave::start();
    rot(&mut fixture.cluster, 0, "f");
    fixture.cluster.wait_in_service(3);
    // Only the damaged copy can be reached.
    fixture.proxy(1).refuse(true);
    fixture.proxy(1).cut_all();
    let mut client = fixture.client();
    let data = client.passive();
    let reply = client.command("RETR f");
    assert!(matches!(reply.code, 450 | 451), "{reply:?}");
    drop(data);
    fixture.proxy(1).refuse(false);
    assert!(client.get("RETR f") == fixture.bytes);
}

#[test]
fn without_a_replica_the_data_does_not_look_complete() {
    let mut fixture = LackingSlave::start();
    let mut client = fixture.client();
    let (mut data, mut bytes, _) = fixture.begin(&mut client);
    fixture.cluster.slaves.iter_mut().for_each(|slave| slave.program.kill());
    let ended = data.read_to_end(&mut bytes);
    assert!(ended.is_err(), "the data ended like a file after {} bytes", bytes.len());
    assert!(bytes.len() < SIZE && bytes[..] == fixture.bytes[..bytes.len()]);
    let reply = client.reply();
    assert!(matches!(reply.code, 450 | 451) && reply.text().contains("no slave"), "{reply:?}");
    fixture.wait_logged(MIB as u64..=SIZE as u64 - 1, "no-content");
    // A new RETR is refused before its data connection is used.
    let data = client.passive();
    let reply = client.command("RETR f");
    assert!(matches!(reply.code, 450 | 451) && reply.text().contains("no slave"), "{reply:?}");
    drop(data);
    client.expect("NOOP", 200);
    assert!(fixture.slave.try_status().is_none());
}

#[test]
fn abor_ends_a_stream_whose_replicas_are_silent() {
    let fixture = LackingSlave::start();
    let mut client = fixture.client();
    let (data, _, _) = fixture.begin(&mut client);
    (0..2).for_each(|n| fixture.proxy(n).freeze());
    client.send("ABOR");
    client.reply_of(426);
    client.reply_of(226);
    drop(data);
    fixture.wait_logged(MIB as u64..=SIZE as u64 - 1, "cut");
    (0..2).for_each(|n| fixture.proxy(n).thaw());
    assert!(client.get("RETR f") == fixture.bytes);
}

#[test]
fn an_upload_continues_content_that_only_replicas_have() {
    let fixture = LackingSlave::start();
    let mut client = fixture.client();
    client.expect(&format!("REST {MIB}"), 350);
    client.put("STOR f", b"new end");
    let expected = [&fixture.bytes[..MIB], b"new end"].concat();
    assert_eq!(client.expect("SIZE f", 213).text(), expected.len().to_string());
    assert!(client.get("RETR f") == expected);
}

#[test]
fn a_failing_disk_is_replaced_by_a_replica() {
    let cluster =
        Cluster::of(2).proxied().slave_args(&["--ftp", "127.0.0.1:0", "--workers", "1"]).start();
    let bytes = content(1, 24 * MIB);
    open(&cluster, 0).put("f", &bytes).unwrap();
    wait_settled(&cluster);
    let mut client = FtpTestClient::anonymous(ftp_address(&cluster.slaves[0].program, "ftp"));
    let other = cluster.slaves[1].proxy.as_ref().unwrap();
    other.take_content_bytes();
    // Each call reads 64 KiB at most. Later ones fail as on a disk with a bad block.
    let worker = process_of(&cluster.slaves[0].program, "Worker(0)");
    let file = cluster.slaves[0].root.join("f");
    let file = file.to_str().unwrap();
    let inject = ["-P", file, "-e", "trace=pread64", "-e", "inject=pread64:error=EIO:when=70+"];
    let strace = Strace::attach(&[worker], &inject);
    assert!(client.get("RETR f") == bytes);
    assert!(strace.end().iter().any(|call| call.text.contains("INJECTED")), "no call failed");
    assert!(other.content_bytes() > 0, "the replica has continued");
}
