//! Delivery of messages by the network.

use relais_cluster::replica::Event as Happened;
use relais_cluster::{CoordinatorEvent, LinkId, ToMaster, ToSlave};

use crate::bugs::Bug;
use crate::check::EPOCH_REFUSED;
use crate::counts::{from_master, from_slave};
use crate::net::{Conn, Down, MASTERS, SILENCE, Up, node};
use crate::world::{Due, World};

impl World {
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut[from][to]
    }

    pub fn send_up(&mut self, link: LinkId, message: Up) {
        let wait = self.rng.between(1, 60);
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&link) else { return };
        let at = conn.up.back().map_or(0, |(at, _)| *at).max(now + wait);
        conn.up.push_back((at, message));
        self.later(at - now, Due::Up(link));
    }

    pub fn send_down(&mut self, link: LinkId, message: Down) {
        let wait = self.rng.between(1, 60);
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&link) else { return };
        let at = conn.down.back().map_or(0, |(at, _)| *at).max(now + wait);
        conn.down.push_back((at, message));
        self.later(at - now, Due::Down(link));
    }

    /// Delivers the messages that a cut has delayed.
    pub fn heal(&mut self, from: usize, to: usize) {
        self.cut[from][to] = false;
        let links: Vec<(LinkId, usize, usize)> = self
            .conns
            .values()
            .flat_map(|conn| [(conn.id, conn.up.len(), 0), (conn.id, 0, conn.down.len())])
            .collect();
        for (link, up, down) in links {
            (0..up).for_each(|_| self.later(1, Due::Up(link)));
            (0..down).for_each(|_| self.later(1, Due::Down(link)));
        }
    }

    pub fn deliver_up(&mut self, link: LinkId) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&link) else { return };
        let (slave, master) = (conn.slave, conn.master);
        if self.cut[node(slave)][master] || conn.up.front().is_none_or(|(at, _)| *at > now) {
            return;
        }
        let Some((_, message)) = conn.up.pop_front() else { return };
        if !conn.master_open {
            return;
        }
        conn.master_heard = now;
        match message {
            Up::Heartbeat => {
                let lsn =
                    self.masters[master].order.as_ref().map(relais_cluster::Coordinator::last);
                if let Some(lsn) = lsn {
                    self.send_down(link, Down::Ack(lsn));
                }
            }
            Up::Closed => {
                conn.master_open = false;
                self.master_event(master, CoordinatorEvent::LinkClosed { link });
            }
            Up::Message(mut message) => {
                self.counts.add(from_slave(&message));
                if let (ToMaster::Propose { found, .. }, true) =
                    (&mut message, self.has(Bug::FoundIsAsked))
                {
                    *found = false;
                }
                if let (ToMaster::Propose { found, .. }, true) =
                    (&mut message, self.has(Bug::AskedIsFound))
                {
                    *found = true;
                }
                self.say(|| format!("master {master} hears slave {slave}: {message:?}"));
                self.master_event(master, CoordinatorEvent::Received { link, message });
            }
        }
    }

    pub fn deliver_down(&mut self, link: LinkId) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&link) else { return };
        let (slave, master) = (conn.slave, conn.master);
        if self.cut[master][node(slave)] || conn.down.front().is_none_or(|(at, _)| *at > now) {
            return;
        }
        let Some((_, message)) = conn.down.pop_front() else { return };
        if !conn.slave_open {
            return;
        }
        conn.slave_heard = now;
        match message {
            Down::Ack(lsn) => self.slave_event(slave, Happened::MasterLsn(lsn)),
            Down::Closed => {
                conn.slave_open = false;
                self.unlinked(slave, link);
            }
            Down::Message(mut message) => {
                if self.has(Bug::ListingCut) {
                    self.cut_listing(&mut message);
                }
                self.counts.add(from_master(&message));
                self.say(|| format!("slave {slave} hears master {master}: {message:?}"));
                let epoch = self.masters[master].epoch();
                let joins = matches!(
                    message,
                    ToSlave::Follow { .. } | ToSlave::Compare { .. } | ToSlave::Refuse { .. }
                );
                self.slave_event(slave, Happened::Received(message));
                let it = &mut self.slaves[slave];
                if joins && epoch < it.heard && it.link == Some(link) {
                    let what = format!(
                        "slave {slave} has heard of epoch {} and follows a master of {epoch}",
                        it.heard
                    );
                    self.checks.violate(EPOCH_REFUSED, what);
                } else if joins {
                    it.heard = it.heard.max(epoch);
                }
            }
        }
    }

    pub fn connect(&mut self, slave: usize, life: u64) {
        if self.slaves[slave].life != life
            || self.slaves[slave].replica.is_none()
            || self.slaves[slave].link.is_some()
        {
            return;
        }
        let second = if self.copies_run {
            self.home[slave] == 1
        } else {
            self.masters[1].order.is_some()
                && (self.masters[0].order.is_none() || self.rng.chance(500))
        };
        let master = usize::from(second);
        if self.masters[master].order.is_none()
            || self.is_cut(node(slave), master)
            || self.is_cut(master, node(slave))
        {
            let wait = self.rng.between(200, 900);
            return self.later(wait, Due::Connect { slave, life });
        }
        self.checks.links += 1;
        let link = LinkId(self.checks.links);
        self.conns.insert(link, Conn::new(link, slave, master, self.now));
        self.slaves[slave].link = Some(link);
        self.slave_event(slave, Happened::Linked);
    }

    /// Closes the slave's end.
    pub fn unlinked(&mut self, slave: usize, link: LinkId) {
        if self.slaves[slave].link != Some(link) {
            return;
        }
        self.slaves[slave].link = None;
        self.slave_event(slave, Happened::Unlinked);
        let (life, wait) = (self.slaves[slave].life, self.rng.between(100, 800));
        self.later(wait, Due::Connect { slave, life });
    }

    pub fn close_at_slave(&mut self, link: LinkId) {
        if let Some(conn) = self.conns.get_mut(&link).filter(|conn| conn.slave_open) {
            conn.slave_open = false;
            self.send_up(link, Up::Closed);
        }
    }

    pub fn close_at_master(&mut self, link: LinkId) {
        if let Some(conn) = self.conns.get_mut(&link).filter(|conn| conn.master_open) {
            conn.master_open = false;
            self.send_down(link, Down::Closed);
        }
    }

    /// Sends heartbeats, and closes ends after a long silence.
    pub fn watch_link(&mut self, link: LinkId) {
        let Some(conn) = self.conns.get(&link) else { return };
        let (slave, master, now) = (conn.slave, conn.master, self.now);
        if conn.slave_open && now - conn.slave_heard > SILENCE {
            self.counts.add("fault: link silent");
            self.close_at_slave(link);
            self.unlinked(slave, link);
        } else if conn.slave_open {
            self.send_up(link, Up::Heartbeat);
        }
        let Some(conn) = self.conns.get(&link) else { return };
        if conn.master_open && now - conn.master_heard > SILENCE {
            self.close_at_master(link);
            self.master_event(master, CoordinatorEvent::LinkClosed { link });
        }
    }

    /// Closes all connections of a killed process; messages in flight arrive or not.
    pub fn drop_conns(&mut self, which: usize) {
        let links: Vec<LinkId> =
            self.conns
                .values()
                .filter(|conn| {
                    if which < MASTERS { conn.master == which } else { node(conn.slave) == which }
                })
                .map(|conn| conn.id)
                .collect();
        for link in links {
            let keep = self.rng.chance(500);
            let Some(conn) = self.conns.get_mut(&link) else { continue };
            if which < MASTERS {
                if !keep {
                    conn.down.clear();
                }
                self.close_at_master(link);
            } else {
                if !keep {
                    conn.up.clear();
                }
                self.close_at_slave(link);
            }
        }
    }

    /// Planted bug: part of a tree is lost without notice.
    fn cut_listing(&mut self, message: &mut ToSlave) {
        match message {
            ToSlave::Page { entries, .. } => {
                let half = entries.len().div_ceil(2);
                self.checks.cut_entries = u64::try_from(entries.len() - half).unwrap();
                entries.truncate(half);
            }
            ToSlave::End { entries, .. } => {
                *entries -= std::mem::take(&mut self.checks.cut_entries).min(*entries)
            }
            _ => {}
        }
    }
}
