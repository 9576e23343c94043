//! Clients: they read, and request changes. After a lost answer they repeat the request by its id.

use relais_cluster::ChangeRequest;
use relais_cluster::replica::{Event, ProposalResult, SessionId};
use relais_proto::{
    Attributes, Change, ChangeId, ContentHashes, ErrorCode, Expect, FileTime, LockRequest,
    LockToken, Lsn, PropertyChange, PropertyName, Sha256, TreePath, limits,
};

use crate::disk::{Staged, Value, digest};
use crate::net::SLAVES;
use crate::slave::{mode_of, put_of};
use crate::world::{Due, Reply, World};

#[derive(Debug, Clone)]
enum Wish {
    Change { request: ChangeRequest, value: Option<Value> },
    Read { path: usize },
}

#[derive(Debug)]
pub struct Client {
    /// Change that the last answer has carried.
    pub lsn: Lsn,
    /// Latest change that it has seen in a catalogue or that was acknowledged.
    pub truth: Lsn,
    /// Locks that it was granted.
    locks: Vec<(TreePath, LockToken)>,
    slave: usize,
    /// Life of the slave that has the request; a restarted slave does not know it.
    life: u64,
    wish: Option<Wish>,
    request: u64,
    tries: u32,
    since: u64,
}

impl Client {
    pub fn new(at: usize) -> Self {
        Self {
            lsn: Lsn::default(),
            truth: Lsn::default(),
            locks: Vec::new(),
            slave: at % SLAVES,
            life: 0,
            wish: None,
            request: 0,
            tries: 0,
            since: 0,
        }
    }

    pub fn is_busy(&self) -> bool {
        self.wish.is_some()
    }
}

impl World {
    pub fn client_next(&mut self, client: usize) {
        if self.quiet || self.clients[client].wish.is_some() {
            return;
        }
        // A client with a ticket changes slaves without the master, so it has only its own number.
        if self.rng.chance(500) {
            let slave = self.rng.index(SLAVES);
            self.clients[client].slave = slave;
            // A redirect carries the latest number.
            if let Some(order) = self.masters[0].order.as_ref().filter(|_| self.rng.chance(400)) {
                let lsn = order.last().max(Lsn { epoch: 1, number: 0 });
                self.clients[client].lsn = self.clients[client].lsn.max(lsn);
            }
        }
        let wish = if self.rng.chance(600) {
            Wish::Read { path: self.rng.index(self.paths.len()) }
        } else {
            self.random_change(client)
        };
        self.clients[client].wish = Some(wish);
        self.clients[client].tries = 0;
        self.ask(client);
    }

    /// An idle client reads from a slave now.
    pub fn read_at_once(&mut self, client: usize, slave: usize) {
        if self.quiet || self.clients[client].wish.is_some() {
            return;
        }
        let path = self.rng.index(self.paths.len());
        let it = &mut self.clients[client];
        (it.slave, it.wish, it.tries) = (slave, Some(Wish::Read { path }), 0);
        it.request += 1;
        (it.since, it.life) = (self.now, self.slaves[slave].life);
        let request = it.request;
        self.later(5000, Due::ClientPatience { client, request });
        self.request(client, request);
    }

    fn random_change(&mut self, client: usize) -> Wish {
        let path = self.paths[self.rng.index(self.paths.len())].clone();
        let mut id: [u8; 16] = self.rng.bytes();
        // The tag of the account.
        id[..4].copy_from_slice(&(1 + u32::try_from(client).unwrap() % 3).to_be_bytes());
        let id = ChangeId(id);
        let (change, value) = match self.rng.below(115) {
            100.. => (self.random_annotation(client, &path), None),
            0..50 => {
                let value = self.rng.next();
                (put_of(path.clone(), value), Some(value))
            }
            50..66 => {
                let mode = mode_of(self.rng.next());
                (Change::MakeFolder { path: path.clone(), mode }, None)
            }
            66..70 => {
                let mode = self.rng.chance(700).then(|| mode_of(self.rng.next()));
                let seconds = i64::try_from(self.rng.index(1000)).unwrap_or_default();
                let mtime = mode.is_none().then_some(FileTime { seconds, nanos: 0 });
                let attributes = Attributes { mtime, mode };
                (Change::SetAttributes { path: path.clone(), attributes }, None)
            }
            70..86 => {
                (Change::Remove { path: path.clone(), recursive: self.rng.chance(500) }, None)
            }
            86..100 => {
                let to = self.paths[self.rng.index(self.paths.len())].clone();
                (Change::Move { from: path.clone(), to }, None)
            }
        };
        let image = &self.slaves[self.clients[client].slave].disk.now;
        let tokens: Vec<LockToken> = if self.rng.chance(700) {
            self.clients[client].locks.iter().map(|(_, token)| *token).collect()
        } else {
            Vec::new()
        };
        self.checks.tokens.insert(id, tokens.clone());
        let expect = match value {
            Some(_) if self.rng.chance(200) => {
                Expect::exactly(image.known.tree.get(&path).map(|entry| Some(entry.version)))
            }
            _ => Expect::Any,
        };
        Wish::Change {
            request: ChangeRequest { id, change, expect, keep_mode: self.rng.chance(500), tokens },
            value,
        }
    }

