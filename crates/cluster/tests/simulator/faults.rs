//! Faults, and the work of users and operators.

use relais_cluster::replica::Event as Happened;
use relais_cluster::{CoordinatorEvent, HaltReason, MasterState, Trimmed};
use relais_proto::{FolderId, Lsn};

use crate::check::{RESTS, Violation};
use crate::master::SEED;
use crate::mounts::covers;
use crate::net::{NODES, SLAVES};
use crate::slave::Slave;
use crate::world::World;

/// Faults that each must occur often in a run.
pub const FAULTS: &[&str] = &[
    "fault: cut one way",
    "fault: cut both ways",
    "fault: heal",
    "fault: slave crash",
    "fault: slave start",
    "fault: master crash",
    "fault: master start",
    "fault: client crash",
    "fault: disk full",
    "fault: disk free",
    "fault: path refused",
    "fault: path free",
    "fault: mount",
    "fault: unmount",
    "fault: content hidden",
    "fault: hidden content damaged",
    "fault: no room to stage",
    "fault: journal disk full",
    "fault: journal full",
    "fault: written, not told",
    "fault: half carried",
    "fault: not placed when carried",
    "fault: request lost",
    "fault: reply lost",
    "fault: link silent",
    "fault: old disk",
    "fault: empty disk",
    "fault: old master disk",
    "fault: recover",
    "fault: second master",
    "fault: edit",
    "fault: edit of a file",
    "fault: file vanished",
    "fault: old file",
    "fault: shortened",
    "fault: restored backup",
    "fault: two masters",
    "fault: branch",
];

const GHOST: FolderId = FolderId([99; 16]);

impl World {
    pub fn fault(&mut self) -> Result<(), Violation> {
        let slave = self.rng.index(SLAVES);
        match self.rng.below(200) {
            0..14 => self.cut_some(),
            14..40 => self.heal_some(),
            40..50 => {
                self.counts.add("fault: slave crash");
                self.crash_slave(slave);
            }
            50..72 => self.start_some(),
            72..77 => {
                self.counts.add("fault: master crash");
                self.crash_master(0);
            }
            77..92 => self.mend_master(),
            92..96 => {
                self.counts.add("fault: client crash");
                let client = self.rng.index(self.clients.len());
                self.crash_client(client);
            }
            96..100 => {
                self.counts.add("fault: disk full");
                self.slaves[slave].disk.full = true;
            }
            100..108 => {
                self.counts.add("fault: disk free");
                self.slaves.iter_mut().for_each(|slave| slave.disk.full = false);
            }
            108..111 => {
                self.counts.add("fault: journal disk full");
                self.masters[0].full = true;
            }
            111..117 => self.masters[0].full = false,
            117..121 | 151..170 => {
                self.slaves[slave].snapshot = Some(self.slaves[slave].disk.synced.clone())
            }
            121..126 => self.old_disk(slave),
            126..129 | 170..180 => return self.old_master_disk(),
            129..130 => return self.second_master(),
            130..138 => self.edit(slave),
            138..141 => self.vanish(slave),
            141..147 => self.old_file(slave),
            147..151 => self.shorten(),
            180..184 => {
                self.counts.add("fault: path refused");
                self.slaves[slave].disk.refusing = true;
            }
            184..191 => {
                self.counts.add("fault: path free");
                self.free_paths(slave);
                self.unmount(slave);
            }
            191..195 => return self.restored_backup(),
            195..200 => self.mount(slave),
            _ => {}
        }
        Ok(())
    }

    fn cut_some(&mut self) {
        let (from, to) = (self.rng.index(NODES), self.rng.index(NODES));
        if self.rng.chance(500) {
            self.counts.add("fault: cut one way");
        } else {
            self.counts.add("fault: cut both ways");
            self.cut[to][from] = true;
        }
        self.cut[from][to] = true;
        self.say(|| format!("cut {from} {to}"));
    }

