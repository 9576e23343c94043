//! Fair queue: round robin over groups, and over the members of each group.
//!
//! A member that queues many items delays only itself. All queues with fairness use it: changes by
//! user and session, logins by network and connection, hashing by user and session, and the
//! master's waiting proposals by link.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A queue of items of members of groups. Push and pop take constant time.
#[derive(Debug, Clone)]
pub struct FairQueue<G, M, T> {
    capacity: usize,
    len: usize,
    /// Groups with items, each once, in the order of service.
    round: VecDeque<G>,
    groups: HashMap<G, GroupQueue<M, T>>,
}

#[derive(Debug, Clone)]
struct GroupQueue<M, T> {
    len: usize,
    /// Members with items, each once, in the order of service.
    round: VecDeque<M>,
    members: HashMap<M, VecDeque<T>>,
}

impl<G: Clone + Eq + Hash, M: Clone + Eq + Hash, T> FairQueue<G, M, T> {
    /// Makes an empty queue for at most `capacity` items.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, len: 0, round: VecDeque::new(), groups: HashMap::new() }
    }

    /// Returns the number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the queue is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of items of one group.
    #[must_use]
    pub fn len_of(&self, group: &G) -> usize {
        self.groups.get(group).map_or(0, |group| group.len)
    }

    /// Appends an item to those of its member.
    ///
    /// # Errors
    /// Returns the item if the queue is full.
    pub fn push(&mut self, group: G, member: M, item: T) -> Result<(), T> {
        if self.len >= self.capacity {
            return Err(item);
        }
        let queue = self.groups.entry(group.clone()).or_insert_with(|| {
            self.round.push_back(group);
            GroupQueue { len: 0, round: VecDeque::new(), members: HashMap::new() }
        });
        let items = queue.members.entry(member.clone()).or_insert_with(|| {
            queue.round.push_back(member);
            VecDeque::new()
        });
        items.push_back(item);
        queue.len += 1;
        self.len += 1;
        Ok(())
    }

    /// Takes the oldest item of the next member in the next group.
    pub fn pop(&mut self) -> Option<(G, M, T)> {
        let group = self.round.pop_front()?;
        let queue = self.groups.get_mut(&group)?;
        let member = queue.round.pop_front()?;
        let items = queue.members.get_mut(&member)?;
        let item = items.pop_front()?;
        queue.len -= 1;
        self.len -= 1;
        if items.is_empty() {
            queue.members.remove(&member);
        } else {
            queue.round.push_back(member.clone());
        }
        if queue.len == 0 {
            self.groups.remove(&group);
        } else {
            self.round.push_back(group.clone());
        }
        Some((group, member, item))
    }

    /// Iterates over all items: by group and member in the order of service, and by age.
    pub fn iter(&self) -> impl Iterator<Item = (&G, &M, &T)> {
        self.round.iter().filter_map(|group| Some((group, self.groups.get(group)?))).flat_map(
            |(group, queue)| {
                queue
                    .round
                    .iter()
                    .filter_map(|member| Some((member, queue.members.get(member)?)))
                    .flat_map(move |(member, items)| {
                        items.iter().map(move |item| (group, member, item))
                    })
            },
        )
    }

    /// Drops the items that `keep` rejects, in the order of [`Self::iter`]. The order of service
    /// stays.
    pub fn retain(&mut self, mut keep: impl FnMut(&G, &M, &mut T) -> bool) {
        let Self { round, groups, len, .. } = self;
        round.retain(|group| {
            let Some(queue) = groups.get_mut(group) else { return false };
            let GroupQueue { round, members, len: of_group } = queue;
            round.retain(|member| {
                let Some(items) = members.get_mut(member) else { return false };
                let before = items.len();
                items.retain_mut(|item| keep(group, member, item));
                *of_group -= before - items.len();
                *len -= before - items.len();
                let is_empty = items.is_empty();
                if is_empty {
                    members.remove(member);
                }
                !is_empty
            });
            if *of_group == 0 {
                groups.remove(group);
                return false;
            }
            true
        });
    }

    /// Returns the number of items of the largest group.
    #[must_use]
    pub fn largest(&self) -> Option<usize> {
        self.groups.values().map(|group| group.len).max()
    }

    /// Takes the newest item of the largest member in the largest group.
    pub fn take_from_largest(&mut self) -> Option<T> {
        let group =
            self.round.iter().max_by_key(|group| self.groups.get(group).map(|g| g.len))?.clone();
        let queue = self.groups.get_mut(&group)?;
        let member = queue
            .round
            .iter()
            .max_by_key(|member| queue.members.get(member).map(VecDeque::len))?
            .clone();
        let items = queue.members.get_mut(&member)?;
        let item = items.pop_back()?;
        queue.len -= 1;
        self.len -= 1;
        if items.is_empty() {
            queue.members.remove(&member);
            queue.round.retain(|other| *other != member);
        }
        if queue.len == 0 {
            self.groups.remove(&group);
            self.round.retain(|other| *other != group);
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queue(items: &[(char, u8, u8)]) -> FairQueue<char, u8, u8> {
        let mut queue = FairQueue::new(1000);
        for (group, member, item) in items {
            queue.push(*group, *member, *item).unwrap();
        }
        queue
    }

    fn drained(mut queue: FairQueue<char, u8, u8>) -> Vec<(char, u8, u8)> {
        let all = std::iter::from_fn(|| queue.pop()).collect();
        assert!(queue.is_empty() && queue.groups.is_empty() && queue.round.is_empty());
        all
    }

    #[test]
    fn groups_take_turns_and_in_each_its_members() {
        let all = [
            ('a', 1, 0),
            ('a', 1, 1),
            ('a', 1, 2),
            ('a', 2, 0),
            ('b', 1, 0),
            ('b', 1, 1),
            ('a', 3, 0),
        ];
        let order = drained(queue(&all));
        assert_eq!(
            order,
            [
                ('a', 1, 0),
                ('b', 1, 0),
                ('a', 2, 0),
                ('b', 1, 1),
                ('a', 3, 0),
                ('a', 1, 1),
                ('a', 1, 2)
            ]
        );
    }

    #[test]
    fn a_newcomer_waits_for_one_item_of_each_group() {
        let mut queue = FairQueue::new(100_000);
        for session in 0..100_u32 {
            (0..100).for_each(|n| queue.push("flood", session, n).unwrap());
        }
        for _ in 0..5 {
            queue.pop();
        }
        queue.push("other", 0, 0).unwrap();
        let at = std::iter::from_fn(|| queue.pop()).position(|(group, ..)| group == "other");
        assert_eq!(at, Some(1));
    }

    #[test]
    fn a_full_queue_takes_nothing_more_and_gives_up_the_largest() {
        let mut queue = FairQueue::new(4);
        for (group, member) in [('a', 1), ('b', 1), ('b', 2), ('b', 2)] {
            queue.push(group, member, (group, member)).unwrap();
        }
        assert_eq!(queue.push('c', 1, ('c', 1)), Err(('c', 1)));
        assert_eq!(queue.take_from_largest(), Some(('b', 2)));
        queue.push('c', 1, ('c', 1)).unwrap();
        assert_eq!((queue.len(), queue.len_of(&'b'), queue.len_of(&'x')), (4, 2, 0));
        while queue.take_from_largest().is_some() {}
        assert!(queue.is_empty() && queue.groups.is_empty() && queue.round.is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_made_up_and_each_member_keeps_its_order(
            items in prop::collection::vec((0..4_u8, 0..4_u8), 0..60),
            dropped in 0..5_u8,
        ) {
            let mut queue = FairQueue::new(100);
            for (n, (group, member)) in items.iter().enumerate() {
                queue.push(*group, *member, n).unwrap();
            }
            queue.retain(|group, _, _| *group != dropped);
            let kept = items.iter().filter(|(group, _)| *group != dropped).count();
            prop_assert_eq!(queue.len(), kept);
            prop_assert_eq!(queue.iter().count(), kept);
            let all: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
            prop_assert_eq!(all.len(), kept);
            prop_assert!(queue.groups.is_empty() && queue.round.is_empty());
            for group in 0..4 {
                for member in 0..4 {
                    let of: Vec<usize> = all
                        .iter()
                        .filter(|(g, m, _)| (*g, *m) == (group, member))
                        .map(|(.., n)| *n)
                        .collect();
                    prop_assert!(of.is_sorted());
                }
            }
            // No group is served twice in a row while other groups wait.
            for two in all.windows(2) {
                let others_wait = all.iter().any(|(group, ..)| *group != two[0].0);
                let last_of_others = all.iter().rposition(|(g, ..)| *g != two[0].0);
                let at = all.iter().position(|x| *x == two[0]).unwrap();
                prop_assert!(
                    two[0].0 != two[1].0 || !others_wait || last_of_others.unwrap() < at + 1
                );
            }
        }
    }
}
