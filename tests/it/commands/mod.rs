//! Client commands: files, trees, names, patterns and the prompt, also against lying servers.

mod changes;
mod cluster_identity;
mod connection_failures;
mod endless_listings;
mod failures;
mod globs;
mod json;
mod latency;
mod links;
mod local_commands;
mod malicious_servers;
mod mirror;
mod mirror_delete;
mod odd_names;
mod prompt;
mod put;
mod resumed_trees;
mod retyped;
mod transfers;
mod tree;

use relais_proto::metric;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::harness::{Client, Output, SOON, Standalone, digest, eventually, make_folder, sessions};

/// A writable standalone slave and its client.
struct CommandFixture {
    slave: Standalone,
    client: Client,
}

impl CommandFixture {
    /// Starts a slave and uploads these files, which are visible at once.
    #[track_caller]
    fn new(files: &[(&str, &[u8])]) -> Self {
        let slave = Standalone::start(&[], &[]);
        let mut wire = sessions(slave.addr, 1).remove(0);
        let mut made = BTreeSet::new();
        for (name, bytes) in files {
            for (at, _) in name.match_indices('/') {
                if made.insert(&name[..at]) {
                    wire.change(&make_folder(&name[..at])).unwrap();
                }
            }
            wire.put(name, bytes).unwrap();
        }
        let client = slave.client();
        Self { slave, client }
    }

    /// Starts a slave on a folder with these files and waits until they are published.
    ///
    /// A slave publishes a new file after one second without a write.
    #[track_caller]
    fn on_disk(files: &[(&str, &[u8])]) -> Self {
        let slave = Standalone::start(&[], files);
        let client = slave.client();
        let fixture = Self { slave, client };
        fixture.wait_published(files.len());
        fixture
    }

    /// Waits until the slave has published this many files.
    #[track_caller]
    fn wait_published(&self, files: usize) {
        let counted = || sessions(self.slave.addr, 1)[0].status().1.get(metric::FILES);
        eventually(SOON, "all files published", || (counted() >= files as u64).then_some(()));
    }

    /// Waits until the slave lists the time and digest of a file that was changed on the disk.
    #[track_caller]
    fn wait_shown(&self, name: &str, nanos: u64, bytes: &[u8]) {
        let (folder, last) = name.rsplit_once('/').unwrap_or(("/", name));
        let digits = format!(".{:09}", nanos % 1_000_000_000);
        let fraction = digits.trim_end_matches('0').trim_end_matches('.').to_owned();
        eventually(SOON, "the slave shows the change", || {
            let hash = self.client.command(&format!("hash {name}"));
            let listed = self.says(&format!("ls {folder}"));
            let entry = listed["entries"].as_array()?.iter().find(|e| e["name"] == last)?.clone();
            let time = entry["mtime"].as_str()?.to_owned();
            (hash.status == 0
                && hash.json()["entries"][0]["digest"] == digest(bytes)
                && entry["size"] == bytes.len()
                && time.ends_with(&format!("{fraction}Z"))
                && time == self.stat(name)["mtime"])
                .then_some(())
        });
    }

    /// Writes a local file and creates its folders.
    fn local(&self, name: &str, bytes: &[u8]) {
        write(&self.client.folder().join(name), bytes);
    }

    /// Reads a file of the slave's root.
    #[track_caller]
    fn served(&self, name: &str) -> Vec<u8> {
        fs::read(self.slave.root.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Returns whether the slave's root has the name.
    fn serves(&self, name: &str) -> bool {
        self.slave.root.join(name).exists()
    }

    /// Runs a command that must succeed and returns its object.
    #[track_caller]
    fn says(&self, command: &str) -> Value {
        let json = self.client.command(command).ok().json();
        assert_eq!(json["ok"], true, "{command}: {json}");
        json
    }

    /// Runs a command that must fail with this code and returns its object.
    #[track_caller]
    fn fails(&self, command: &str, code: &str) -> Value {
        let output = self.client.command(command);
        let json = output.json();
        assert_eq!(
            (&json["ok"], &json["error"]["code"]),
            (&false.into(), &code.into()),
            "{command}: {json}"
        );
        assert_eq!(output.status, if code == "usage" { 2 } else { 1 }, "{command}: {output:?}");
        json
    }

    /// Runs commands one after the other, without `--json`.
    #[track_caller]
    fn run(&self, commands: &[&str]) -> Output {
        self.client.run(&commands.iter().flat_map(|command| ["-c", command]).collect::<Vec<_>>())
    }

    /// Returns the entry that `stat` prints.
    #[track_caller]
    fn stat(&self, name: &str) -> Value {
        self.says(&format!("stat {name}"))["entries"][0].take()
    }

    /// Lists the names of a remote folder.
    #[track_caller]
    fn ls(&self, folder: &str) -> Vec<String> {
        let json = self.says(&format!("ls {folder}"));
        json["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Writes a file and creates its folders.
fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Sets the modification time of a file, in nanoseconds since 1970.
fn set_time(path: &Path, nanos: u64) {
    File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::from_nanos(nanos)).unwrap();
}

/// Returns the modification time of a file.
#[track_caller]
fn time(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).modified().unwrap()
}

/// Returns the mode of a file, with the special bits.
#[track_caller]
fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions().mode()
        & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Lists all entries below a folder in order: folders end with `/`, links with `@`; `.relais` and
/// `.log` are left out.
fn tree(folder: &Path) -> Vec<String> {
    fn walk(top: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            let kind = entry.file_type().unwrap();
            if name == ".relais" || name == ".log" {
            } else if kind.is_dir() {
                found.push(format!("{name}/"));
                walk(top, &path, found);
            } else {
                found.push(if kind.is_symlink() { format!("{name}@") } else { name });
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

/// Requires that the output has no control characters from the server.
#[track_caller]
fn assert_no_escapes(output: &Output) {
    for text in [&output.stdout, &output.stderr] {
        let bad = text.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(bad, None, "{output:?}");
    }
}

/// Makes a program obey file permissions even if the test runs as root.
fn bound_by_rights(setup: crate::harness::ProgramBuilder) -> crate::harness::ProgramBuilder {
    if nix::unistd::geteuid().is_root() {
        setup.under(&["setpriv", "--bounding-set=-all", "--inh-caps=-all"])
    } else {
        setup
    }
}