    fn heal_some(&mut self) {
        for from in 0..NODES {
            for to in 0..NODES {
                if self.cut[from][to] && self.rng.chance(400) {
                    self.counts.add("fault: heal");
                    self.heal(from, to);
                }
            }
        }
    }

    fn start_some(&mut self) {
        for slave in 0..SLAVES {
            if self.slaves[slave].replica.is_none() {
                self.counts.add("fault: slave start");
                self.start_slave(slave);
            }
        }
    }

    /// Starts the master if it is down; otherwise its journal cannot be written for a time.
    fn mend_master(&mut self) {
        if self.masters[0]
            .order
            .as_ref()
            .is_some_and(|order| order.halted() == Some(HaltReason::Broken))
        {
            self.crash_master(0);
        }
        if self.masters[0].order.is_none() {
            self.counts.add("fault: master start");
            if self.rng.chance(200) {
                self.masters[0].folders.insert(GHOST);
            }
            self.start_master(0);
        }
        if self.rng.chance(100) {
            self.counts.add("fault: forget");
            self.masters[0].folders.remove(&GHOST);
            self.master_event(0, CoordinatorEvent::Forget { folder: GHOST });
        }
    }

    fn old_disk(&mut self, slave: usize) {
        // An old disk does not have the latest epoch, so it may follow an old master.
        if self.spare == 0 || self.master_first || self.masters[1].order.is_some() {
            return;
        }
        self.spare -= 1;
        self.crash_slave(slave);
        let image = self.slaves[slave].snapshot.take();
        self.counts.add(if image.is_some() { "fault: old disk" } else { "fault: empty disk" });
        self.say(|| format!("slave {slave} gets an old disk"));
        let life = self.slaves[slave].life;
        let mut it = Slave::default();
        it.life = life;
        it.disk.now = image.unwrap_or_default();
        it.heard = it.disk.now.position.epoch;
        // The new disk has no mounts.
        for (put, (_, value)) in std::mem::take(&mut it.disk.now.hidden) {
            it.disk.now.contents.insert(put, value);
        }
        it.disk.sync();
        self.slaves[slave] = it;
        self.start_slave(slave);
    }

    /// Ends the refusals of a disk.
    fn free_paths(&mut self, slave: usize) {
        self.slaves[slave].disk.refusing = false;
        for put in std::mem::take(&mut self.slaves[slave].disk.refused) {
            self.slave_event(slave, Happened::Refused { put, retry: true });
        }
    }

    fn heal_all(&mut self) {
        for from in 0..NODES {
            for to in 0..NODES {
                self.heal(from, to);
            }
        }
        for slave in 0..SLAVES {
            self.slaves[slave].disk.full = false;
            self.free_paths(slave);
            self.unmount(slave);
            self.start_slave(slave);
        }
    }

    /// An operator restores an old disk of the master; then all slaves are there.
    fn old_master_disk(&mut self) -> Result<(), Violation> {
        if self.copies < 2 || self.spare + 1 < self.copies {
            return Ok(());
        }
        let state = &self.masters[0].state;
        if state.epoch() > 1 || state.last().number < 4 {
            return Ok(());
        }
        self.spare = 0;
        self.master_first = false;
        self.counts.add("fault: old master disk");
        self.heal_all();
        self.crash_master(0);
        // Slaves have all sent changes on their disks before the old journal is used.
        self.hold_faults(700)?;
        // A written change that reached no slave is lost with the disk, and was never visible.
        let told = (0..SLAVES)
            .map(|slave| self.slaves[slave].disk.now.position.applied)
            .max()
            .unwrap_or_default();
        let master = &mut self.masters[0];
        master.journal.retain(|(_, log_entry)| log_entry.version <= told);
        self.checks.begin_again(&master.journal);
        let upto = self.rng.index(master.journal.len() + 1);
        master.state = MasterState::new(SEED);
        for (timeline, log_entry) in &master.journal[..upto] {
            master.state.begin_timeline(*timeline);
            master.state.apply(log_entry.clone());
        }
        self.start_master(0);
        let held = self.hold_faults(4500);
        self.recover_if_halted();
        held
    }

