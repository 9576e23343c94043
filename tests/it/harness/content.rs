//! Temporary folders, and files whose bytes follow from a seed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

/// Free space that `/dev/shm` must have to be used; containers often have 64 MiB there.
const MINIMUM_FREE: u64 = 2 << 30;

/// A temporary folder of one test; in memory if there is enough space.
pub struct TestDir(TempDir);

impl TestDir {
    pub fn new() -> Self {
        let free = nix::sys::statvfs::statvfs("/dev/shm")
            .map_or(0, |fs| fs.blocks_available() * fs.fragment_size());
        let base = if free >= MINIMUM_FREE {
            Path::new("/dev/shm")
        } else {
            Path::new(env!("CARGO_TARGET_TMPDIR"))
        };
        Self(tempfile::Builder::new().prefix("relais-test-").tempdir_in(base).unwrap())
    }

    /// Returns a subfolder and creates it if necessary.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Returns `len` pseudo-random bytes, the same for each seed (xorshift64*).
pub fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Returns the digest of `bytes` in the programs' notation.
pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Writes a file with a modification time one hour ago, so that a slave treats it as complete.
pub fn write_old(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(3600))
        .unwrap();
}

/// Lists all files below `folder`, relative to it, except those named in `but`.
pub fn leftovers(folder: &Path, but: &[&str]) -> Vec<PathBuf> {
    fn walk(top: &Path, folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                walk(top, &path, found);
            } else {
                found.push(path.strip_prefix(top).unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.retain(|path| !but.iter().any(|b| Path::new(b) == path));
    found.sort();
    found
}
