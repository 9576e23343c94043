//! The members of the cluster: its folders, and the slaves that have been in service.
//!
//! They are in a small text file, which is replaced atomically at each change.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use relais_cluster::{KNOWN_MAX, KnownSlave, SlaveAddresses};
use relais_os::write_atomically;
use relais_proto::{ClusterId, FolderId, SlaveId};
use thiserror::Error;

/// Cap on the file: more than [`KNOWN_MAX`] slaves need, each with all its addresses.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// The content of the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Members {
    pub folders: BTreeSet<FolderId>,
    /// In the order of their first service.
    pub slaves: Vec<KnownSlave>,
}

impl Members {
    /// Adds a slave or updates its addresses. Above the cap the first slave not in `linked` is
    /// removed.
    pub fn know_slave(&mut self, slave: KnownSlave, linked: &BTreeSet<SlaveId>) {
        match self.slaves.iter_mut().find(|known| known.id == slave.id) {
            Some(known) => *known = slave,
            None => self.slaves.push(slave),
        }
        if self.slaves.len() > KNOWN_MAX
            && let Some(gone) = self.slaves.iter().position(|known| !linked.contains(&known.id))
        {
            self.slaves.remove(gone);
        }
    }

    fn len(&self) -> usize {
        self.folders.len() + self.slaves.len()
    }
}

/// The reason why the list of members cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the names of the fields say everything")]
pub enum MembersError {
    /// The content is malformed. `line` counts from 1.
    #[error("the list of folders {} is damaged in line {line}: {why}", path.display())]
    Damaged { path: PathBuf, line: usize, why: String },
    /// A system call failed.
    #[error("cannot use the list of folders {}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
}

/// Reads the list; none if there is no file.
pub(super) fn load(path: &Path, cluster: ClusterId) -> Result<Option<Members>, MembersError> {
    let io_error = |cause| MembersError::Io { path: path.to_owned(), cause };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(io_error)?;
    let damaged =
        |(line, why): (usize, String)| MembersError::Damaged { path: path.to_owned(), line, why };
    let text =
        std::str::from_utf8(&bytes).map_err(|_| damaged((1, "it is not text".to_owned())))?;
    parse(text, cluster).map(Some).map_err(damaged)
}

/// Replaces the list; on disk when this returns.
pub(super) fn save(path: &Path, cluster: ClusterId, members: &Members) -> Result<(), MembersError> {
    write_atomically(path, text(cluster, members).as_bytes())
        .map_err(|cause| MembersError::Io { path: path.to_owned(), cause })
}

fn head(cluster: ClusterId) -> String {
    format!("relais folders 1 cluster {cluster}")
}

fn text(cluster: ClusterId, members: &Members) -> String {
    let folders: String = members.folders.iter().map(|folder| format!("{folder}\n")).collect();
    let slaves: String = members.slaves.iter().map(slave_line).collect();
    format!("{}\n{folders}{slaves}end {}\n", head(cluster), members.len())
}

/// Formats `slave ID FOLDER PEER here|elsewhere LISTEN ADVERTISED`.
///
/// The last two are addresses with commas between them; `-` stands for none.
fn slave_line(slave: &KnownSlave) -> String {
    let KnownSlave { id, folder, place } = slave;
    let list = |addrs: &[SocketAddr]| match addrs {
        [] => "-".to_owned(),
        addrs => addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    };
    let host = if place.same_host { "here" } else { "elsewhere" };
    let (listen, advertised) = (list(&place.listen), list(&place.advertised));
    format!("slave {id} {folder} {} {host} {listen} {advertised}\n", place.peer)
}

fn slave(text: &str) -> Option<KnownSlave> {
    let list = |text: &str| match text {
        "-" => Some(Vec::new()),
        text => text.split(',').map(|addr| addr.parse().ok()).collect(),
    };
    let words: Vec<&str> = text.split(' ').collect();
    let [id, folder, peer, host, listen, advertised] = words[..] else { return None };
    let same_host = match host {
        "here" => true,
        "elsewhere" => false,
        _ => return None,
    };
    let place = SlaveAddresses {
        listen: list(listen)?,
        advertised: list(advertised)?,
        peer: peer.parse().ok()?,
        same_host,
    };
    Some(KnownSlave { id: id.parse().ok()?, folder: folder.parse().ok()?, place })
}

