//! A client in a storm that tracks the expected content of its folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};

use super::Rng;
use crate::cluster::helpers::Tree;
use crate::harness::{Client, Cluster, Output, content, digest};

/// The folder that all clients share.
pub const COMMON: &str = "common";
/// Number of names in the shared folder.
const SHARED_NAMES: usize = 3;
/// Number of names of files and folders in a client's own folder.
const FILES: usize = 8;
const FOLDERS: usize = 3;
const SIZES: [usize; 6] = [0, 10, 4000, 70_000, 300_000, 3_000_000];

/// Epoch and number of a change.
pub type ChangeNumber = (u64, u64);
/// The change that put a content, by name and digest.
pub type Versions = BTreeMap<(String, String), ChangeNumber>;

/// Contents that all clients have put into the shared folder.
#[derive(Default)]
pub struct SharedFolder {
    begun: Mutex<BTreeSet<(String, String)>>,
    acknowledged: Mutex<Versions>,
}

impl SharedFolder {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn versions(&self) -> Versions {
        self.acknowledged.lock().unwrap().clone()
    }
}

pub struct StormClient {
    client: Client,
    rng: Rng,
    common: Arc<SharedFolder>,
    /// Expected content of the client's folder.
    has: Tree,
    /// Names and digests that the client put into or got from the shared folder, in order.
    seen: Vec<(String, String)>,
    pub top: String,
    pub steps: usize,
}

impl StormClient {
    pub fn new(cluster: &Cluster, n: usize, rng: Rng, common: Arc<SharedFolder>) -> Self {
        let client = cluster.client();
        Self {
            client,
            rng,
            common,
            has: Tree::new(),
            seen: Vec::new(),
            top: format!("own{n}"),
            steps: 0,
        }
    }

    /// Creates the client's folder.
    pub fn begin(&mut self) {
        self.run(&format!("mkdir {}", self.top)).ok();
    }

    /// Runs a random command; its output and effect must be right.
    pub fn step(&mut self) {
        self.steps += 1;
        let (file, folder) =
            (format!("f{}", self.rng.below(FILES)), format!("d{}", self.rng.below(FOLDERS)));
        match self.rng.below(100) {
            0..35 => self.put(&file),
            35..50 => self.get(&file),
            50..60 => self.remove(&file),
            60..68 => self.move_file(&file),
            68..72 => self.move_folder(&folder),
            72..75 => self.make_folder(&folder),
            75..80 => self.put_tree(&folder),
            80..83 => self.remove(&folder),
            83..88 => self.list(),
            88..94 => self.put_common(),
            _ => self.get_common(),
        }
    }

    /// Returns the client's files that all slaves must have at the end.
    pub fn wanted(&self) -> Tree {
        let own =
            self.has.iter().map(|(name, what)| (format!("{}/{name}", self.top), what.clone()));
        own.chain([(self.top.clone(), "folder".to_owned())]).collect()
    }

    /// Requires that no get from the shared folder returned older content than an earlier put or
    /// get.
    pub fn assert_monotonic(&self, versions: &Versions) {
        let mut newest: BTreeMap<&str, ChangeNumber> = BTreeMap::new();
        for seen in &self.seen {
            let version = versions[seen];
            let before = newest.insert(&seen.0, version);
            assert!(
                before <= Some(version),
                "{} saw {seen:?}, which is {version:?}, after {before:?}",
                self.top
            );
        }
    }

    fn run(&self, command: &str) -> Output {
        self.client.run(&["--json", "--retry", "15", "--no-resume", "-c", command])
    }

    /// Runs a command that must succeed if `wanted`, else fail with this code.
    fn expect(&self, command: &str, wanted: bool, code: &str) {
        let output = self.run(command);
        if wanted {
            output.ok();
            return;
        }
        let json = output.fails(1).json();
        assert_eq!(json["error"]["code"], code, "{command}: {json}");
    }

    /// Writes unique bytes to a local file and returns their digest.
    fn prepare(&mut self, local: &str, size: usize) -> String {
        let mut bytes = content(self.rng.number(), size);
        // Empty content is never unique.
        if size > 0 {
            bytes.extend(format!("{} {}", self.top, self.steps).bytes());
        }
        fs::write(self.client.folder().join(local), &bytes).unwrap();
        digest(&bytes)
    }

    fn put(&mut self, file: &str) {
        let size = self.rng.one_of(&SIZES);
        let digest = self.prepare("up", size);
        self.run(&format!("put up -o {}/{file}", self.top)).ok();
        self.has.insert(file.to_owned(), digest);
    }

