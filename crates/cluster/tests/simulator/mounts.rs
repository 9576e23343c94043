//! Mounts over folders of a slave. They hide the files below: these are on the disk, and cannot be
//! read, replaced or removed until the mount is gone.

use relais_cluster::replica::{Event, MissingContent, Replica, lack_of_entry};
use relais_proto::{Lsn, TreePath};

use crate::bugs::Bug;
use crate::disk::{Image, digest};
use crate::world::{World, folder};

/// Returns whether one of the mounts hides a path.
pub fn covers<'a>(mounts: impl IntoIterator<Item = &'a TreePath>, path: &TreePath) -> bool {
    mounts.into_iter().any(|mount| path.is_below(mount))
}

impl World {
    /// Mounts something over a folder.
    pub fn mount(&mut self, slave: usize) {
        let tree = &self.slaves[slave].disk.now.known.tree;
        let folders = tree.iter().filter(|(_, entry)| entry.content.is_none());
        let folders: Vec<TreePath> = folders.map(|(path, _)| path.clone()).collect();
        if folders.is_empty() {
            return;
        }
        let mount = folders[self.rng.index(folders.len())].clone();
        self.say(|| format!("{mount} on slave {slave} is covered by a mount"));
        self.counts.add("fault: mount");
        self.slaves[slave].disk.mounts.insert(mount);
        let hidden = self.hide_covered(slave);
        self.slaves[slave].disk.sync();
        for lack in hidden {
            self.counts.add("fault: content hidden");
            self.report_obstacle(slave, lack.put);
            self.slave_event(slave, Event::Missing(lack));
        }
    }

    pub fn unmount(&mut self, slave: usize) {
        if !std::mem::take(&mut self.slaves[slave].disk.mounts).is_empty() {
            self.say(|| format!("the mounts on slave {slave} are gone"));
            self.counts.add("fault: unmount");
        }
    }

    /// Hides the contents below mounts; returns those that were not hidden before.
    pub fn hide_covered(&mut self, slave: usize) -> Vec<MissingContent> {
        let disk = &mut self.slaves[slave].disk;
        let Image { known, contents, hidden, .. } = &mut disk.now;
        let covered = known.tree.iter().filter(|(path, _)| covers(&disk.mounts, path));
        let mut missing = Vec::new();
        for lack in covered.filter_map(|(path, entry)| lack_of_entry(&path, &entry)) {
            if let Some(value) = contents.remove(&lack.put) {
                hidden.insert(lack.put, (lack.path.clone(), value));
                missing.push(lack);
            }
        }
        missing
    }

    /// Reports that an obstacle hides a content, or keeps it from its path.
    pub fn report_obstacle(&mut self, slave: usize, put: Lsn) {
        let disk = &mut self.slaves[slave].disk;
        if disk.now.known.tree.path_of(put).is_none() {
            return;
        }
        let event = match disk.now.hidden.contains_key(&put) {
            true if self.bug == Some(Bug::HiddenIsMissing) => return,
            true => Event::Hidden { put },
            false => {
                disk.blocked.insert(put);
                Event::Refused { put, retry: false }
            }
        };
        self.slave_event(slave, event);
    }

    /// Reports all obstacles, as a slave does that has just started.
    pub fn report_obstacles(&mut self, slave: usize) {
        let disk = &self.slaves[slave].disk;
        let puts: Vec<Lsn> =
            disk.now.hidden.keys().chain(&disk.blocked).chain(&disk.refused).copied().collect();
        puts.into_iter().for_each(|put| self.report_obstacle(slave, put));
    }

    /// Returns whether a mount is over the path of a put.
    pub fn is_covered(&self, slave: usize, put: Lsn) -> bool {
        let disk = &self.slaves[slave].disk;
        disk.now.known.tree.path_of(put).is_some_and(|path| covers(&disk.mounts, &path))
    }

    /// Retries the contents that mounts hid or kept away.
    pub fn retry_obstacles(&mut self, slave: usize) {
        if !self.slaves[slave].replica.as_ref().is_some_and(Replica::is_caught_up) {
            return;
        }
        let disk = &self.slaves[slave].disk;
        let free = |put: &Lsn| !self.is_covered(slave, *put);
        let blocked: Vec<Lsn> = disk.blocked.iter().copied().filter(free).collect();
        let hidden: Vec<Lsn> = disk
            .now
            .hidden
            .iter()
            .filter(|(put, (path, _))| free(put) && !covers(&disk.mounts, path))
            .map(|(put, _)| *put)
            .collect();
        for put in blocked {
            self.slaves[slave].disk.blocked.remove(&put);
            self.slave_event(slave, Event::Refused { put, retry: true });
        }
        for put in hidden {
            let Some((_, value)) = self.slaves[slave].disk.now.hidden.remove(&put) else {
                continue;
            };
            let is_wanted = self.slaves[slave].disk.now.known.tree.path_of(put).is_some();
            if is_wanted && !self.quiet && self.rng.chance(250) {
                // The content was damaged meanwhile.
                self.counts.add("fault: hidden content damaged");
                self.checks.exempt.insert(digest(value));
                self.slaves[slave].disk.sync();
                self.slave_event(slave, Event::Refused { put, retry: true });
                continue;
            }
            if !is_wanted {
                // The content is the former one of the path.
                self.slaves[slave].disk.now.contents.insert(put, value);
                self.slaves[slave].disk.sync();
                continue;
            }
            self.store(slave, put, value);
            let from = folder(slave);
            self.slave_event(slave, Event::Fetched { put, from, fault: None });
        }
    }
}