    /// Makes branches. The master's disk is backed up; only some slaves get the later changes, and
    /// leave. The backup is restored, and clients continue with the other slaves; or two masters
    /// continue from it, each with some slaves. Then all meet.
    fn restored_backup(&mut self) -> Result<(), Violation> {
        if !self.branching || self.branched || self.masters[1].order.is_some() {
            return Ok(());
        }
        self.counts.add("fault: restored backup");
        (self.branched, self.spare, self.master_first) = (true, 0, false);
        self.checks.branched = true;
        self.heal_all();
        self.masters[0].full = false;
        self.mend_master();
        let wait = self.rng.between(500, 7000);
        self.run(wait)?;
        // One or two slaves leave; the third one stays for the other side.
        let first = self.rng.index(SLAVES);
        let second = (first + 1) % SLAVES;
        let away = if self.rng.chance(300) { vec![first, second] } else { vec![first] };
        for slave in (0..SLAVES).filter(|slave| !away.contains(slave)) {
            self.crash_slave(slave);
        }
        let backup = self.masters[0].clone_disk();
        let line = self.checks.lines[0].clone();
        let alone = self.rng.between(2000, 9000);
        self.run(alone)?;
        self.say(|| format!("the master's disk is put back to {}", backup.0.last()));
        self.crash_master(0);
        for slave in &away {
            self.crash_slave(*slave);
        }
        let two = self.rng.chance(500);
        for master in 0..=usize::from(two) {
            let it = &mut self.masters[master];
            (it.state, it.folders, it.journal) = backup.clone();
            it.full = false;
            self.checks.goes_on_from(master, line.clone());
            self.start_master(master);
        }
        if two {
            self.counts.add("fault: two masters");
            self.copies_run = true;
            self.home = std::array::from_fn(|_| self.rng.index(2));
        }
        (0..SLAVES).filter(|slave| !away.contains(slave)).for_each(|slave| self.start_slave(slave));
        // The masters wait for known slaves; then each side has changes.
        let both = self.rng.between(9000, 17_000);
        self.run(both)?;
        self.crash_master(1);
        (self.copies_run, self.home) = (false, [0; SLAVES]);
        let late = self.rng.chance(300);
        for slave in 0..SLAVES {
            if slave != first || !late {
                self.start_slave(slave);
            }
        }
        for _ in 0..6 {
            self.run(1000)?;
            self.recover_if_halted();
        }
        Ok(())
    }

    fn hold_faults(&mut self, for_ms: u64) -> Result<(), Violation> {
        let was = std::mem::replace(&mut self.quiet, true);
        let held = self.run(for_ms);
        self.quiet = was;
        for client in 0..self.clients.len() {
            self.later(1, crate::world::Due::ClientNext { client });
        }
        held
    }

    pub fn recover_if_halted(&mut self) {
        let halted = self.masters[0].order.as_ref().and_then(relais_cluster::Coordinator::halted);
        if matches!(halted, Some(HaltReason::Behind | HaltReason::Differs | HaltReason::Superseded))
        {
            self.recover();
        }
    }

    /// Recovers the cluster while the old master is alive, and restarts the old master.
    fn second_master(&mut self) -> Result<(), Violation> {
        if self.master_first || self.masters[1].order.is_some() || self.masters[0].state.epoch() > 2
        {
            return Ok(());
        }
        self.heal_all();
        let old = self.masters[0].state.clone();
        let folders = self.masters[0].folders.clone();
        self.crash_master(0);
        self.hold_faults(700)?;
        self.recover();
        let epoch = self.masters[0].epoch();
        for _ in 0..40 {
            self.hold_faults(50)?;
            if self.slaves.iter().all(|slave| slave.heard == epoch) {
                self.counts.add("fault: second master");
                self.masters[1].state = old;
                self.masters[1].folders = folders;
                let slave = self.rng.index(SLAVES);
                self.crash_slave(slave);
                self.start_slave(slave);
                self.start_master(1);
                break;
            }
        }
        Ok(())
    }

