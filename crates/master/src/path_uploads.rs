//! Which slave has each unfinished upload by path, so that no other one joins it to other content.
//!
//! A key belongs to the slave that reported it last. A slave that had it before has to discard
//! its part until it says that this part has ended. The table is in memory only: the slaves report
//! all their keys on each new link.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use log::warn;
use relais_proto::{FolderId, SlaveId, UploadKeys, limits};

type Key = [u8; 16];

/// A slave and the folder that it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportingSlave {
    pub slave: SlaveId,
    pub folder: FolderId,
}

#[derive(Debug)]
struct UploadHolder {
    /// The slave that reported it last.
    last: ReportingSlave,
    /// Whether the upload of that slave has ended.
    has_ended: bool,
    /// Slaves of other folders that have an older part.
    former: Vec<ReportingSlave>,
}

/// The unfinished uploads by path of all slaves.
#[derive(Debug, Default)]
pub struct PathUploads {
    holders: HashMap<Key, UploadHolder>,
    /// When each slave that has no link lost it.
    left: BTreeMap<SlaveId, Instant>,
    /// The keys that slaves with a new link have listed so far.
    lists: BTreeMap<SlaveId, HashSet<Key>>,
}

/// Whether an upload is pending elsewhere now, for some slaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadNews {
    /// For this slave.
    For(SlaveId, Key, bool),
    /// For the slaves of all folders but this one.
    Beside(FolderId, Key, bool),
}

impl UploadNews {
    /// Returns the key, and whether it is pending, if this concerns a slave.
    fn for_slave(self, to: ReportingSlave) -> Option<(Key, bool)> {
        let (concerned, key, pending) = match self {
            Self::For(slave, key, pending) => (slave == to.slave, key, pending),
            Self::Beside(folder, key, pending) => (folder != to.folder, key, pending),
        };
        concerned.then_some((key, pending))
    }
}

/// Returns the messages with what concerns a slave.
pub fn messages_for(to: ReportingSlave, news: &[UploadNews]) -> Vec<UploadKeys> {
    let mut messages = Vec::new();
    for part in news.chunks(limits::UPLOAD_KEYS) {
        let mut message = UploadKeys::default();
        for (key, pending) in part.iter().filter_map(|news| news.for_slave(to)) {
            if pending { message.pending.push(key) } else { message.ended.push(key) }
        }
        if message != UploadKeys::default() {
            messages.push(message);
        }
    }
    messages
}

/// Returns the messages with all keys, the last of which completes the list.
pub fn list_messages(keys: &[Key]) -> Vec<UploadKeys> {
    let page = |keys: &[Key]| UploadKeys { all: true, pending: keys.to_vec(), ended: Vec::new() };
    keys.chunks(limits::UPLOAD_KEYS).map(page).chain([UploadKeys::default()]).collect()
}

impl PathUploads {
    /// Records the link of a slave; returns the keys that are pending on other folders.
    pub fn linked(&mut self, from: ReportingSlave, now: Instant) -> Vec<Key> {
        self.left.remove(&from.slave);
        self.lists.insert(from.slave, HashSet::new());
        self.forget_old(now);
        let others = self
            .holders
            .iter()
            .filter(|(_, holder)| !holder.has_ended && holder.last.folder != from.folder);
        others.map(|(key, _)| *key).collect()
    }

    /// Records the end of a slave's link. Its uploads stay where they are.
    pub fn unlinked(&mut self, slave: SlaveId, now: Instant) {
        self.left.insert(slave, now);
    }

    /// Drops what slaves had that are gone for so long that they have discarded it.
    fn forget_old(&mut self, now: Instant) {
        let old = |slave: &SlaveId| {
            self.left.get(slave).is_some_and(|left| *left + limits::STAGED_TIME <= now)
        };
        self.holders.retain(|_, holder| {
            holder.has_ended |= old(&holder.last.slave);
            holder.former.retain(|former| !old(&former.slave));
            !holder.has_ended || !holder.former.is_empty()
        });
        self.left.retain(|_, left| *left + limits::STAGED_TIME > now);
    }

