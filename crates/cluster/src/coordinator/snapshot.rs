//! Encodes the master's state as a snapshot, which replaces the changes before it.
//!
//! Counts have eight bytes; all other fields are encoded as in the protocol. The first byte is the
//! version of the layout.

use std::collections::{BTreeMap, HashMap};

use relais_proto::{Change, ChangeId, Decoder, Encoder, LogEntry, Lsn, TreeEntry, Wire, WireError};

use super::master_state::{MasterState, RecentChange, in_order};
use super::removal_records::{RemovalKey, RemovalRecord, RemovalRecords};
use crate::history_hash::{self, HistoryHash};
use crate::timeline::Timeline;
use crate::tree::{Tree, TreeState};

const LAYOUT: u8 = 2;

impl MasterState {
    /// Encodes the state.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let to = &mut Encoder::new(&mut bytes);
        self.last().encode(to.u8(LAYOUT));
        self.chain().encode(to);
        self.base.encode(to);
        self.base_chain.encode(to);
        count(self.timelines.len(), to);
        self.timelines.iter().for_each(|timeline| timeline.encode(to));
        count(self.known.tree.len(), to);
        self.known.tree.iter().for_each(|(path, entry)| entry.encode(to.path(path)));
        count(self.formers.len(), to);
        for (put, former) in &self.formers {
            put.encode(to);
            to.option(former.as_ref(), TreeEntry::encode);
        }
        count(self.known.ids.len(), to);
        for (id, version) in &self.known.ids {
            id.encode(to);
            version.encode(to);
        }
        count(self.removed.len(), to);
        for (account, removal) in self.removed.iter() {
            to.u32(account).bytes(&removal.key.0).u64(removal.time_ms);
            removal.version.encode(to);
        }
        count(self.tail.len(), to);
        for kept in &self.tail {
            kept.entry.encode(to);
            count(kept.restored.len(), to);
            for (path, entry) in &kept.restored {
                to.path(path).option(entry.as_ref(), TreeEntry::encode);
            }
        }
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
        let (last, last_chain) = (Lsn::decode(from)?, HistoryHash::decode(from)?);
        let (base, base_chain) = (Lsn::decode(from)?, HistoryHash::decode(from)?);
        let timelines = many(from, Timeline::decode)?;
        let entries = many(from, |from| Ok((from.path()?, TreeEntry::decode(from)?)))?;
        let formers: BTreeMap<_, _> =
            many(from, |from| Ok((Lsn::decode(from)?, from.option()?)))?.into_iter().collect();
        let ids: HashMap<_, _> =
            many(from, |from| Ok((ChangeId::decode(from)?, Lsn::decode(from)?)))?
                .into_iter()
                .collect();
        let mut removed = RemovalRecords::default();
        for () in many(from, |from| {
            let (account, key) = (from.u32()?, RemovalKey(from.array()?));
            let time_ms = from.u64()?;
            removed.add(account, RemovalRecord { key, version: Lsn::decode(from)?, time_ms });
            Ok(())
        })? {}
        let (mut at, mut chain) = (base, base_chain);
        let tail = many(from, |from| {
            let log_entry = LogEntry::decode(from)?;
            if log_entry.version <= at {
                return Err(WireError::BadValue {
                    what: "number of a kept change",
                    value: log_entry.version.number,
                });
            }
            (at, chain) = (log_entry.version, history_hash::next(chain, &log_entry));
            let restored = many(from, |from| Ok((from.path()?, from.option()?)))?;
            Ok(RecentChange { entry: log_entry, restored, chain })
        })?;
        if (at, chain) != (last, last_chain) {
            return Err(WireError::BadValue {
                what: "last change of the snapshot",
                value: last.number,
            });
        }
        decoder.finish()?;
        let known = TreeState { tree: Tree::listed(entries, last), ids };
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
            formers,
            withdrawn,
            id_order,
            ..Self::default()
        };
        tail.into_iter().for_each(|kept| state.keep(kept));
        Ok(state)
    }
}

/// Appends a count of values.
pub(crate) fn count(len: usize, to: &mut Encoder<'_>) {
    to.u64(len as u64);
}

/// Decodes as many values as the count says. Memory grows with the values, not with the count.
pub(crate) fn many<T>(
    from: &mut Decoder<'_>,
    mut each: impl FnMut(&mut Decoder<'_>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let count = from.u64()?;
    let mut values = Vec::new();
    for _ in 0..count {
        values.push(each(from)?);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_proto::{Change, Digest, FileTime, Mode, TreePath};

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
            assert!(back.can_withdraw(six) && back.replaced(six));
            for state in [&mut state, &mut back] {
                state.apply(log_entry(9, Change::Withdraw { of: six }));
                let entry = state.tree().get(&path("e/x")).unwrap();
                assert_eq!(
                    (entry.version.number, entry.content.unwrap().digest),
                    (9, Digest([3; 32]))
                );
                assert!(!state.can_withdraw(six));
            }
            assert_eq!(back.chain(), state.chain());
            back.forget_removed(u64::MAX);
            assert_eq!(back.removed(&path("a"), Digest([1; 32])), None);
        }
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
