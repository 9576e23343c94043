//! Encodes the master's state as a snapshot, which replaces the changes before it.
//!
//! Counts have eight bytes; all other fields are encoded as in the protocol. The first byte is the
//! version of the layout.

use relais_proto::{
    Annotations, Capped, Change, ChangeId, Decoder, Encoder, LogEntry, Lsn, Property, TreeEntry,
    TreePath, Uncapped, Wire, WireError,
};

use super::master_state::{MasterState, RecentChange, in_order};
use super::removal_records::{RemovalKey, RemovalRecord, RemovalRecords};
use crate::history_hash::{self, HistoryHash};
use crate::tree::{Tree, TreeState};

const LAYOUT: u8 = 3;
/// About the bytes of an entry, so that a large state is not copied while its bytes grow.
const ENTRY_BYTES: usize = 128;

impl MasterState {
    /// Encodes the state.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.known.tree.len().saturating_mul(ENTRY_BYTES));
        let to = &mut Encoder::new(&mut bytes);
        let locks: Vec<_> = self.known.tree.locks().iter().collect();
        (self.last(), self.chain()).encode(to.u8(LAYOUT));
        (self.base, self.base_chain).encode(to);
        to.all(self.timelines.iter(), Wire::encode)
            .all(self.known.tree.iter(), |(path, entry), to| entry.encode(to.path(&path)))
            .all(self.known.tree.formers.iter(), |(put, former), to| (*put, *former).encode(to))
            .all(self.known.ids.iter(), |(id, version), to| (*id, *version).encode(to))
            .all(self.known.tree.properties().iter(), |(path, all), to| {
                let all: Vec<Property> = all.iter().collect();
                all.encode_capped(to.path(path), Uncapped);
            })
            .all(locks.iter(), |(path, lock), to| lock.encode(to.path(path)))
            .all(self.known.tree.hashes().iter(), |(put, hashes), to| {
                put.encode(to);
                hashes.encode(to);
            })
            .u64(self.removed.len() as u64);
        for (account, RemovalRecord { key, version, time_ms }) in self.removed.iter() {
            (account, key.0, time_ms).encode(to);
            version.encode(to);
        }
        to.all(self.tail.iter(), |kept, to| {
            kept.entry.encode(to);
            kept.restored.encode_capped(to, Uncapped);
        });
        bytes
    }

    /// Decodes the state from the bytes of [`Self::to_bytes`].
    ///
    /// # Errors
    /// The defect of the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut decoder = Decoder::new(bytes);
        let from = &mut decoder;
        let layout = from.u8()?;
        if layout != LAYOUT {
            return Err(WireError::BadValue {
                what: "layout of the snapshot",
                value: layout.into(),
            });
        }
        let (last, last_chain) = Wire::decode(from)?;
        let (base, base_chain) = Wire::decode(from)?;
        let timelines = all(from)?;
        let mut tree = Tree::listed([], last);
        for _ in 0..from.u64()? {
            let (path, entry): (TreePath, TreeEntry) = Wire::decode(from)?;
            tree.list(&path, entry);
        }
        let formers = all::<(Lsn, Option<TreeEntry>)>(from)?.into_iter().collect();
        let ids = all::<(ChangeId, Lsn)>(from)?.into_iter().collect();
        let annotations = annotations(from)?;
        let mut removed = RemovalRecords::default();
        for _ in 0..from.u64()? {
            let (account, key, time_ms) = Wire::decode(from)?;
            let (key, version) = (RemovalKey(key), Lsn::decode(from)?);
            removed.add(account, RemovalRecord { key, version, time_ms });
        }
        let (mut at, mut chain): (Lsn, HistoryHash) = (base, base_chain);
        let mut tail = Vec::new();
        for _ in 0..from.u64()? {
            let entry = LogEntry::decode(from)?;
            if entry.version <= at {
                return Err(WireError::BadValue {
                    what: "number of a kept change",
                    value: entry.version.number,
                });
            }
            (at, chain) = (entry.version, history_hash::next(chain, &entry));
            tail.push(RecentChange { entry, restored: all(from)?, chain });
        }
        if (at, chain) != (last, last_chain) {
            return Err(WireError::BadValue {
                what: "last change of the snapshot",
                value: last.number,
            });
        }
        decoder.finish()?;
        let mut tree = tree.annotated(annotations);
        tree.formers = formers;
        let known = TreeState { tree, ids };
        let of = |kept: &RecentChange| {
            if let Change::Withdraw { of } = kept.entry.change { Some(of) } else { None }
        };
        let withdrawn = tail.iter().filter_map(of).collect();
        let id_order = in_order(&known);
        let mut state = Self {
            known,
            removed,
            base,
            base_chain,
            timelines,
            withdrawn,
            id_order,
            ..Self::default()
        };
        tail.into_iter().for_each(|kept| state.keep(kept));
        Ok(state)
    }
}