    fn random_annotation(&mut self, client: usize, path: &TreePath) -> Change {
        let path = if self.rng.chance(50) { TreePath::root() } else { path.clone() };
        // Locks are rare; few would be ended otherwise.
        let has_lock = !self.clients[client].locks.is_empty();
        let kind = if has_lock && self.rng.chance(600) { 7 } else { self.rng.below(10) };
        match kind {
            0..3 => {
                let name = |n| PropertyName { namespace: "n".into(), local: format!("p{n}") };
                let changes = (0..1 + self.rng.below(3)).map(|_| {
                    let value = self.rng.chance(700).then(|| self.rng.below(1000).to_string());
                    PropertyChange { name: name(self.rng.below(4)), value }
                });
                Change::SetProperties { path, changes: changes.collect() }
            }
            3..6 => {
                let token = LockToken(self.rng.bytes());
                let again = self.rng.chance(200);
                let last = self.clients[client].locks.last().filter(|_| again);
                let (path, token) = last.cloned().unwrap_or((path, token));
                let lock = LockRequest {
                    token,
                    user: format!("u{client}"),
                    owner: String::new(),
                    exclusive: self.rng.chance(600),
                    deep: self.rng.chance(300),
                    seconds: u32::try_from(1 + self.rng.below(60)).unwrap(),
                };
                Change::Lock { path, lock }
            }
            6..8 => {
                let last = self.clients[client].locks.pop();
                let (path, token) = last.unwrap_or((path, LockToken([0; 16])));
                Change::Unlock { path, token }
            }
            _ => {
                let tree = &self.slaves[self.clients[client].slave].disk.now.known.tree;
                let contents: Vec<(Lsn, u64)> = tree
                    .iter()
                    .filter_map(|(_, entry)| {
                        entry.content.map(|content| (content.put, content.size))
                    })
                    .collect();
                let (put, size) = contents
                    .get(self.rng.index(contents.len().max(1)))
                    .copied()
                    .unwrap_or((Lsn::default(), 1));
                let piece_size = ContentHashes::piece_size_for(size);
                let count = if size <= piece_size { 0 } else { size.div_ceil(piece_size) };
                let sha256 = Sha256(digest(self.rng.next()).0);
                let pieces = vec![sha256; usize::try_from(count).unwrap()];
                Change::RecordSha256 { put, hashes: ContentHashes { sha256, piece_size, pieces } }
            }
        }
    }

    fn ask(&mut self, client: usize) {
        let it = &mut self.clients[client];
        it.request += 1;
        it.since = self.now;
        it.life = self.slaves[it.slave].life;
        let request = it.request;
        let wait = self.rng.between(1, 40);
        self.later(5000, Due::ClientPatience { client, request });
        if !self.quiet && self.rng.chance(15) {
            return self.counts.add("fault: request lost");
        }
        self.later(wait, Due::Request { client, request });
    }

    /// A request arrives at its slave.
    pub fn request(&mut self, client: usize, request: u64) {
        let it = &self.clients[client];
        let (slave, lsn) = (it.slave, it.lsn);
        if it.request != request || self.slaves[slave].replica.is_none() {
            return;
        }
        let Some(wish) = it.wish.clone() else { return };
        self.checks.links += 1;
        let session = SessionId(self.checks.links);
        self.sessions.insert(session, (client, request));
        match wish {
            Wish::Read { path } => self.read(slave, session, path, lsn),
            Wish::Change { request, value } => {
                if let Some(value) = value {
                    if self.slaves[slave].disk.full {
                        self.counts.add("fault: no room to stage");
                        return self.respond(session, Reply::Elsewhere);
                    }
                    self.slaves[slave]
                        .disk
                        .now
                        .staged
                        .insert(request.id, Staged { value, found: None });
                    self.slaves[slave].disk.sync();
                }
                self.say(|| format!("client {client} asks slave {slave}: {request:?}"));
                let copies = self.copies;
                self.slave_event(
                    slave,
                    Event::Proposed { session: Some(session), request, copies },
                );
            }
        }
    }