fn parse(text: &str, cluster: ClusterId) -> Result<Members, (usize, String)> {
    let mut lines = text.lines().enumerate().map(|(place, line)| (place + 1, line));
    match lines.next() {
        Some((_, line)) if line == head(cluster) => {}
        _ => return Err((1, format!("it is not {:?}", head(cluster)))),
    }
    let mut members = Members::default();
    for (number, line) in lines.by_ref() {
        if let Some(count) = line.strip_prefix("end ") {
            if count != members.len().to_string() || !text.ends_with('\n') {
                return Err((number, format!("{} entries are above it", members.len())));
            }
            return lines.next().map_or(Ok(members), |(number, _)| {
                Err((number, "something follows the end".to_owned()))
            });
        }
        if let Some(line) = line.strip_prefix("slave ") {
            let slave = slave(line).ok_or((number, "it is no slave".to_owned()))?;
            if members.slaves.iter().any(|known| known.id == slave.id) {
                return Err((number, "the slave is named twice".to_owned()));
            }
            members.slaves.push(slave);
            continue;
        }
        let folder = line.parse().map_err(|_| (number, "it is no folder's id".to_owned()))?;
        if !members.folders.insert(folder) {
            return Err((number, "the folder is named twice".to_owned()));
        }
    }
    Err((text.lines().count(), "its end is missing".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    fn known(n: u8, port: u16) -> KnownSlave {
        let addr = |ip: &str| SocketAddr::new(ip.parse().unwrap(), port);
        let place = SlaveAddresses {
            listen: vec![addr("127.0.0.1"), addr("::1")],
            advertised: if n == 1 { Vec::new() } else { vec![addr("10.0.0.1")] },
            peer: addr("127.0.0.1").ip(),
            same_host: true,
        };
        KnownSlave { id: SlaveId([n; 16]), folder: FolderId([n; 16]), place }
    }

    #[test]
    fn slaves_are_listed_once_and_the_list_is_bounded() {
        let mut members = Members::default();
        let linked: BTreeSet<SlaveId> = [SlaveId([1; 16])].into();
        members.know_slave(known(1, 1), &linked);
        members.know_slave(known(2, 1), &linked);
        members.know_slave(known(1, 9), &linked);
        assert_eq!(members.slaves, [known(1, 9), known(2, 1)]);
        let more = |n: usize| {
            let mut id = [7; 16];
            id[..8].copy_from_slice(&n.to_be_bytes());
            KnownSlave { id: SlaveId(id), ..known(3, 1) }
        };
        (0..KNOWN_MAX).for_each(|n| members.know_slave(more(n), &linked));
        assert_eq!(members.slaves.len(), KNOWN_MAX);
        assert_eq!(members.slaves[..2], [known(1, 9), more(1)]);
    }

    #[test]
    fn saved_members_load_and_damaged_lists_do_not() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("folders");
        assert_eq!(load(&path, CLUSTER).unwrap(), None);
        for count in [0, 1, 3] {
            let folders: BTreeSet<FolderId> = (0..count).map(|n| FolderId([n; 16])).collect();
            let slaves = (1..count).map(|n| known(n, u16::from(n))).collect();
            let members = Members { folders, slaves };
            save(&path, CLUSTER, &members).unwrap();
            assert_eq!(load(&path, CLUSTER).unwrap(), Some(members));
        }
        let good = std::fs::read_to_string(&path).unwrap();
        assert!(load(&path, ClusterId([8; 16])).is_err(), "another cluster's");
        for cut in 0..good.len() {
            std::fs::write(&path, &good[..cut]).unwrap();
            assert!(load(&path, CLUSTER).is_err(), "cut at {cut}");
        }
        for (bad, line) in [
            (good.replace("00000000000000000000000000000000", "0000"), 2),
            (good.replacen("01010101010101010101010101010101\n", "", 1), 6),
            (format!("{good}more\n"), 8),
            (good.replace(" here ", " there "), 5),
            (good.replace("127.0.0.1:1,", "127.0.0.1,"), 5),
            (good.replace("slave 02", "slave 01").replace(&"02".repeat(15), &"01".repeat(15)), 6),
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