fn annotations(from: &mut Decoder<'_>) -> Result<Annotations, WireError> {
    let mut properties = Vec::new();
    for _ in 0..from.u64()? {
        let path = from.path()?;
        let of_path: Vec<Property> = all(from)?;
        properties.extend(of_path.into_iter().map(|property| (path.clone(), property)));
    }
    Ok(Annotations { properties, locks: all(from)?, hashes: all(from)? })
}

fn all<T: Wire>(from: &mut Decoder<'_>) -> Result<Vec<T>, WireError> {
    Capped::decode_capped(from, "", Uncapped)
}

#[cfg(test)]
mod tests {
    use super::super::linked_slave::{TreeCopy, TreeTransfer};
    use super::*;
    use crate::message_budget::ToSlave;
    use relais_proto::{
        ContentHashes, Digest, FileTime, LinkMessage, LockRequest, LockToken, Mode, PropertyChange,
        PropertyName, Sha256, limits,
    };
    use std::collections::HashMap;
    use std::sync::Arc;

    fn path(name: &str) -> TreePath {
        TreePath::new(name).unwrap()
    }

    fn put(name: &str, n: u8) -> Change {
        Change::Put {
            path: path(name),
            size: 3,
            digest: Digest([n; 32]),
            mtime: FileTime::default(),
            mode: Mode::new(0o755),
        }
    }

    fn log_entry(number: u64, change: Change) -> LogEntry {
        let id = ChangeId([u8::try_from(number).unwrap(); 16]);
        LogEntry { version: Lsn { epoch: 1, number }, id, time_ms: number * 10, change }
    }

    fn full() -> MasterState {
        let mut state = MasterState::new(HistoryHash([7; 32]));
        let withdraw = Change::Withdraw { of: Lsn { epoch: 1, number: 2 } };
        let changes = [
            put("a", 1),
            put("a", 2),
            withdraw,
            Change::MakeFolder { path: path("d"), mode: Mode::new(0o755) },
            put("d/x", 3),
            put("d/x", 4),
        ];
        let moved = Change::Move { from: path("d"), to: path("e") };
        let removed = Change::Remove { path: path("a"), recursive: false };
        for (number, change) in (1..).zip(changes.into_iter().chain([moved, removed])) {
            state.apply(log_entry(number, change));
        }
        state
    }

    #[test]
    fn what_comes_back_goes_on_as_the_ledger_that_it_was_made_of() {
        for shortened in [0, 3, 8] {
            let mut state = full();
            state.shorten(Lsn { epoch: 1, number: shortened });
            let bytes = state.to_bytes();
            let mut back = MasterState::from_bytes(&bytes).unwrap();
            assert!(
                back.tree().iter().eq(state.tree().iter())
                    && back.tree().puts().eq(state.tree().puts())
            );
            assert_eq!((back.last(), back.chain(), back.epoch()), (state.last(), state.chain(), 1));
            assert!(
                back.kept().eq(state.kept()) && back.reaches(Lsn { epoch: 1, number: shortened })
            );
            assert_eq!(back.reaches(Lsn::default()), shortened == 0);
            assert_eq!(back.number_of(ChangeId([5; 16])), Some(Lsn { epoch: 1, number: 5 }));
            assert_eq!(
                back.removed(&path("a"), Digest([1; 32])),
                Some(Lsn { epoch: 1, number: 8 })
            );
            // An unconfirmed put's replaced entry is restored where its content is now.
            let six = Lsn { epoch: 1, number: 6 };
            assert!(back.tree().can_withdraw(six) && back.tree().replaced(six));
            for state in [&mut state, &mut back] {
                state.apply(log_entry(9, Change::Withdraw { of: six }));
                let entry = state.tree().get(&path("e/x")).unwrap();
                assert_eq!(
                    (entry.version.number, entry.content.unwrap().digest),
                    (9, Digest([3; 32]))
                );
                assert!(!state.tree().can_withdraw(six));
            }
            assert_eq!(back.chain(), state.chain());
            back.forget_removed(u64::MAX);
            assert_eq!(back.removed(&path("a"), Digest([1; 32])), None);
        }
    }

