//! A slave's identity in its folder: the folder id and the slave id.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use parking_lot::Mutex;
use relais_proto::{FolderId, SlaveId};
use relais_tree::{Folder, TreeError};

use crate::error::{CatalogError, Result};
use crate::metadata_folder::{FOLDER, MetadataFolder, open_or_create};
use crate::writer_lock::WriterLock;

/// Name of the folder id file.
const FOLDER_ID: &str = "folder.id";
/// Folder of the slave id files.
const SLAVES: &str = "slaves";
/// Longest id file that is read, in bytes.
const ID_FILE: u64 = 256;

/// Start parameters of a slave, by which it finds its former id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartParameters {
    /// Whether the slave runs without a master.
    pub standalone: bool,
    /// Requested port; 0 for any.
    pub requested_port: u16,
    /// Port that the slave got.
    pub bound_port: u16,
}

impl StartParameters {
    /// Parses the output of [`Self::to_line`]. Returns `None` for other text.
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind @ ("standalone" | "cluster"), requested, bound] = words[..] else { return None };
        Some(Self {
            standalone: kind == "standalone",
            requested_port: requested.parse().ok()?,
            bound_port: bound.parse().ok()?,
        })
    }

    fn to_line(self) -> String {
        let kind = if self.standalone { "standalone" } else { "cluster" };
        format!("{kind} {} {}\n", self.requested_port, self.bound_port)
    }

    /// Ranks an id that was last used as `last`. The lowest rank wins; `None` excludes the id.
    ///
    /// Two different requested ports are two slaves. A slave without a requested port takes any id
    /// of its kind.
    fn rank(self, last: Option<Self>) -> Option<u8> {
        let Some(last) = last else { return Some(2) };
        match (self.requested_port, last.requested_port) {
            _ if last.standalone != self.standalone => None,
            (0, 0) => Some(0),
            (requested_port, _) if requested_port != 0 && requested_port == last.bound_port => {
                Some(0)
            }
            (0, _) | (_, 0) => Some(1),
            _ => None,
        }
    }
}

/// A slave's identity in its folder, locked until all its processes have ended.
#[derive(Debug)]
pub struct SlaveIdentity {
    /// Id of the folder, shared by all slaves that serve it.
    pub folder_id: FolderId,
    /// Id of this slave.
    pub slave_id: SlaveId,
    /// The metadata folder.
    pub folder: MetadataFolder,
    /// Lock on the slave id file, in the one process that holds it.
    lock: Mutex<Option<File>>,
}

impl SlaveIdentity {
    /// Acquires the id that a slave with these parameters had last, or a new one.
    ///
    /// Creates the metadata folder if it is missing. No other slave uses the id now.
    ///
    /// # Errors
    /// Returns the errors of the folder, or [`CatalogError::Malformed`].
    pub fn acquire(root: &Folder, started: StartParameters) -> Result<Self> {
        let folder = MetadataFolder::create(root)?;
        relais_os::remove_temporary_files(&folder.path(""));
        let folder_id = folder_id(&folder)?;
        let slaves = open_or_create(folder.folder(), SLAVES)?;
        let (slave_id, lock) = loop {
            if let Some(found) = free_id(&slaves, started)? {
                break found;
            }
            match new_id(&slaves) {
                // Another slave has taken the new file before this one locked it.
                Err(CatalogError::Tree(TreeError::InUse)) => {}
                other => break other?,
            }
        };
        record_start(&lock, started)?;
        // The new lock file has no token, so the catalogue of an earlier writer counts as
        // incomplete.
        drop(WriterLock::try_acquire(&folder)?);
        Ok(Self { folder_id, slave_id, folder, lock: Mutex::new(Some(lock)) })
    }
}

