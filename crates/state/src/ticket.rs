//! Tickets: what a master signs for a client and any slave of the cluster takes.
//!
//! A ticket is readable by whoever has it and changeable by nobody: the fields,
//! and behind them a tag that only holders of the cluster key can make.

use relais_proto::{ClusterId, Decode, Decoder, Encoder, TreePath, WireError, limits};
use thiserror::Error;

use crate::ClusterKey;

/// First byte of a ticket: the version of its layout.
const LAYOUT: u8 = 1;
/// Bytes of the tag at its end.
const TAG: usize = 32;
/// What the key for tags is derived for.
const PURPOSE: &str = "relais 2026-11 ticket tag 1";

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rights {
    /// Lists and gets.
    Read,
    /// Changes things too.
    Write,
}

impl Rights {
    /// As people write them.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    /// What [`Self::text`] gives, read again.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Read, Self::Write].into_iter().find(|rights| rights.text() == text)
    }
}

/// Who a client is and what it may do, on any slave of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The cluster it is for.
    pub cluster: ClusterId,
    /// The user; empty without an account.
    pub user: String,
    /// What the user may do.
    pub rights: Rights,
    /// The folder that is the top of the tree for this user.
    pub root: TreePath,
    /// Generation of the accounts when it was issued.
    pub generation: u64,
    /// When it was issued, in the master's milliseconds since 1970 UTC.
    pub issued_ms: u64,
    /// When it ends, in the master's milliseconds since 1970 UTC.
    pub ends_ms: u64,
}

/// Why a ticket is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TicketError {
    /// It is not as a master of this cluster made it.
    #[error("the ticket is altered")]
    Altered,
    /// It is for another cluster.
    #[error("the ticket is for another cluster")]
    OtherCluster,
    /// Its time is over.
    #[error("the ticket has ended")]
    Ended,
    /// The accounts were changed since it was issued.
    #[error("the accounts have changed since the ticket was issued")]
    OldGeneration,
}

impl Ticket {
    /// The ticket as bytes, at most [`limits::TICKET`], with its tag.
    #[must_use]
    pub fn mint(&self, key: &ClusterKey) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        let to = &mut Encoder::new(&mut bytes);
        to.u8(LAYOUT);
        self.cluster.encode(to);
        to.short_text(&self.user).bool(self.rights == Rights::Write).path(&self.root);
        to.u64(self.generation).u64(self.issued_ms).u64(self.ends_ms);
        let tag = tag(key, &bytes);
        bytes.extend_from_slice(tag.as_bytes());
        bytes
    }

    /// Reads a ticket and checks that it holds: for `cluster`, at `now_ms` of
    /// the master's time, with accounts of `generation`. One of a later
    /// generation holds: this server has not heard of that one yet.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn check(
        bytes: &[u8],
        key: &ClusterKey,
        cluster: ClusterId,
        now_ms: u64,
        generation: u64,
    ) -> Result<Self, TicketError> {
        let (fields, found) = bytes.split_last_chunk::<TAG>().ok_or(TicketError::Altered)?;
        // Another cluster has another key, so its tag is wrong here as well; only
        // the unproven cluster id can say which of the two it is. Both are refused.
        let claimed = fields.get(1..17).ok_or(TicketError::Altered)?;
        if claimed != cluster.0 {
            return Err(TicketError::OtherCluster);
        }
        // blake3::Hash compares in constant time.
        if tag(key, fields) != blake3::Hash::from_bytes(*found) {
            return Err(TicketError::Altered);
        }
        let ticket = Self::decode(fields).map_err(|_| TicketError::Altered)?;
        if ticket.generation < generation {
            return Err(TicketError::OldGeneration);
        }
        if ticket.ends_ms <= now_ms {
            return Err(TicketError::Ended);
        }
        Ok(ticket)
    }

    fn decode(fields: &[u8]) -> Result<Self, WireError> {
        let mut from = Decoder::new(fields);
        let layout = from.u8()?;
        if layout != LAYOUT {
            return Err(WireError::BadValue { what: "ticket layout", value: layout.into() });
        }
        let ticket = Self {
            cluster: ClusterId::decode(&mut from)?,
            user: from.short_text("user name", limits::USER)?.to_owned(),
            rights: if from.bool()? { Rights::Write } else { Rights::Read },
            root: from.path()?,
            generation: from.u64()?,
            issued_ms: from.u64()?,
            ends_ms: from.u64()?,
        };
        from.finish()?;
        Ok(ticket)
    }
}

