//! Reads as a worker serves them: it waits until the slave has what the client has seen, looks the
//! entry up in the catalogue, and then takes the number for its answer.
//!
//! The rules are those of [`relais_cluster::freshness`]. Each step is a point in time of its own,
//! so the catalogue's writer can do any of its steps between them.

use relais_cluster::freshness::{lsn_of_answer, may_read};
use relais_cluster::replica::SessionId;
use relais_proto::Lsn;

use crate::bugs::Bug;
use crate::check::FRESH;
use crate::world::{Due, Reply, World};

/// Time that a reader waits before it is sent to another slave, in milliseconds.
const TIMEOUT: u64 = 5000;

/// What a reader does next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Check whether the slave is fresh enough; give up at this time.
    Admission {
        until: u64,
    },
    Lookup,
    /// Answer. The catalogue was at this change in the look-up.
    Answer {
        saw: Lsn,
    },
}

#[derive(Debug, Clone, Copy)]
pub struct Reader {
    slave: usize,
    path: usize,
    /// Number that the client has sent.
    seen: Lsn,
    step: Step,
    /// The slave has left the history that the client has seen.
    is_on_branch: bool,
}

impl World {
    pub fn read(&mut self, slave: usize, session: SessionId, path: usize, seen: Lsn) {
        let step = match self.has(Bug::ReadersNotHeld) {
            true => Step::Lookup,
            false => Step::Admission { until: self.now + TIMEOUT },
        };
        self.readers.insert(session, Reader { slave, path, seen, step, is_on_branch: false });
        self.reader_step(session);
    }

    /// Takes the next step of a reader. A session that is closed has none.
    pub fn reader_step(&mut self, session: SessionId) {
        let Some((client, _)) = self.sessions.get(&session).copied() else {
            self.readers.remove(&session);
            return;
        };
        let Some(mut reader) = self.readers.get(&session).copied() else { return };
        let slave = &self.slaves[reader.slave];
        let mut pause = 20;
        match reader.step {
            Step::Admission { .. } if may_read(reader.seen, slave.applied) => {
                reader.step = Step::Lookup
            }
            Step::Admission { until } if self.now >= until => {
                self.counts.add("read: behind");
                self.readers.remove(&session);
                return self.respond(session, Reply::Moved);
            }
            Step::Admission { .. } => pause = 100,
            Step::Lookup => {
                let saw = self.look_up(client, &reader);
                reader.step = Step::Answer { saw };
            }
            Step::Answer { saw } => {
                let lsn = match self.has(Bug::AnnouncedAfterCommit) {
                    true => slave.applied,
                    false => lsn_of_answer(slave.visible, slave.applied),
                };
                self.readers.remove(&session);
                return self.respond(session, Reply::Read { lsn, saw });
            }
        }
        self.readers.insert(session, reader);
        let wait = self.rng.between(1, pause);
        self.later(wait, Due::Reader { session });
    }

    fn look_up(&mut self, client: usize, reader: &Reader) -> Lsn {
        let image = &self.slaves[reader.slave].disk.now;
        let (at, truth) = (image.position.applied, self.clients[client].truth);
        if at < truth && !reader.is_on_branch {
            let slave = reader.slave;
            let what = format!("client {client} has seen {truth}, and reads slave {slave} at {at}");
            self.checks.violate(FRESH, what);
        }
        let entry = image.known.tree.get(&self.paths[reader.path]);
        if let Some(content) = entry.and_then(|entry| entry.content) {
            match image.contents.get(&content.put).copied() {
                Some(value) => {
                    self.counts.add("read: here");
                    self.checks.is_whole(reader.slave, content.put, value);
                }
                None => self.counts.add("read: sent to a holder"),
            }
        }
        at
    }

    /// Readers of a slave take steps between two steps of its catalogue writer.
    pub fn interleave_readers(&mut self, slave: usize) {
        for client in 0..self.clients.len() {
            if self.rng.chance(100) {
                self.read_at_once(client, slave);
            }
        }
        let readers = self.readers.iter().filter(|(_, reader)| reader.slave == slave);
        for session in readers.map(|(session, _)| *session).collect::<Vec<_>>() {
            while self.rng.chance(600) {
                self.counts.add("read: within a batch");
                self.reader_step(session);
            }
        }
    }

    /// A slave leaves its history: its readers' positions have no meaning in the new one.
    pub fn readers_on_branch(&mut self, slave: usize) {
        let readers = self.readers.values_mut().filter(|reader| reader.slave == slave);
        readers.for_each(|reader| reader.is_on_branch = true);
    }
}