    /// Handles the report of a slave; returns what other slaves or this one have to know.
    pub fn report(&mut self, from: ReportingSlave, keys: &UploadKeys) -> Vec<UploadNews> {
        let mut news = Vec::new();
        if keys.all {
            let list = self.lists.entry(from.slave).or_default();
            list.extend(keys.pending.iter().take(limits::PATH_UPLOADS.saturating_sub(list.len())));
        } else if let Some(list) = self.lists.remove(&from.slave) {
            // The list is complete.
            let of_slave =
                |holder: &UploadHolder| holder.last == from || holder.former.contains(&from);
            let known = self.holders.iter().filter(|(_, holder)| of_slave(holder));
            let gone: Vec<Key> =
                known.map(|(key, _)| *key).filter(|key| !list.contains(key)).collect();
            gone.iter().for_each(|key| self.end(from, *key, &mut news));
        }
        keys.ended.iter().for_each(|key| self.end(from, *key, &mut news));
        keys.pending.iter().for_each(|key| self.begin(from, *key, keys.all, &mut news));
        news
    }

    fn begin(&mut self, from: ReportingSlave, key: Key, is_old: bool, news: &mut Vec<UploadNews>) {
        let count = self.holders.len();
        let Some(holder) = self.holders.get_mut(&key) else {
            if count >= limits::PATH_UPLOADS {
                return warn!(
                    "more than {count} unfinished uploads: one is known to its slave only"
                );
            }
            let holder = UploadHolder { last: from, has_ended: false, former: Vec::new() };
            self.holders.insert(key, holder);
            return news.push(UploadNews::Beside(from.folder, key, true));
        };
        if holder.last.folder == from.folder {
            let is_new = std::mem::replace(&mut holder.has_ended, false);
            holder.last = from;
            if is_new {
                news.push(UploadNews::Beside(from.folder, key, true));
            }
            return;
        }
        if is_old {
            // The slave had no link when the upload began on another one.
            if !holder.former.contains(&from) {
                holder.former.push(from);
            }
            return news.push(UploadNews::For(from.slave, key, true));
        }
        let before = std::mem::replace(&mut holder.last, from);
        holder.former.retain(|former| *former != from);
        if !std::mem::replace(&mut holder.has_ended, false) {
            holder.former.push(before);
        }
        news.push(UploadNews::Beside(from.folder, key, true));
        news.push(UploadNews::For(from.slave, key, false));
    }

