//! Resume of downloads: an interrupted download ends with one whole version or a clear error.
//!
//! It never ends with a mixture of versions, and never with an unverified file under its final
//! name.

pub mod damaged;
mod large_files;
mod matrix;
pub mod prompt;
pub mod replaced;

use std::fs;
use std::path::PathBuf;

use crate::harness::{Client, Fault, Program, Proxy, SOON, Standalone, eventually, leftovers};

const NAME: &str = "big file.bin";
const GET: &[&str] = &["--json", "-c", "get 'big file.bin'"];
const GET_ONCE: &[&str] = &["--json", "--retry", "0", "-c", "get 'big file.bin'"];
const NOTHING: [PathBuf; 0] = [];

/// A standalone slave behind a proxy that fails on demand.
struct DownloadFixture {
    slave: Standalone,
    proxy: Proxy,
}

impl DownloadFixture {
    fn new(block: usize, bytes: &[u8]) -> Self {
        let slave = Standalone::start(&["--block-size", &block.to_string()], &[(NAME, bytes)]);
        let proxy = Proxy::to(slave.addr);
        Self { slave, proxy }
    }

    fn client(&self) -> Client {
        Client::new(self.proxy.addr())
    }

    /// Replaces the file by a rename and does not wait.
    fn replace(&self, bytes: &[u8]) {
        let aside = self.slave.dir.path().join("aside");
        fs::write(&aside, bytes).unwrap();
        fs::rename(aside, self.slave.root.join(NAME)).unwrap();
    }

    /// Starts a get and freezes it after `n` bytes of content; `false` if it ended before that.
    fn freeze(&self, client: &Client, args: &[&str], n: u64) -> (Program, bool) {
        self.proxy.fault_at_content(n, Fault::Stall);
        let mut program = client.start(args);
        let frozen = eventually(SOON, "the transfer is frozen", || {
            if self.proxy.struck() { Some(true) } else { program.try_status().map(|_| false) }
        });
        self.proxy.disarm();
        (program, frozen)
    }

    /// Returns a client that was killed after `n` bytes, once its `.log` lists some of them as
    /// good.
    fn killed(&self, n: u64) -> Client {
        let client = self.client();
        // Slow enough for the client to save its log, which it does once a second.
        self.proxy.throttle(Some(n * 2 / 3));
        let (mut program, frozen) = self.freeze(&client, GET, n);
        self.proxy.throttle(None);
        assert!(frozen, "the transfer ended before byte {n}");
        eventually(SOON, "good bytes in the .log", || {
            let log = fs::read_to_string(client.folder().join(".log")).unwrap_or_default();
            log.contains(r#""good":"0-"#).then_some(())
        });
        program.kill();
        self.proxy.cut_all();
        client
    }
}

/// Requires that the final name has no file or all of `bytes`.
#[track_caller]
fn assert_absent_or_whole(client: &Client, bytes: &[u8]) {
    let path = client.folder().join(NAME);
    assert!(
        !path.exists() || client.read(NAME) == bytes,
        "an incomplete file under its final name"
    );
}

/// Repeats the get until it succeeds; each failure must be resumable.
#[track_caller]
fn converge(client: &Client, bytes: &[u8]) {
    let mut last = None;
    for _ in 0..3 {
        let output = client.run(GET);
        assert_absent_or_whole(client, bytes);
        if output.status == 0 {
            assert!(client.read(NAME) == bytes, "not what was served: {output:?}");
            assert_eq!(leftovers(&client.folder(), &[NAME]), NOTHING);
            return;
        }
        last = Some(output);
    }
    panic!("did not end well in three runs: {last:?}");
}