/// Discards ids that a slave on another host uses too, because the disk was copied.
///
/// After its restart the slave generates new ids. Its files and catalogue are kept.
///
/// # Errors
/// Returns the errors of the folder.
pub fn discard_ids(own: &MetadataFolder, slave: SlaveId, folder: FolderId) -> Result<()> {
    // Another slave of this folder may have changed the id already.
    if folder_id(own)? == folder {
        relais_os::write_atomically(&own.path(FOLDER_ID), new_folder_id()?.as_bytes())?;
    }
    match own.folder().sub(SLAVES)?.unlink(slave.to_string()) {
        Ok(()) | Err(TreeError::NotFound) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

impl SlaveIdentity {
    /// Closes the lock in a forked child, so that only the supervisor holds it. The id is free as
    /// soon as the supervisor ends, and a restarted slave finds it again.
    pub fn close_in_child(&self) {
        self.lock.lock().take();
    }
}

/// Returns the folder id. If two slaves create it at once, both get the same.
fn folder_id(own: &MetadataFolder) -> Result<FolderId> {
    match own.folder().open_read(FOLDER_ID) {
        Err(TreeError::NotFound) => {}
        other => return read_id(other?.file),
    }
    relais_os::create_atomically(&own.path(FOLDER_ID), new_folder_id()?.as_bytes())?;
    read_id(own.folder().open_read(FOLDER_ID)?.file)
}

fn new_folder_id() -> Result<String> {
    Ok(format!("{}\n", FolderId(relais_os::random()?)))
}

fn read_id(file: File) -> Result<FolderId> {
    let mut text = String::new();
    file.take(ID_FILE).read_to_string(&mut text)?;
    text.trim_end().parse().map_err(|_| CatalogError::Malformed(format!("{FOLDER}/{FOLDER_ID}")))
}

/// Returns the free id with the best rank; among equals the first by name.
fn free_id(slaves: &Folder, started: StartParameters) -> Result<Option<(SlaveId, File)>> {
    let mut ids = Vec::new();
    for listed in slaves.list()? {
        ids.extend(
            std::str::from_utf8(listed?.name()).ok().and_then(|name| name.parse::<SlaveId>().ok()),
        );
    }
    ids.sort_unstable();
    let mut best: Option<(u8, SlaveId, File)> = None;
    for id in ids {
        let mut lock = match slaves.create_or_open_part(id.to_string()) {
            Ok(lock) => lock,
            Err(TreeError::InUse) => continue,
            Err(e) => return Err(e.into()),
        };
        let mut text = Vec::new();
        Read::by_ref(&mut lock).take(ID_FILE).read_to_end(&mut text)?;
        let last = std::str::from_utf8(&text).ok().and_then(StartParameters::parse);
        let Some(rank) = started.rank(last) else { continue };
        if best.as_ref().is_none_or(|(known, ..)| rank < *known) {
            best = Some((rank, id, lock));
        }
    }
    Ok(best.map(|(_, id, lock)| (id, lock)))
}

/// Records the parameters of this start in the file of the id, for the next start.
///
/// A full disk is no error: the next start finds this id without them, unless it has a better one.
fn record_start(lock: &File, started: StartParameters) -> Result<()> {
    let line = started.to_line();
    let written =
        lock.write_all_at(line.as_bytes(), 0).and_then(|()| lock.set_len(line.len() as u64));
    match written.map_err(|e| TreeError::Io("write", e)) {
        Err(e) if e.is_full() => {
            log::warn!("cannot record the port of this slave in {FOLDER}/{SLAVES}: {e}");
            Ok(())
        }
        other => Ok(other?),
    }
}

fn new_id(slaves: &Folder) -> Result<(SlaveId, File)> {
    let id = SlaveId(relais_os::random()?);
    Ok((id, slaves.create_or_open_part(id.to_string())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: StartParameters =
        StartParameters { standalone: false, requested_port: 0, bound_port: 40_000 };

    fn on(port: u16) -> StartParameters {
        StartParameters { standalone: false, requested_port: port, bound_port: port }
    }

    #[test]
    fn slave_keeps_its_id_beside_other_slaves() {
        let dir = tempfile::tempdir().unwrap();
        let root = Folder::open(dir.path()).unwrap();
        let id = |started| SlaveIdentity::acquire(&root, started).unwrap().slave_id;
        for _ in 0..20 {
            let alone = StartParameters { standalone: true, ..on(2122) };
            let all = [on(2122), on(2123), alone];
            let ids = all.map(id);
            assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
            // The order differs, and another slave is running.
            let _other = SlaveIdentity::acquire(&root, on(2123)).unwrap();
            assert_eq!([id(alone), id(on(2122))], [ids[2], ids[0]]);
        }
        assert_eq!(std::fs::read_dir(dir.path().join(".relais/slaves")).unwrap().count(), 3);
    }

    #[test]
    fn slave_on_any_port_keeps_its_id_on_the_bound_port() {
        let dir = tempfile::tempdir().unwrap();
        let root = Folder::open(dir.path()).unwrap();
        let id = |started| SlaveIdentity::acquire(&root, started).unwrap().slave_id;
        let first = id(ANY);
        assert_eq!([id(ANY), id(on(40_000)), id(ANY), id(on(2122)), id(on(2122))], [first; 5]);
        assert_ne!(id(on(2123)), first);
        // Malformed id files are ignored.
        std::fs::write(dir.path().join(".relais/slaves").join(first.to_string()), [0xff]).unwrap();
        assert_eq!(id(on(2122)), first);
    }

    #[test]
    fn two_slaves_of_one_folder_keep_their_ids() {
        let dir = tempfile::tempdir().unwrap();
        let root = Folder::open(dir.path()).unwrap();
        let first = SlaveIdentity::acquire(&root, ANY).unwrap();
        // A slave was killed while it wrote a snapshot.
        let left = dir.path().join(".relais/.snapshot.0123456789abcdef.new");
        std::fs::write(&left, "half").unwrap();
        let second = SlaveIdentity::acquire(&root, ANY).unwrap();
        assert!(!left.exists());
        assert_eq!(first.folder_id, second.folder_id);
        assert_ne!(first.slave_id, second.slave_id);
        let (mut ids, folder) = (vec![first.slave_id, second.slave_id], first.folder_id);
        drop((first, second));
        let again = [
            SlaveIdentity::acquire(&root, ANY).unwrap(),
            SlaveIdentity::acquire(&root, ANY).unwrap(),
        ];
        ids.sort_unstable();
        assert_eq!(again.each_ref().map(|own| own.slave_id).to_vec(), ids);
        assert_eq!(again[0].folder_id, folder);
    }

    #[test]
    fn concurrent_starts_get_distinct_ids() {
        for _ in 0..50 {
            let dir = tempfile::tempdir().unwrap();
            let root = Folder::open(dir.path()).unwrap();
            let first = SlaveIdentity::acquire(&root, ANY).unwrap();
            let mut ids: Vec<SlaveId> = std::thread::scope(|scope| {
                let all: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            SlaveIdentity::acquire(&Folder::open(dir.path()).unwrap(), ANY).unwrap()
                        })
                    })
                    .collect();
                let all: Vec<SlaveIdentity> =
                    all.into_iter().map(|thread| thread.join().unwrap()).collect();
                all.iter().map(|own| own.slave_id).collect()
            });
            ids.push(first.slave_id);
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), 9);
        }
    }

    #[test]
    fn copied_folder_gets_new_ids() {
        let dir = tempfile::tempdir().unwrap();
        let root = Folder::open(dir.path()).unwrap();
        let first = SlaveIdentity::acquire(&root, ANY).unwrap();
        let (slave, folder) = (first.slave_id, first.folder_id);
        discard_ids(&first.folder, slave, folder).unwrap();
        // A lock on a deleted file does not block.
        let second = SlaveIdentity::acquire(&root, ANY).unwrap();
        assert!(second.slave_id != slave && second.folder_id != folder);
        discard_ids(&first.folder, slave, folder).unwrap();
        assert_eq!(
            SlaveIdentity::acquire(&root, ANY).unwrap().folder_id,
            second.folder_id,
            "the ids change only once"
        );
    }

    #[test]
    fn damaged_folder_id_is_named_in_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let root = Folder::open(dir.path()).unwrap();
        drop(SlaveIdentity::acquire(&root, ANY).unwrap());
        std::fs::write(dir.path().join(".relais/folder.id"), "nonsense\n").unwrap();
        assert!(SlaveIdentity::acquire(&root, ANY).unwrap_err().to_string().contains("folder.id"));
        std::fs::remove_file(dir.path().join(".relais/folder.id")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join(".relais/folder.id")).unwrap();
        assert!(SlaveIdentity::acquire(&root, ANY).is_err(), "a link is not followed");
    }
}
