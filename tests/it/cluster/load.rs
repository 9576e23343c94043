//! A client that makes one change after another while something happens to the cluster.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use relais_proto::{Lsn, Reply, Request};
use serde_json::Value;

use super::helpers::open;
use super::tree_equality::{TreeEntries, TreeEntry};
use crate::harness::{Client, Cluster, Program, content, digest, eventually, path};

/// Longest that the load may stand still while the cluster loses and finds its parts.
const STANDSTILL: Duration = Duration::from_secs(40);

/// PutLoad of many small files, all in one session.
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
    /// Starts to put `PREFIX0`, `PREFIX1`, … with every right to wait.
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

    /// How many puts were answered so far.
    pub fn done(&self) -> usize {
        self.program.stdout.text().lines().count()
    }

    /// Waits until so many more are answered, or all.
    #[track_caller]
    pub fn wait_for_more(&self, more: usize) {
        let wanted = (self.done() + more).min(self.count);
        eventually(STANDSTILL, "the puts go on", || (self.done() >= wanted).then_some(()));
    }

    /// Waits for the end: every put went well. The number that each was told.
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

/// What was acknowledged.
pub struct AcknowledgedPuts {
    prefix: &'static str,
    told: Vec<String>,
}

impl AcknowledgedPuts {
    /// All of it is on every slave, with its content and the number that was told. `nodes` is what all folders have.
    #[track_caller]
    pub fn is_everywhere(&self, cluster: &Cluster, nodes: &TreeEntries) {
        let mut numbers = BTreeMap::new();
        for (n, told) in self.told.iter().enumerate() {
            let name = format!("{}{n}", self.prefix);
            let Some(TreeEntry::File { digest: found, .. }) = nodes.get(&name) else {
                panic!("{name} was acknowledged as {told} and is gone")
            };
            assert_eq!(*found, digest(&bytes_of(n)), "{name}");
            assert_eq!(numbers.insert(told, n), None, "the number {told} was given twice");
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

/// The change that made what is at a path; none where nothing is there.
#[track_caller]
pub fn stat(wire: &mut crate::harness::RawClient, name: &str) -> Option<Lsn> {
    match wire.ask(&Request::Stat(path(name))) {
        Reply::Details { entry, .. } => entry.version,
        Reply::Error(refusal) if refusal.code == relais_proto::ErrorCode::NotFound => None,
        other => panic!("{name}: {other:?}"),
    }
}
