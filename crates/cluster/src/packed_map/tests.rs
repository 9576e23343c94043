//! The map behaves as a `BTreeMap`, whatever is inserted and removed, and is small.

use std::collections::BTreeMap;

use proptest::prelude::*;
use relais_proto::{Digest, FileContent, FileTime, Lsn, Mode, TreeEntry, TreePath};

use super::*;

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn file(n: u64, put: u64) -> TreeEntry {
    let mtime = FileTime { seconds: i64::try_from(n).unwrap() - 500, nanos: 999_999_999 };
    let version = Lsn { epoch: 1, number: n };
    let put = Lsn { epoch: 1, number: put };
    let content = FileContent { put, digest: Digest([7; 32]), size: n << 40, mtime };
    TreeEntry { version, mode: Mode::new(0o644), content: Some(content) }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(TreePath, TreeEntry),
    Remove(TreePath),
}

fn name() -> impl Strategy<Value = TreePath> {
    // Few names, so that entries are replaced and removed; some share parts of a character.
    "[ab]{1,3}(/[aäöb-]{1,2}){0,2}".prop_map(|text| path(&text))
}

fn step() -> impl Strategy<Value = Step> {
    let entry = (any::<u16>(), any::<bool>()).prop_map(|(n, is_unchanged)| {
        let n = u64::from(n) + 1;
        file(n, if is_unchanged { n } else { n - 1 })
    });
    prop_oneof![
        3 => (name(), entry).prop_map(|(path, entry)| Step::Insert(path, entry)),
        2 => name().prop_map(Step::Remove),
    ]
}

proptest! {
    #[test]
    fn behaves_as_an_ordinary_map(steps in prop::collection::vec(step(), 0..600), probe in name()) {
        let (mut packed, mut plain) = (PackedMap::default(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Insert(path, entry) => {
                    prop_assert_eq!(packed.insert(&path, &entry), plain.insert(path, entry));
                }
                Step::Remove(path) => prop_assert_eq!(packed.remove(&path), plain.remove(&path)),
            }
            prop_assert_eq!(packed.len(), plain.len());
        }
        let all: Vec<_> = plain.clone().into_iter().collect();
        prop_assert_eq!(packed.iter().len(), all.len());
        prop_assert_eq!(packed.iter().collect::<Vec<_>>(), all);
        prop_assert_eq!(packed.get(&probe), plain.get(&probe).copied());
        prop_assert_eq!(packed.contains_key(&probe), plain.contains_key(&probe));
        let above = (std::ops::Bound::Excluded(probe.clone()), std::ops::Bound::Unbounded);
        let above = plain.range(above).map(|(path, entry)| (path.clone(), *entry));
        let above: Vec<_> = above.collect();
        prop_assert_eq!(packed.after(&probe).collect::<Vec<_>>(), above);
        prop_assert_eq!(packed, plain.into_iter().collect());
    }

    #[test]
    fn numbers_of_changes_are_keys(
        numbers in prop::collection::btree_set((0..3_u32, 0..400_u64), 0..300),
    ) {
        let keys: Vec<Lsn> =
            numbers.into_iter().map(|(epoch, number)| Lsn { epoch, number }).collect();
        let mut map = PackedMap::default();
        for key in keys.iter().rev() {
            prop_assert_eq!(map.insert(key, &()), None);
        }
        prop_assert_eq!(map.iter().map(|(key, ())| key).collect::<Vec<_>>(), keys.clone());
        for key in keys {
            prop_assert_eq!(map.remove(&key), Some(()));
        }
        prop_assert!(map.is_empty() && map.iter().next().is_none());
    }
}

#[test]
fn extreme_values_are_kept() {
    let times = [i64::MIN, -1, 0, i64::MAX];
    let entries = times.map(|seconds| {
        let mtime = FileTime { seconds, nanos: 0 };
        let put = Lsn { epoch: u32::MAX, number: u64::MAX };
        let content = FileContent { put, digest: Digest([255; 32]), size: u64::MAX, mtime };
        TreeEntry { version: Lsn::default(), mode: Mode::new(0o777), content: Some(content) }
    });
    let long = "é".repeat(120);
    let mut map = PackedMap::default();
    for (n, entry) in entries.iter().enumerate() {
        map.insert(&path(&format!("{long}/{n}")), entry);
    }
    map.insert(&TreePath::root(), &TreeEntry { content: None, ..entries[0] });
    let found: Vec<_> = map.iter().skip(1).map(|(_, entry)| entry).collect();
    assert_eq!(found, entries);
    assert!(map.get(&TreePath::root()).is_some_and(|entry| entry.content.is_none()));
}

#[test]
fn keys_in_order_fill_their_blocks() {
    let map: PackedMap<TreePath, TreeEntry> =
        (0..10_000).map(|n| (path(&format!("folder/file-{n:06}")), file(n + 1, n + 1))).collect();
    let sizes: Vec<_> = map.blocks.values().map(Block::size).collect();
    let (last, full) = sizes.split_last().unwrap();
    assert!(
        full.iter().all(|size| (MOST - 64..=MOST).contains(size)) && *last <= MOST,
        "{sizes:?}"
    );
    let mut half = map.clone();
    for (key, _) in map.iter().step_by(2) {
        half.remove(&key);
    }
    assert_eq!((map.len(), half.len()), (10_000, 5_000), "clones are independent");
    for (key, _) in half.clone().iter().skip(100) {
        half.remove(&key);
    }
    assert!(half.blocks.len() < 20, "small blocks are joined: {}", half.blocks.len());
}
