//! What each command promises: single files, whole trees, names, patterns, the
//! prompt; and what a server that lies can make of them, which is nothing.

mod broken;
mod carry_on;
mod changes;
mod endless;
mod globs;
mod kept;
mod liars;
mod links;
mod local;
mod long_line;
mod mirror;
mod names;
mod origin;
mod prompt;
mod put;
mod retyped;
mod rough;
mod shapes;
mod transfers;
mod tree;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::harness::{Client, Output, SOON, Standalone, digest, eventually, make_folder, sessions};

/// A slave that stands alone and takes changes, and a client of it.
struct Lab {
    slave: Standalone,
    client: Client,
}

impl Lab {
    /// With these files on the slave, which came there as changes do: so they are there for everybody at once.
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

    /// With these files in the slave's folder when it starts. New files are published when they were left alone for a second.
    #[track_caller]
    fn on_disk(files: &[(&str, &[u8])]) -> Self {
        let slave = Standalone::start(&[], files);
        let client = slave.client();
        let lab = Self { slave, client };
        lab.wait_published(files.len());
        lab
    }

    /// Waits until the slave has published so many files.
    #[track_caller]
    fn wait_published(&self, files: usize) {
        let counted = || sessions(self.slave.addr, 1)[0].status().1.files;
        eventually(SOON, "all files published", || (counted() >= files as u64).then_some(()));
    }

    /// Waits until the slave's listing shows the time, and its digest the content, that a file was given behind its back.
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

    /// Writes a local file; its folders too.
    fn local(&self, name: &str, bytes: &[u8]) {
        write(&self.client.folder().join(name), bytes);
    }

    /// The content of a file in the slave's folder.
    #[track_caller]
    fn served(&self, name: &str) -> Vec<u8> {
        fs::read(self.slave.root.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Whether the slave's folder has the name.
    fn serves(&self, name: &str) -> bool {
        self.slave.root.join(name).exists()
    }

    /// Runs a command that must go well; its object.
    #[track_caller]
    fn says(&self, command: &str) -> Value {
        let json = self.client.command(command).ok().json();
        assert_eq!(json["ok"], true, "{command}: {json}");
        json
    }

    /// Runs a command that must fail with this code; its object.
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

    /// Runs commands one after the other, for people.
    #[track_caller]
    fn run(&self, commands: &[&str]) -> Output {
        self.client.run(&commands.iter().flat_map(|command| ["-c", command]).collect::<Vec<_>>())
    }

    /// The entry that `stat` shows.
    #[track_caller]
    fn stat(&self, name: &str) -> Value {
        self.says(&format!("stat {name}"))["entries"][0].take()
    }

    /// The names in a remote folder.
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

/// Writes a file, and makes its folders.
fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Gives a file a time of last modification, in nanoseconds since 1970.
fn set_time(path: &Path, nanos: u64) {
    File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::from_nanos(nanos)).unwrap();
}

/// A file's time of last modification.
#[track_caller]
fn time(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).modified().unwrap()
}

/// A file's rights, with the special bits.
#[track_caller]
fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions().mode()
        & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// All that lies below a folder: folders with a `/` behind, links with `@`, in order; the slave's own and the client's `.log` not.
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

/// What comes from afar never drives the terminal.
#[track_caller]
fn harmless(output: &Output) {
    for text in [&output.stdout, &output.stderr] {
        let bad = text.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(bad, None, "{output:?}");
    }
}

/// Starts a program that must not read what the rights of a file forbid, even where the test may: as root without its powers.
fn bound_by_rights(setup: crate::harness::Setup) -> crate::harness::Setup {
    if nix::unistd::geteuid().is_root() {
        setup.under(&["setpriv", "--bounding-set=-all", "--inh-caps=-all"])
    } else {
        setup
    }
}
