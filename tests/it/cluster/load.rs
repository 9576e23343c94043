//! A client that makes changes continuously while the cluster is disturbed.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use relais_proto::{Lsn, Reply, Request};
use serde_json::Value;

use super::helpers::open;
use super::tree_equality::{TreeEntries, TreeEntry};
use crate::harness::{Client, Cluster, Program, content, digest, eventually, path};

/// Maximum pause of the load during faults of the cluster.
const STANDSTILL: Duration = Duration::from_secs(40);

/// A client that puts many small files in one session.
pub struct PutLoad {
    client: Client,
    program: Program,
    prefix: &'static str,
    count: usize,
}

fn bytes_of(n: usize) -> Vec<u8> {
    content(n as u64 + 1, 100 + n * 37)
}

impl PutLoad {
    /// Starts to put `PREFIX0`, `PREFIX1`, …, with long retries.
    pub fn start(cluster: &Cluster, prefix: &'static str, count: usize) -> Self {
        let client = cluster.client();
        let mut args = ["--json", "--keep-going", "--retry", "30"].map(str::to_owned).to_vec();
        for n in 0..count {
            let name = format!("{prefix}{n}");
            fs::write(client.folder().join(&name), bytes_of(n)).unwrap();
            args.extend(["-c".to_owned(), format!("put {name}")]);
        }
        let program = client.start(&args.iter().map(String::as_str).collect::<Vec<_>>());
        Self { client, program, prefix, count }
    }

    /// Returns the number of answered puts.
    pub fn done(&self) -> usize {
        self.program.stdout.text().lines().count()
    }

    /// Waits until `more` further puts are answered, or all.
    #[track_caller]
    pub fn wait_for_more(&self, more: usize) {
        let wanted = (self.done() + more).min(self.count);
        eventually(STANDSTILL, "the puts continue", || (self.done() >= wanted).then_some(()));
    }

    /// Waits for the end, requires that every put succeeded and returns their versions.
    #[track_caller]
    pub fn end(mut self) -> AcknowledgedPuts {
        eventually(STANDSTILL * 2, "the end of the puts", || self.program.try_status());
        let output = Client::finish(&mut self.program);
        let failed: Vec<Value> =
            output.objects().into_iter().filter(|object| object["ok"] != true).collect();
        assert!(failed.is_empty() && output.status == 0, "{failed:?} {}", output.stderr);
        let told = output
            .objects()
            .iter()
            .map(|object| object["version"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>();
        assert_eq!(told.len(), self.count);
        drop(self.client);
        AcknowledgedPuts { prefix: self.prefix, told }
    }
}

/// The acknowledged puts and their versions.
pub struct AcknowledgedPuts {
    prefix: &'static str,
    told: Vec<String>,
}

impl AcknowledgedPuts {
    /// Requires that every slave has all files with their content and version; `nodes` is the
    /// common tree.
    #[track_caller]
    pub fn assert_everywhere(&self, cluster: &Cluster, nodes: &TreeEntries) {
        let mut numbers = BTreeMap::new();
        for (n, told) in self.told.iter().enumerate() {
            let name = format!("{}{n}", self.prefix);
            let Some(TreeEntry::File { digest: found, .. }) = nodes.get(&name) else {
                panic!("{name} was acknowledged as {told} and is missing")
            };
            assert_eq!(*found, digest(&bytes_of(n)), "{name}");
            assert_eq!(numbers.insert(told, n), None, "the number {told} was assigned twice");
        }
        for slave in 0..cluster.slaves.len() {
            let mut wire = open(cluster, slave);
            for (n, told) in self.told.iter().enumerate() {
                let found = stat(&mut wire, &format!("{}{n}", self.prefix));
                assert_eq!(
                    found.map(|v| v.to_string()).as_ref(),
                    Some(told),
                    "{}{n} at slave {slave}",
                    self.prefix
                );
            }
        }
    }
}

/// Returns the version at a path; `None` if there is no entry.
#[track_caller]
pub fn stat(wire: &mut crate::harness::RawClient, name: &str) -> Option<Lsn> {
    match wire.ask(&Request::Stat(path(name))) {
        Reply::Details { entry, .. } => entry.version,
        Reply::Error(refusal) if refusal.code == relais_proto::ErrorCode::NotFound => None,
        other => panic!("{name}: {other:?}"),
    }
}
