//! Folders and files that are swapped for links while others open them: never content from outside.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use super::tricks::path;
use crate::{Folder, TreeError};

const READERS: usize = 8;
const LONG_ENOUGH: Duration = Duration::from_millis(400);
/// At least so many opens and so many swaps, however slow the machine is.
const AT_LEAST: usize = 200;

/// Swaps by one call.
fn exchange(root: &Path) {
    renameat_with(CWD, root.join("folder"), CWD, root.join("link"), RenameFlags::EXCHANGE).unwrap();
}

/// Swaps in steps, with moments in which the name is missing.
fn replace(root: &Path) {
    fs::rename(root.join("folder"), root.join("aside")).unwrap();
    fs::rename(root.join("link"), root.join("folder")).unwrap();
    fs::rename(root.join("aside"), root.join("link")).unwrap();
}

fn look(folder: &Folder) {
    match folder.open_file(&path("folder/deep/file")) {
        Ok(mut open) => {
            let mut text = String::new();
            open.file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "inside");
        }
        Err(TreeError::NotFound | TreeError::NotServed(_) | TreeError::NotFolder) => {}
        Err(TreeError::Io(op, e)) => panic!("{op}: {e}"),
        Err(e) => panic!("{e:?}"),
    }
    if let Ok(sub) = folder.open_folder(&path("folder")) {
        assert!(sub.open_read("secret").is_err());
    }
}

fn race(swap: fn(&Path)) {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("folder/deep")).unwrap();
    fs::write(root.join("folder/deep/file"), "inside").unwrap();
    fs::create_dir_all(dir.path().join("outside/deep")).unwrap();
    fs::write(dir.path().join("outside/deep/file"), "outside").unwrap();
    fs::write(dir.path().join("outside/secret"), "outside").unwrap();
    symlink("../outside", root.join("link")).unwrap();
    let folder = Folder::open(&root).unwrap();
    let (stop, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    look(&folder);
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let begin = Instant::now();
        let mut swaps = 0;
        while swaps < AT_LEAST
            || looks.load(Ordering::Relaxed) < AT_LEAST
            || begin.elapsed() < LONG_ENOUGH
        {
            swap(&root);
            swaps += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_folder_exchanged_with_a_link_never_leads_out() {
    race(exchange);
}

#[test]
fn a_folder_replaced_by_a_link_never_leads_out() {
    race(replace);
}
