//! The folders that belong to the cluster: a small text file, written whole each time one comes or is forgotten.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use relais_proto::{ClusterId, FolderId};
use relais_state::replace_file;
use thiserror::Error;

/// Bytes that are read: far more than all slaves that a master remembers need.
const LONGEST: u64 = 1024 * 1024;

/// Why the folders are not known.
#[derive(Debug, Error)]
pub enum FoldersError {
    /// What is in it is not what was written.
    #[error("the list of folders {} is damaged in line {line}: {why}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// The system refused.
    #[error("cannot use the list of folders {}: {cause}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// Reads the list; none where there is no file.
pub(super) fn load(
    path: &Path,
    cluster: ClusterId,
) -> Result<Option<BTreeSet<FolderId>>, FoldersError> {
    let io_error = |cause| FoldersError::Io { path: path.to_owned(), cause };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
    };
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).map_err(io_error)?;
    let damaged =
        |(line, why): (usize, String)| FoldersError::Damaged { path: path.to_owned(), line, why };
    let text =
        std::str::from_utf8(&bytes).map_err(|_| damaged((1, "it is not text".to_owned())))?;
    parse(text, cluster).map(Some).map_err(damaged)
}

/// Writes the list. It is on disk once this returns.
pub(super) fn save(
    path: &Path,
    cluster: ClusterId,
    folders: &BTreeSet<FolderId>,
) -> Result<(), FoldersError> {
    replace_file(path, text(cluster, folders).as_bytes())
        .map_err(|cause| FoldersError::Io { path: path.to_owned(), cause })
}

fn head(cluster: ClusterId) -> String {
    format!("relais folders 1 cluster {cluster}")
}

fn text(cluster: ClusterId, folders: &BTreeSet<FolderId>) -> String {
    let lines: String = folders.iter().map(|folder| format!("{folder}\n")).collect();
    format!("{}\n{lines}end {}\n", head(cluster), folders.len())
}

fn parse(text: &str, cluster: ClusterId) -> Result<BTreeSet<FolderId>, (usize, String)> {
    let mut lines = text.lines().enumerate().map(|(place, line)| (place + 1, line));
    match lines.next() {
        Some((_, line)) if line == head(cluster) => {}
        _ => return Err((1, format!("it is not {:?}", head(cluster)))),
    }
    let mut folders = BTreeSet::new();
    for (number, line) in lines.by_ref() {
        if let Some(count) = line.strip_prefix("end ") {
            if count != folders.len().to_string() || !text.ends_with('\n') {
                return Err((number, format!("{} folders are above it", folders.len())));
            }
            return lines.next().map_or(Ok(folders), |(number, _)| {
                Err((number, "something follows the end".to_owned()))
            });
        }
        let folder = line.parse().map_err(|_| (number, "it is no folder's id".to_owned()))?;
        if !folders.insert(folder) {
            return Err((number, "the folder is named twice".to_owned()));
        }
    }
    Err((text.lines().count(), "its end is missing".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    #[test]
    fn what_was_saved_comes_back_and_nothing_else_is_taken() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("folders");
        assert_eq!(load(&path, CLUSTER).unwrap(), None);
        for count in [0, 1, 3] {
            let folders: BTreeSet<FolderId> = (0..count).map(|n| FolderId([n; 16])).collect();
            save(&path, CLUSTER, &folders).unwrap();
            assert_eq!(load(&path, CLUSTER).unwrap(), Some(folders));
        }
        let good = std::fs::read_to_string(&path).unwrap();
        assert!(load(&path, ClusterId([8; 16])).is_err(), "another cluster's");
        for cut in 0..good.len() {
            std::fs::write(&path, &good[..cut]).unwrap();
            assert!(load(&path, CLUSTER).is_err(), "cut at {cut}");
        }
        for (bad, line) in [
            (good.replace("00000000000000000000000000000000", "0000"), 2),
            (good.replace("01010101010101010101010101010101\n", ""), 4),
            (format!("{good}more\n"), 6),
            (
                good.replace(
                    "01010101010101010101010101010101",
                    "00000000000000000000000000000000",
                ),
                3,
            ),
        ] {
            std::fs::write(&path, bad).unwrap();
            let error = load(&path, CLUSTER).unwrap_err();
            assert!(
                error.to_string().contains(&format!("folders is damaged in line {line}:")),
                "{error}"
            );
        }
    }
}