    fn edit(&mut self, slave: usize) {
        let path = self.paths[self.rng.index(self.paths.len())].clone();
        let value = self.rng.next();
        let image = &self.slaves[slave].disk.now;
        let entry = image.known.tree.get(&path);
        let fits = !covers(&self.slaves[slave].disk.mounts, &path)
            && path.split_last().is_some_and(|(parent, _)| {
                parent.is_root()
                    || image.known.tree.get(&parent).is_some_and(|entry| entry.content.is_none())
            });
        if !fits || entry.is_some_and(|entry| entry.content.is_none()) {
            return;
        }
        let over = self.destroy(slave, &path);
        self.counts.add(if over { "fault: edit of a file" } else { "fault: edit" });
        self.say(|| format!("{path} on slave {slave} is edited"));
        self.put_by_hand(slave, path, value);
    }

    fn put_by_hand(&mut self, slave: usize, path: relais_proto::TreePath, value: u64) {
        let disk = &mut self.slaves[slave].disk;
        disk.now.edits.insert(path, value);
        disk.sync();
    }

    fn vanish(&mut self, slave: usize) {
        let paths: Vec<_> =
            self.slaves[slave].disk.now.known.tree.iter().map(|(path, _)| path).collect();
        let all = self.rng.chance(200);
        for path in paths {
            if (all || self.rng.chance(200)) && self.destroy(slave, &path) {
                self.counts.add("fault: file vanished");
            }
        }
    }

    /// A removed or replaced file is copied back into the folder.
    fn old_file(&mut self, slave: usize) {
        let all = self.checks.lines[0].gone.len();
        if all == 0 {
            return;
        }
        let at = self.rng.index(all);
        let Some((path, digest)) = self.checks.lines[0].gone.iter().nth(at).cloned() else {
            return;
        };
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest.0[..8]);
        let tree = &self.slaves[slave].disk.now.known.tree;
        let here = tree.get(&path);
        // A folder or equal content at the path leaves nothing to publish.
        if here.is_some_and(|here| here.content.is_none_or(|content| content.digest == digest)) {
            return;
        }
        self.counts.add("fault: old file");
        self.destroy(slave, &path);
        self.put_by_hand(slave, path, u64::from_be_bytes(bytes));
    }

    fn shorten(&mut self) {
        let Some(order) = &self.masters[0].order else { return };
        let kept: Vec<Lsn> = order.state().kept().map(|kept| kept.version).collect();
        if kept.is_empty() {
            return;
        }
        let upto = kept[self.rng.index(kept.len())];
        self.master_event(0, CoordinatorEvent::Trim(Trimmed::Changes(upto)));
        self.masters[0].state.shorten(upto);
        self.counts.add("fault: shortened");
    }

    /// Ends all faults: the world must come to rest.
    pub fn settle(&mut self) -> Result<(), Violation> {
        self.quiet = true;
        self.crash_master(1);
        self.heal_all();
        self.masters[0].full = false;
        self.masters[0].folders.remove(&GHOST);
        if self.masters[0].order.as_ref().is_some_and(|order| order.halted().is_some()) {
            self.crash_master(0);
        }
        self.start_master(0);
        self.master_event(0, CoordinatorEvent::Forget { folder: GHOST });
        let began = self.now;
        let mut rest = 0;
        while rest < 3 {
            rest = if self.unsettled().is_some() { 0 } else { rest + 1 };
            self.run(500)?;
            self.recover_if_halted();
            if self.now - began > 120_000 {
                let what = self.unsettled().unwrap_or_default();
                return Err(Violation { of: RESTS, what });
            }
        }
        self.check_end();
        self.checks.violation.take().map_or(Ok(()), Err)
    }
}