fn tag(key: &ClusterKey, fields: &[u8]) -> blake3::Hash {
    blake3::keyed_hash(&key.sub_key(PURPOSE), fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (tempfile::TempDir, ClusterKey, ClusterKey) {
        let temp = tempfile::tempdir().unwrap();
        let key = ClusterKey::load_or_create(&temp.path().join("a")).unwrap();
        let other = ClusterKey::load_or_create(&temp.path().join("b")).unwrap();
        (temp, key, other)
    }

    fn ticket(cluster: ClusterId) -> Ticket {
        Ticket {
            cluster,
            user: "ann".to_owned(),
            rights: Rights::Write,
            root: TreePath::new("home/ann").unwrap(),
            generation: 7,
            issued_ms: 1_000,
            ends_ms: 2_000,
        }
    }

    #[test]
    fn comes_back_as_it_was_minted() {
        let (_temp, key, _) = keys();
        let cluster = key.cluster_id();
        for ticket in [
            ticket(cluster),
            Ticket {
                user: String::new(),
                rights: Rights::Read,
                root: TreePath::root(),
                ..ticket(cluster)
            },
            Ticket {
                user: "u".repeat(limits::USER),
                root: TreePath::new("xy/".repeat(1364) + "x").unwrap(),
                ..ticket(cluster)
            },
        ] {
            let bytes = ticket.mint(&key);
            assert!(bytes.len() <= limits::TICKET);
            assert_eq!(Ticket::check(&bytes, &key, cluster, 1_500, 7), Ok(ticket));
        }
    }

    #[test]
    fn every_bit_counts_and_every_byte() {
        let (_temp, key, _) = keys();
        let cluster = key.cluster_id();
        let good = ticket(cluster).mint(&key);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Ticket::check(&bad, &key, cluster, 1_500, 7).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(Ticket::check(&good[..len], &key, cluster, 1_500, 7).is_err(), "{len} bytes");
        }
        assert!(Ticket::check(&[good.clone(), vec![0]].concat(), &key, cluster, 1_500, 7).is_err());
        assert!(Ticket::check(&[good.clone(), good].concat(), &key, cluster, 1_500, 7).is_err());
    }

    #[test]
    fn ends_and_generations_hold() {
        let (_temp, key, _) = keys();
        let cluster = key.cluster_id();
        let good = ticket(cluster).mint(&key);
        let check =
            |now, generation| Ticket::check(&good, &key, cluster, now, generation).map(|_| ());
        assert_eq!(check(0, 0), Ok(()));
        assert_eq!(check(1_999, 7), Ok(()));
        assert_eq!(check(2_000, 7), Err(TicketError::Ended));
        assert_eq!(check(u64::MAX, 7), Err(TicketError::Ended));
        assert_eq!(check(1_500, 8), Err(TicketError::OldGeneration));
    }

    #[test]
    fn another_clusters_tickets_are_refused() {
        let (_temp, key, other) = keys();
        let theirs = ticket(other.cluster_id()).mint(&other);
        assert_eq!(
            Ticket::check(&theirs, &key, key.cluster_id(), 1_500, 7),
            Err(TicketError::OtherCluster)
        );
        // Another key that claims our cluster.
        let forged = ticket(key.cluster_id()).mint(&other);
        assert_eq!(
            Ticket::check(&forged, &key, key.cluster_id(), 1_500, 7),
            Err(TicketError::Altered)
        );
        // Our key, but for another cluster.
        let strange = ticket(other.cluster_id()).mint(&key);
        assert_eq!(
            Ticket::check(&strange, &key, key.cluster_id(), 1_500, 7),
            Err(TicketError::OtherCluster)
        );
    }
}