    /// A file with more properties and hashes than fit into one message, and many locks.
    fn annotated() -> MasterState {
        let mut state = MasterState::new(HistoryHash([7; 32]));
        let (size, name) = (1 << 30, PropertyName { namespace: "n".into(), local: String::new() });
        let (digest, mtime, mode) = (Digest([1; 32]), FileTime::default(), Mode::new(0o755));
        let mut changes = Vec::new();
        for n in 0..8_u8 {
            let put = Lsn { epoch: 1, number: 1 + u64::from(n) * 4 };
            let path = path(&format!("f{n}"));
            let value = Some("v".repeat(30_000));
            let set = |local: &str| {
                let name = PropertyName { local: local.into(), ..name.clone() };
                let changes = vec![PropertyChange { name, value: value.clone() }];
                Change::SetProperties { path: path.clone(), changes }
            };
            let pieces = vec![Sha256([n; 32]); limits::SHA256_PIECES];
            let hashes =
                ContentHashes { sha256: Sha256([n; 32]), piece_size: limits::PIECE, pieces };
            let lock = LockRequest {
                token: LockToken([n; 16]),
                user: "ann".into(),
                owner: "o".repeat(limits::LOCK_OWNER),
                exclusive: true,
                deep: false,
                seconds: 60,
            };
            changes.push(Change::Put { path: path.clone(), size, digest, mtime, mode });
            changes.extend([set("a"), set("b")]);
            changes.push(match n {
                0..4 => Change::RecordSha256 { put, hashes },
                _ => Change::Lock { path, lock },
            });
        }
        (1..).zip(changes).for_each(|(number, change)| {
            state.apply(log_entry(number, change));
        });
        state
    }

    #[test]
    fn annotations_come_back_and_go_to_slaves() {
        let state = annotated();
        let all = state.tree().annotations();
        assert_eq!((all.properties.len(), all.locks.len(), all.hashes.len()), (16, 4, 4));
        let back = MasterState::from_bytes(&state.to_bytes()).unwrap();
        assert_eq!(back.tree().annotations(), all);
        let (mut transfer, mut received, mut pages) =
            (TreeTransfer::of(Arc::new(TreeCopy::of(&back))), Annotations::default(), 0);
        while let Some(page) = transfer.next() {
            let mut frame = Vec::new();
            LinkMessage::ToSlave(page.clone()).encode(&mut frame);
            assert!(frame.len() <= limits::CONTROL_FRAME as usize, "{} bytes", frame.len());
            let ToSlave::Page { annotations, .. } = page else { panic!() };
            received.append(annotations);
            pages += 1;
        }
        assert_eq!((received, pages > 8), (all, true));
        assert!(state.tail_bytes > 16 * 30_000 + 4 * limits::SHA256_PIECES * 32);
    }

    #[test]
    fn a_recovery_keeps_properties_and_hashes_but_no_locks() {
        let state = annotated();
        let Annotations { properties, hashes, .. } = state.tree().annotations();
        let recovered =
            MasterState::recovered(state.known, vec![], 2, HistoryHash([9; 32]), [5; 16]);
        let wanted = Annotations { properties, hashes, locks: Vec::new() };
        assert_eq!(recovered.tree().annotations(), wanted);
    }

    #[test]
    fn a_recovered_ledger_comes_back() {
        let known =
            TreeState { tree: Tree::listed([], Lsn { epoch: 1, number: 4 }), ids: HashMap::new() };
        let state = MasterState::recovered(known, vec![], 2, HistoryHash([9; 32]), [5; 16]);
        let back = MasterState::from_bytes(&state.to_bytes()).unwrap();
        assert_eq!(
            (back.last(), back.timelines(), back.chain()),
            (Lsn { epoch: 2, number: 0 }, state.timelines(), HistoryHash([9; 32]))
        );
        assert!(!back.reaches(Lsn { epoch: 1, number: 4 }));
    }

    #[test]
    fn bytes_that_are_cut_or_longer_are_refused() {
        let bytes = full().to_bytes();
        for cut in 0..bytes.len() {
            assert!(MasterState::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(MasterState::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        assert!(MasterState::from_bytes(&[9]).is_err());
    }

    #[test]
    fn ids_up_to_a_change_are_forgotten() {
        let mut state = full();
        assert_eq!(state.newest_before(31), Some(Lsn { epoch: 1, number: 3 }));
        assert_eq!(state.newest_before(10), None);
        state.forget_ids(Lsn { epoch: 1, number: 3 });
        assert_eq!(
            (
                state.number_of(ChangeId([3; 16])),
                state.number_of(ChangeId([4; 16])).map(|at| at.number)
            ),
            (None, Some(4))
        );
    }
}
