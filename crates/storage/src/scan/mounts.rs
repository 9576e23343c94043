//! Notices file systems that are mounted or unmounted in the served folder.
//!
//! A mount leaves no event in the folder that it hides. The kernel reports each change of the
//! process's mount table instead.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use log::{debug, warn};
use relais_proto::TreePath;
use relais_tree::Folder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Mount table of this process.
const MOUNT_TABLE: &str = "/proc/self/mountinfo";
/// Field of a mount table's line that has the mount point.
const MOUNT_POINT_FIELD: usize = 4;

/// Watches the mount table. Does nothing if `/proc` is not accessible.
pub struct MountWatcher {
    table: Option<File>,
    root: Folder,
    points: BTreeSet<TreePath>,
}

/// Mount points that appeared or vanished in the served folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MountChanges {
    /// New mount points.
    pub mounted: Vec<TreePath>,
    /// Former mount points.
    pub unmounted: Vec<TreePath>,
}

impl MountWatcher {
    /// Starts to watch. The present mount points count as known.
    pub fn new(root: Folder) -> Self {
        let table = File::open(MOUNT_TABLE)
            .inspect_err(|e| warn!("cannot read {MOUNT_TABLE}; mounts are noticed later: {e}"))
            .ok();
        let mut watcher = Self { table, root, points: BTreeSet::new() };
        watcher.changes();
        watcher
    }

    /// Returns the changes since the last call. Needs one system call if there are none.
    pub fn take_changes(&mut self) -> MountChanges {
        if self.is_table_changed() { self.changes() } else { MountChanges::default() }
    }

    fn is_table_changed(&self) -> bool {
        let Some(table) = &self.table else { return false };
        let mut fds = [PollFd::from_borrowed_fd(table.as_fd(), PollFlags::PRI)];
        let polled = poll(&mut fds, Some(&Timespec::default()));
        // The kernel reports a change as an error of the descriptor.
        polled.is_ok() && fds[0].revents().intersects(PollFlags::PRI | PollFlags::ERR)
    }

    fn changes(&mut self) -> MountChanges {
        let Some(table) = &mut self.table else { return MountChanges::default() };
        let now = match read_points(table, &self.root) {
            Ok(now) => now,
            Err(e) => {
                debug!("cannot read the mount table: {e}");
                return MountChanges::default();
            }
        };
        let former = std::mem::replace(&mut self.points, now);
        MountChanges {
            mounted: self.points.difference(&former).cloned().collect(),
            unmounted: former.difference(&self.points).cloned().collect(),
        }
    }
}

fn read_points(table: &mut File, root: &Folder) -> io::Result<BTreeSet<TreePath>> {
    let mut text = Vec::new();
    table.rewind()?;
    table.read_to_end(&mut text)?;
    let root = fs::read_link(format!("/proc/self/fd/{}", root.as_fd().as_raw_fd()))?;
    Ok(points_below(&text, &root))
}

/// Returns the mount points below `root`, relative to it.
fn points_below(table: &[u8], root: &std::path::Path) -> BTreeSet<TreePath> {
    let point = |line: &[u8]| {
        let field = line.split(|byte| *byte == b' ').nth(MOUNT_POINT_FIELD)?;
        let path = PathBuf::from(OsStr::from_bytes(&unescape(field)));
        let below = path.strip_prefix(root).ok()?.to_str()?;
        TreePath::new(below).ok().filter(|path| !path.is_root())
    };
    table.split(|byte| *byte == b'\n').filter_map(point).collect()
}

/// Decodes the octal escapes of a mount table, such as `\040` for a space.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn mount_points_below_the_root_are_found() {
        let table = b"22 1 0:21 / / rw - ext4 /dev/a rw\n\
            40 22 0:50 / /srv/a\\040b rw,relatime shared:1 - tmpfs t rw\n\
            41 40 0:51 / /srv/a\\040b/m rw - tmpfs t rw\n\
            42 40 0:52 /f /srv/a\\040b/d/x\\134y rw - tmpfs t rw\n\
            43 22 0:53 / /srv/a\\040bc rw - tmpfs t rw\n";
        let found = points_below(table, Path::new("/srv/a b"));
        let wanted = ["d/x\\y", "m"].map(|path| TreePath::new(path).unwrap());
        assert_eq!(found, BTreeSet::from(wanted));
        assert_eq!(points_below(table, Path::new("/")).len(), 4);
    }

    #[test]
    fn unchanged_table_has_no_changes() {
        let temp = tempfile::tempdir().unwrap();
        let mut watcher = MountWatcher::new(Folder::open(temp.path()).unwrap());
        assert_eq!(watcher.take_changes(), MountChanges::default());
    }
}