    fn end(&mut self, from: ReportingSlave, key: Key, news: &mut Vec<UploadNews>) {
        let Some(holder) = self.holders.get_mut(&key) else { return };
        let was_former = holder.former.contains(&from);
        holder.former.retain(|former| *former != from);
        if holder.last == from && !std::mem::replace(&mut holder.has_ended, true) {
            news.push(UploadNews::Beside(from.folder, key, false));
        } else if was_former && holder.has_ended {
            // It has heard that the upload is pending elsewhere, so that it discards its part.
            news.push(UploadNews::For(from.slave, key, false));
        }
        if holder.has_ended && holder.former.is_empty() {
            self.holders.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = [7; 16];

    fn slave(n: u8) -> ReportingSlave {
        ReportingSlave { slave: SlaveId([n; 16]), folder: FolderId([n; 16]) }
    }

    fn keys(all: bool, pending: &[Key], ended: &[Key]) -> UploadKeys {
        UploadKeys { all, pending: pending.to_vec(), ended: ended.to_vec() }
    }

    fn beside(n: u8, pending: bool) -> UploadNews {
        UploadNews::Beside(slave(n).folder, KEY, pending)
    }

    fn news_of(n: u8, pending: bool) -> UploadNews {
        UploadNews::For(slave(n).slave, KEY, pending)
    }

    /// Three slaves whose links are new.
    fn uploads() -> (PathUploads, Instant) {
        let (mut uploads, now) = (PathUploads::default(), Instant::now());
        for n in 1..=3 {
            assert!(uploads.linked(slave(n), now).is_empty());
            assert!(uploads.report(slave(n), &keys(false, &[], &[])).is_empty());
        }
        (uploads, now)
    }

    #[test]
    fn begin_and_end_are_told_to_other_folders() {
        let (mut uploads, now) = uploads();
        assert_eq!(uploads.report(slave(1), &keys(false, &[KEY], &[])), [beside(1, true)]);
        assert!(uploads.report(slave(2), &keys(false, &[], &[KEY])).is_empty(), "not its own");
        assert_eq!(uploads.linked(slave(3), now), [KEY]);
        let same_folder = ReportingSlave { slave: SlaveId([9; 16]), ..slave(1) };
        assert!(uploads.linked(same_folder, now).is_empty());
        assert_eq!(uploads.report(slave(1), &keys(false, &[], &[KEY])), [beside(1, false)]);
        assert!(uploads.holders.is_empty());
    }

    #[test]
    fn newer_upload_takes_the_key_over() {
        let (mut uploads, _) = uploads();
        uploads.report(slave(1), &keys(false, &[KEY], &[]));
        let news = uploads.report(slave(2), &keys(false, &[KEY], &[]));
        assert_eq!(news, [beside(2, true), news_of(2, false)]);
        assert!(uploads.report(slave(1), &keys(false, &[], &[KEY])).is_empty(), "it is discarded");
        assert_eq!(uploads.report(slave(2), &keys(false, &[], &[KEY])), [beside(2, false)]);
        assert!(uploads.holders.is_empty());
    }

    #[test]
    fn slave_without_link_is_told_later_that_its_part_is_old() {
        let (mut uploads, now) = uploads();
        uploads.report(slave(1), &keys(false, &[KEY], &[]));
        uploads.unlinked(slave(1).slave, now);
        assert_eq!(uploads.linked(slave(3), now), [KEY], "its part is known without its link");
        uploads.report(slave(2), &keys(false, &[KEY], &[]));
        uploads.report(slave(2), &keys(false, &[], &[KEY]));
        assert!(uploads.linked(slave(1), now).is_empty());
        assert_eq!(uploads.report(slave(1), &keys(true, &[KEY], &[])), [news_of(1, true)]);
        assert!(uploads.report(slave(1), &keys(false, &[], &[])).is_empty());
        assert_eq!(uploads.report(slave(1), &keys(false, &[], &[KEY])), [news_of(1, false)]);
        assert!(uploads.holders.is_empty());
    }

    #[test]
    fn list_of_a_new_link_replaces_what_was_known() {
        let (mut uploads, now) = uploads();
        uploads.report(slave(1), &keys(false, &[KEY, [8; 16]], &[]));
        uploads.linked(slave(1), now);
        assert!(uploads.report(slave(1), &keys(true, &[[8; 16]], &[])).is_empty());
        assert_eq!(uploads.report(slave(1), &keys(false, &[], &[])), [beside(1, false)]);
        // A slave that is gone for a day has discarded its uploads.
        uploads.unlinked(slave(1).slave, now);
        let later = now + limits::STAGED_TIME;
        assert!(uploads.linked(slave(3), later).is_empty());
        assert!(uploads.holders.is_empty() && uploads.left.is_empty());
    }

    #[test]
    fn known_uploads_are_limited() {
        let (mut uploads, _) = uploads();
        let key = |n: usize| {
            let mut key = [0; 16];
            key[8..].copy_from_slice(&n.to_be_bytes());
            key
        };
        for n in 0..limits::PATH_UPLOADS {
            uploads.report(slave(1), &keys(false, &[key(n)], &[]));
        }
        assert!(uploads.report(slave(2), &keys(false, &[KEY], &[])).is_empty());
        assert_eq!(uploads.holders.len(), limits::PATH_UPLOADS);
    }

    #[test]
    fn messages_have_few_keys_and_a_list_has_an_end() {
        let all: Vec<Key> = (0..=255_u8).flat_map(|n| [[n; 16], [n.wrapping_add(1); 16]]).collect();
        let list = list_messages(&all);
        assert_eq!(list.iter().map(|page| page.all).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!(list_messages(&[]), [UploadKeys::default()]);
        let news: Vec<_> =
            all.iter().map(|key| UploadNews::Beside(slave(1).folder, *key, true)).collect();
        assert!(messages_for(slave(1), &news).is_empty());
        let messages = messages_for(slave(2), &news);
        assert_eq!(messages.iter().map(|keys| keys.pending.len()).sum::<usize>(), all.len());
    }
}