    fn get(&mut self, file: &str) {
        let wanted = self.has.get(file);
        self.expect(&format!("get {}/{file} -o down", self.top), wanted.is_some(), "not-found");
        if let Some(wanted) = wanted {
            assert_eq!(
                digest(&self.client.read("down")),
                *wanted,
                "{}/{file} at step {}",
                self.top,
                self.steps
            );
        }
    }

    fn remove(&mut self, name: &str) {
        self.expect(
            &format!("rm -r {}/{name}", self.top),
            self.has.contains_key(name),
            "not-found",
        );
        self.take(name);
    }

    /// Removes an entry from the expected content; returns the removed names, relative to `name`,
    /// with their content.
    fn take(&mut self, name: &str) -> Vec<(String, String)> {
        let within = |path: &str| {
            path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let taken: Vec<_> = self.has.extract_if(.., |path, _| within(path)).collect();
        taken.into_iter().map(|(path, what)| (path[name.len()..].to_owned(), what)).collect()
    }

    fn move_to(&mut self, from: &str, to: &str) {
        self.expect(
            &format!("mv {0}/{from} {0}/{to}", self.top),
            self.has.contains_key(from),
            "not-found",
        );
        for (rest, what) in self.take(from) {
            self.has.insert(format!("{to}{rest}"), what);
        }
    }

    fn move_file(&mut self, from: &str) {
        let to = format!("f{}", self.rng.below(FILES));
        if from != to {
            self.move_to(from, &to);
        }
    }

    fn move_folder(&mut self, from: &str) {
        let to = format!("d{}", self.rng.below(FOLDERS));
        // An existing target folder would receive the source as a child.
        if from != to && !self.has.contains_key(&to) {
            self.move_to(from, &to);
        }
    }

    fn make_folder(&mut self, folder: &str) {
        self.expect(
            &format!("mkdir {}/{folder}", self.top),
            !self.has.contains_key(folder),
            "exists",
        );
        self.has.entry(folder.to_owned()).or_insert_with(|| "folder".to_owned());
    }

    fn put_tree(&mut self, folder: &str) {
        if self.has.contains_key(folder) {
            return;
        }
        fs::create_dir_all(self.client.folder().join("tree/below")).unwrap();
        for name in ["one", "two", "below/three", "below/four"] {
            let size = self.rng.below(5000);
            let digest = self.prepare(&format!("tree/{name}"), size);
            self.has.insert(format!("{folder}/{name}"), digest);
        }
        for name in [folder, &format!("{folder}/below")] {
            self.has.insert(name.to_owned(), "folder".to_owned());
        }
        self.run(&format!("put -r tree -o {}/{folder}", self.top)).ok();
    }

    fn list(&mut self) {
        let json = self.run(&format!("ls {}", self.top)).ok().json();
        let entries = json["entries"].as_array().unwrap();
        let found: Vec<_> =
            entries.iter().map(|e| (e["name"].as_str().unwrap(), e["kind"] == "folder")).collect();
        let direct = self.has.iter().filter(|(name, _)| !name.contains('/'));
        let wanted: Vec<_> = direct.map(|(name, what)| (name.as_str(), what == "folder")).collect();
        assert_eq!(found, wanted, "{} at step {}", self.top, self.steps);
    }

    fn common_name(&mut self) -> String {
        format!("{COMMON}/n{}", self.rng.below(SHARED_NAMES))
    }

    fn put_common(&mut self) {
        let (name, size) = (self.common_name(), self.rng.one_of(&SIZES[1..]));
        let put = (name.clone(), self.prepare("up", size));
        self.common.begun.lock().unwrap().insert(put.clone());
        let json = self.run(&format!("put up -o {name}")).ok().json();
        let (epoch, number) = json["version"].as_str().unwrap().split_once('-').unwrap();
        let version = (epoch.parse().unwrap(), number.parse().unwrap());
        self.common.acknowledged.lock().unwrap().insert(put.clone(), version);
        self.seen.push(put);
    }

    fn get_common(&mut self) {
        let name = self.common_name();
        let is_there = self.common.versions().keys().any(|(put, _)| *put == name);
        let output = self.run(&format!("get {name} -o down"));
        if output.status != 0 && !is_there {
            assert_eq!(output.json()["error"]["code"], "not-found");
            return;
        }
        output.ok();
        let got = (name, digest(&self.client.read("down")));
        assert!(self.common.begun.lock().unwrap().contains(&got), "no client has put {got:?}");
        self.seen.push(got);
    }
}
