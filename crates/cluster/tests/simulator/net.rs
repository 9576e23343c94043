//! Links between slaves and masters: delays, order within a link, and cuts in each direction.

use std::collections::VecDeque;

use relais_cluster::{LinkId, ToMaster, ToSlave};
use relais_proto::Lsn;

#[derive(Debug, Clone)]
pub enum Up {
    Message(ToMaster),
    Heartbeat,
    Closed,
}

#[derive(Debug, Clone)]
pub enum Down {
    Message(ToSlave),
    Ack(Lsn),
    Closed,
}

/// An end-to-end connection. It delivers messages in order or not at all.
#[derive(Debug)]
pub struct Conn {
    pub id: LinkId,
    pub slave: usize,
    pub master: usize,
    pub up: VecDeque<(u64, Up)>,
    pub down: VecDeque<(u64, Down)>,
    pub slave_open: bool,
    pub master_open: bool,
    /// Time of the last message at each end.
    pub slave_heard: u64,
    pub master_heard: u64,
}

impl Conn {
    pub fn new(id: LinkId, slave: usize, master: usize, now: u64) -> Self {
        Self {
            id,
            slave,
            master,
            up: VecDeque::new(),
            down: VecDeque::new(),
            slave_open: true,
            master_open: true,
            slave_heard: now,
            master_heard: now,
        }
    }
}

/// Silence after which an end closes the connection.
pub const SILENCE: u64 = 3000;
pub const SLAVES: usize = 3;
/// Two masters: the current one, and an old one that was restarted.
pub const MASTERS: usize = 2;
/// Index of the first slave; the masters come before.
pub const NODES: usize = SLAVES + MASTERS;

pub fn node(slave: usize) -> usize {
    MASTERS + slave
}