    pub fn respond(&mut self, session: SessionId, reply: Reply) {
        let Some((client, request)) = self.sessions.remove(&session) else { return };
        if !self.quiet && self.rng.chance(30) {
            return self.counts.add("fault: reply lost");
        }
        let wait = self.rng.between(1, 40);
        self.later(wait, Due::Reply { client, request, reply });
    }

    /// Ends the sessions of a dead slave; some clients notice at once.
    pub fn sessions_cut(&mut self, slave: usize) {
        let cut: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, (client, _))| self.clients[*client].slave == slave)
            .map(|(session, _)| *session)
            .collect();
        for session in cut {
            if self.rng.chance(700) {
                self.respond(session, Reply::Elsewhere);
            } else {
                self.sessions.remove(&session);
            }
        }
    }

    pub fn reply(&mut self, client: usize, request: u64, reply: Reply) {
        let it = &mut self.clients[client];
        if it.request != request || it.wish.is_none() {
            return;
        }
        match reply {
            Reply::Change(
                ProposalResult::Done { version, .. } | ProposalResult::TooFewCopies { version, .. },
            ) => {
                (it.lsn, it.truth) = (it.lsn.max(version), it.truth.max(version));
                if let Some(Wish::Change { request, .. }) = &it.wish {
                    it.locks.extend(match &request.change {
                        Change::Lock { path, lock } => Some((path.clone(), lock.token)),
                        _ => None,
                    });
                    let old = it.locks.len().saturating_sub(limits::LOCK_TOKENS);
                    it.locks.drain(..old);
                }
                self.done(client);
            }
            Reply::Change(ProposalResult::Refused(refusal)) => match refusal.code {
                ErrorCode::NoChanges | ErrorCode::TimedOut | ErrorCode::NoSpace => {
                    self.move_on(client)
                }
                _ => self.done(client),
            },
            Reply::Read { lsn, saw } => {
                (it.lsn, it.truth) = (it.lsn.max(lsn), it.truth.max(saw));
                self.done(client);
                if self.rng.chance(300) {
                    self.later(1, Due::ClientNext { client });
                }
            }
            Reply::Moved | Reply::Elsewhere => self.move_on(client),
        }
    }

    fn done(&mut self, client: usize) {
        self.clients[client].wish = None;
        let wait = self.rng.between(10, 700);
        self.later(wait, Due::ClientNext { client });
    }

    /// Repeats the request with its id at another slave.
    fn move_on(&mut self, client: usize) {
        let it = &mut self.clients[client];
        it.tries += 1;
        if it.tries > 8 {
            return self.done(client);
        }
        it.slave = (it.slave + 1) % SLAVES;
        self.counts.add("client: moves");
        self.ask(client);
    }

    pub fn client_patience(&mut self, client: usize, request: u64) {
        let it = &self.clients[client];
        if it.request != request || it.wish.is_none() {
            return;
        }
        let slave = &self.slaves[it.slave];
        let waits =
            self.sessions.values().any(|(other, current)| *other == client && *current == request);
        // A slave that still works on the request reports that once a second.
        if waits && slave.replica.is_some() && slave.life == it.life && self.now - it.since < 40_000
        {
            return self.later(1000, Due::ClientPatience { client, request });
        }
        let gone: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, (other, _))| *other == client)
            .map(|(session, _)| *session)
            .collect();
        let at = it.slave;
        for session in gone {
            self.sessions.remove(&session);
            self.slave_event(at, Event::SessionClosed(session));
        }
        self.move_on(client);
    }

    pub fn crash_client(&mut self, client: usize) {
        let gone: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, (other, _))| *other == client)
            .map(|(session, _)| *session)
            .collect();
        let at = self.clients[client].slave;
        for session in gone {
            self.sessions.remove(&session);
            self.slave_event(at, Event::SessionClosed(session));
        }
        self.clients[client].wish = None;
        self.clients[client].request += 1;
        let wait = self.rng.between(10, 700);
        self.later(wait, Due::ClientNext { client });
    }
}
