//! Tickets: the credentials that a master signs and every slave of the cluster accepts.
//!
//! A ticket is readable and tamper-proof: its fields, then a tag that only holders of the cluster
//! key can compute.

use relais_proto::{ClusterId, Decoder, Encoder, TreePath, Wire, WireError, limits};
use thiserror::Error;

use crate::accounts::{AuthenticatedUser, PasswordId};
use crate::key::ClusterKey;
use crate::rights::Rights;

/// The first byte of a ticket: the version of its layout.
const LAYOUT: u8 = 2;
/// Length of the tag at the end, in bytes.
const TAG: usize = 32;
/// The context string from which the tag key is derived.
const PURPOSE: &str = "relais 2026-11 ticket tag 1";

/// The identity and rights of a client, valid on every slave of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The cluster that issued the ticket.
    pub cluster: ClusterId,
    /// The user name; empty without an account.
    pub user: String,
    /// The rights of the user.
    pub rights: Rights,
    /// The folder that is the root of the tree for this user.
    pub root: TreePath,
    /// Generation of the accounts at the time of issue.
    pub generation: u64,
    /// The password of the account at the login.
    pub password_id: PasswordId,
    /// Time of issue by the master's clock, in milliseconds since 1970 UTC.
    pub issued_ms: u64,
    /// End of validity by the master's clock, in milliseconds since 1970 UTC.
    pub ends_ms: u64,
}

/// The reason why a ticket is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TicketError {
    /// The ticket is malformed or its tag is wrong.
    #[error("the ticket is altered")]
    Altered,
    /// The ticket is for another cluster.
    #[error("the ticket is for another cluster")]
    OtherCluster,
    /// The ticket has expired.
    #[error("the ticket has ended")]
    Ended,
    /// The accounts were changed after the time of issue.
    #[error("the accounts have changed since the ticket was issued")]
    OldGeneration,
}

impl Ticket {
    /// Makes the ticket of a user that has logged in, valid for [`limits::TICKET_TIME`].
    #[must_use]
    pub fn new(user: AuthenticatedUser, cluster: ClusterId, now_ms: u64) -> Self {
        let AuthenticatedUser { name: user, rights, root, generation, password_id } = user;
        let time = u64::try_from(limits::TICKET_TIME.as_millis()).unwrap_or(u64::MAX);
        Self {
            cluster,
            user,
            rights,
            root,
            generation,
            password_id,
            issued_ms: now_ms,
            ends_ms: now_ms.saturating_add(time),
        }
    }

    /// Encodes and signs the ticket, at most [`limits::TICKET`] bytes.
    #[must_use]
    pub fn mint(&self, key: &ClusterKey) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        let to = &mut Encoder::new(&mut bytes);
        to.u8(LAYOUT);
        self.cluster.encode(to);
        to.short_text(&self.user).u8(self.rights.byte()).path(&self.root);
        to.u64(self.generation).bytes(&self.password_id.0);
        to.u64(self.issued_ms).u64(self.ends_ms);
        let tag = tag(key, &bytes);
        bytes.extend_from_slice(tag.as_bytes());
        bytes
    }

    /// Decodes a ticket and checks it for `cluster`, at `now_ms` of the master's time.
    ///
    /// A ticket of a lower generation than `generation` is rejected. A higher one is valid,
    /// because this server may not know that generation yet.
    ///
    /// # Errors
    /// The reason of the rejection.
    pub fn check(
        bytes: &[u8],
        key: &ClusterKey,
        cluster: ClusterId,
        now_ms: u64,
        generation: u64,
    ) -> Result<Self, TicketError> {
        let ticket = Self::open(bytes, key, cluster)?;
        if ticket.generation < generation {
            return Err(TicketError::OldGeneration);
        }
        if ticket.ends_ms <= now_ms {
            return Err(TicketError::Ended);
        }
        Ok(ticket)
    }

    /// Decodes a ticket and checks only its tag and that it is for `cluster`.
    ///
    /// # Errors
    /// [`TicketError::Altered`], [`TicketError::OtherCluster`].
    pub fn open(bytes: &[u8], key: &ClusterKey, cluster: ClusterId) -> Result<Self, TicketError> {
        let (fields, found) = bytes.split_last_chunk::<TAG>().ok_or(TicketError::Altered)?;
        // A ticket of another cluster has a wrong tag as well. The unauthenticated cluster id
        // only selects the error; both cases are rejected.
        let claimed = fields.get(1..17).ok_or(TicketError::Altered)?;
        if claimed != cluster.0 {
            return Err(TicketError::OtherCluster);
        }
        // blake3::Hash compares in constant time.
        if tag(key, fields) != *found {
            return Err(TicketError::Altered);
        }
        Self::decode(fields).map_err(|_| TicketError::Altered)
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
            rights: decode_rights(from.u8()?)?,
            root: from.path()?,
            generation: from.u64()?,
            password_id: PasswordId(from.array()?),
            issued_ms: from.u64()?,
            ends_ms: from.u64()?,
        };
        from.finish()?;
        Ok(ticket)
    }
}

fn decode_rights(byte: u8) -> Result<Rights, WireError> {
    let unknown = WireError::BadValue { what: "rights", value: byte.into() };
    Rights::from_byte(byte).ok_or(unknown)
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
            password_id: PasswordId([5; 16]),
            issued_ms: 1_000,
            ends_ms: 2_000,
        }
    }

    #[test]
    fn minted_tickets_decode_to_the_same_fields() {
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
            Ticket { rights: Rights::Admin, ..ticket(cluster) },
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
    fn the_rights_byte_is_that_of_older_tickets() {
        let (_temp, key, _) = keys();
        let cluster = key.cluster_id();
        let at = 1 + 16 + 2 + "ann".len();
        for (byte, rights) in [(0, Rights::Read), (1, Rights::Write), (2, Rights::Admin)] {
            let bytes = Ticket { rights, ..ticket(cluster) }.mint(&key);
            assert_eq!(bytes[at], byte);
        }
        // An unknown value with a right tag, as of a later version.
        let mut fields = ticket(cluster).mint(&key);
        fields.truncate(fields.len() - TAG);
        fields[at] = 3;
        let tag = tag(&key, &fields);
        fields.extend_from_slice(tag.as_bytes());
        assert_eq!(Ticket::open(&fields, &key, cluster), Err(TicketError::Altered));
    }

    #[test]
    fn any_changed_bit_or_length_is_rejected() {
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
    fn expiry_and_generation_are_checked() {
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
    fn tickets_of_another_cluster_are_rejected() {
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
