//! Watches folders with inotify and translates the events.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Bound;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use log::warn;
use relais_proto::TreePath;
use relais_tree::Folder;

/// Buffer size for the events of one read.
const BUFFER: usize = 64 * 1024;

/// How the folder is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchMode {
    /// The folder is scanned at the start only.
    Off,
    /// Additions and edits are detected.
    Add,
    /// Removals are detected too.
    All,
}

/// An event in a watched folder.
#[derive(Debug, PartialEq, Eq)]
pub enum FolderEvent {
    /// A name was created, written, or its attributes changed.
    Touched(TreePath, Vec<u8>),
    /// A name was added or removed.
    Moved(TreePath, Vec<u8>),
    /// Events were lost, or the served folder itself was removed or unmounted. Only a scan helps.
    RescanNeeded,
}

/// The watched folders.
pub struct FolderWatcher {
    inotify: Inotify,
    watches: Watches,
    folders: HashMap<WatchDescriptor, TreePath>,
    /// The same watches by path, so that a removed name needs no look at all of them.
    by_path: BTreeMap<Box<str>, WatchDescriptor>,
    buffer: Vec<u8>,
    /// Whether a folder could not be watched.
    partial: bool,
}

impl FolderWatcher {
    /// Creates a watcher without folders.
    ///
    /// # Errors
    /// Returns the error of the system call.
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        Ok(Self {
            inotify,
            watches,
            folders: HashMap::new(),
            by_path: BTreeMap::new(),
            buffer: vec![0; BUFFER],
            partial: false,
        })
    }

    /// Returns whether a folder could not be watched since the last [`Self::clear`].
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// Watches the open folder `folder`, which has the path `path`.
    pub fn add(&mut self, folder: &Folder, path: &TreePath) {
        let mask = WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::ATTRIB
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR
            | WatchMask::EXCL_UNLINK;
        // The watch uses the descriptor, because the path may lead elsewhere by now.
        let name = format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd());
        match self.watches.add(&name, mask) {
            Ok(watch) => {
                // The same folder had another path before.
                if let Some(former) = self.folders.insert(watch.clone(), path.clone()) {
                    self.forget_path(&former, &watch);
                }
                let former = self.by_path.insert(path.as_str().into(), watch.clone());
                if let Some(former) = former.filter(|former| *former != watch) {
                    self.unwatch(former);
                }
            }
            Err(e) => {
                if !std::mem::replace(&mut self.partial, true) {
                    warn!("{path} cannot be watched ({e}); it is rescanned periodically instead");
                }
            }
        }
    }

    /// Stops watching a path and everything below it.
    pub fn remove(&mut self, path: &TreePath) {
        // `0` follows `/`, so the paths below are between both.
        let (first, last) = (format!("{}/", path.as_str()), format!("{}0", path.as_str()));
        let below = (Bound::Included(first.as_str()), Bound::Excluded(last.as_str()));
        let mut gone: Vec<Box<str>> =
            self.by_path.range::<str, _>(below).map(|(path, _)| path.clone()).collect();
        gone.push(path.as_str().into());
        for path in gone {
            if let Some(watch) = self.by_path.remove(&path) {
                self.unwatch(watch);
            }
        }
    }

    fn unwatch(&mut self, watch: WatchDescriptor) {
        self.folders.remove(&watch);
        // The kernel has removed the watch already if the folder is gone.
        let _ = self.watches.remove(watch);
    }

    /// Forgets the path of a watch, unless another folder has the path by now.
    fn forget_path(&mut self, path: &TreePath, watch: &WatchDescriptor) {
        if self.by_path.get(path.as_str()) == Some(watch) {
            self.by_path.remove(path.as_str());
        }
    }

    /// Clears the record of failed watches, before a scan tries them again.
    pub fn clear(&mut self) {
        self.partial = false;
    }

    /// Returns the events that have arrived.
    ///
    /// # Errors
    /// Returns the error of the system call.
    pub fn read_events(&mut self) -> io::Result<Vec<FolderEvent>> {
        let events = match self.inotify.read_events(&mut self.buffer) {
            Ok(events) => events,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let (mut changes, mut ended) = (Vec::new(), Vec::new());
        for event in events {
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                changes.push(FolderEvent::RescanNeeded);
                continue;
            }
            let Some(folder) = self.folders.get(&event.wd) else { continue };
            if event.mask.intersects(EventMask::IGNORED) {
                ended.extend(self.folders.remove(&event.wd).zip(Some(event.wd)));
                continue;
            }
            let Some(name) = event.name else {
                if folder.is_root()
                    && event.mask.intersects(EventMask::DELETE_SELF | EventMask::UNMOUNT)
                {
                    changes.push(FolderEvent::RescanNeeded);
                }
                continue;
            };
            let name = std::os::unix::ffi::OsStrExt::as_bytes(name).to_vec();
            let moved = EventMask::MOVED_FROM | EventMask::MOVED_TO | EventMask::DELETE;
            changes.push(
                if event.mask.intersects(moved) || event.mask.contains(EventMask::ISDIR) {
                    FolderEvent::Moved(folder.clone(), name)
                } else {
                    FolderEvent::Touched(folder.clone(), name)
                },
            );
        }
        ended.iter().for_each(|(path, watch)| self.forget_path(path, watch));
        Ok(changes)
    }

    /// Returns a descriptor that is readable when there are events.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
