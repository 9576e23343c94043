//! Plans for small and random trees: applied, they make the target equal to the source.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;
use relais_proto::{FileTime, Kind, TreePath};

use super::{BlockedNode, Compare, Plan, PlanOptions, files_of_equal_size, plan};
use crate::Failure;
use crate::recursive::node::{Node, SkipReason, SkippedName, TreeListing};

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn node(path: TreePath, content: Option<u64>) -> Node {
    let kind = if content.is_some() { Kind::File } else { Kind::Folder };
    let mtime =
        FileTime { seconds: 100 + i64::try_from(content.unwrap_or(0) / 8).unwrap(), nanos: 5 };
    Node { path, kind, size: content.unwrap_or(0) % 8, mtime }
}

/// Builds a listing. Names with a final `/` are folders, the others are `name=content`.
///
/// The content determines size and time.
fn listing(names: &[&str]) -> TreeListing {
    let nodes = names.iter().map(|name| match name.split_once('=') {
        Some((name, content)) => node(path(name), Some(content.parse().unwrap())),
        None => node(path(name.strip_suffix('/').unwrap()), None),
    });
    let mut listing = TreeListing { nodes: nodes.collect(), ..TreeListing::default() };
    listing.sort();
    listing
}

fn keeping(names: &[&str], skipped: &[(&str, &str, SkipReason)]) -> TreeListing {
    TreeListing {
        skipped: skipped
            .iter()
            .map(|(folder, name, reason)| SkippedName::new(&path(folder), *name, *reason))
            .collect(),
        ..listing(names)
    }
}

const MIRROR: PlanOptions<'static> =
    PlanOptions { compare: Compare::Time, delete: true, over_links: false };

/// Formats the steps of a plan, one line each, in order.
fn lines(source: &TreeListing, target: &TreeListing, options: &PlanOptions<'_>) -> Vec<String> {
    let Plan { first, delete, late, blocked, spared, present: _ } = plan(source, target, options);
    let mut lines = Vec::new();
    for (what, picks, nodes) in [
        ("make", first.make, &source.nodes),
        ("send", first.send, &source.nodes),
        ("delete", delete, &target.nodes),
        ("late make", late.make, &source.nodes),
        ("late send", late.send, &source.nodes),
    ] {
        lines.extend(picks.iter().map(|at| format!("{what} {}", nodes[*at].path.as_str())));
    }
    lines.extend(blocked.iter().map(|BlockedNode { node, by, below }| {
        format!("blocked {}: {by} +{below}", source.nodes[*node].path.as_str())
    }));
    lines.extend(
        spared
            .iter()
            .map(|(at, what)| format!("spared {}: {what}", target.nodes[*at].path.as_str())),
    );
    lines
}

#[test]
fn plan_transfers_differences_and_removes_extras() {
    let (source, target) = (
        listing(&["a=1", "b=2", "d/", "d/x=3", "e/", "e-x=1"]),
        listing(&["a=1", "b=3", "d/", "d/y=1", "old/", "old/z=1"]),
    );
    assert_eq!(
        lines(&source, &target, &MIRROR),
        ["make e", "send b", "send d/x", "send e-x", "delete old/z", "delete old", "delete d/y"]
    );
    let adding = PlanOptions { delete: false, ..MIRROR };
    assert_eq!(lines(&source, &target, &adding), ["make e", "send b", "send d/x", "send e-x"]);
    let all = PlanOptions { compare: Compare::Never, ..adding };
    assert_eq!(
        lines(&source, &target, &all),
        ["make e", "send a", "send b", "send d/x", "send e-x"]
    );
    assert_eq!(lines(&source, &source, &MIRROR), [""; 0]);
}

#[test]
fn other_kind_is_replaced_last_or_reported() {
    let (source, target) =
        (listing(&["x/", "x/in=1", "y=1", "z=1"]), listing(&["x=1", "y/", "y/in/", "y/in/f=1"]));
    assert_eq!(
        lines(&source, &target, &MIRROR),
        [
            "send z",
            "delete y/in/f",
            "delete y/in",
            "delete y",
            "delete x",
            "late make x",
            "late send x/in",
            "late send y"
        ]
    );
    assert_eq!(
        lines(&source, &target, &PlanOptions { delete: false, ..MIRROR }),
        ["send z", "blocked x: a file has that name +1", "blocked y: a folder has that name +0"]
    );
}

#[test]
fn skipped_names_and_their_folders_are_untouched() {
    let source = listing(&["link=1", "gone/", "gone/f=1"]);
    let skipped = [
        ("", "link", SkipReason::Link),
        ("", ".log", SkipReason::Reserved),
        ("old/deep", "fifo", SkipReason::Special),
        ("", "gone", SkipReason::Link),
    ];
    let target = keeping(&["old/", "old/deep/", "old/f=1", "old/other/"], &skipped);
    let held = "old/deep/fifo, a device, FIFO or socket";
    assert_eq!(
        lines(&source, &target, &MIRROR),
        [
            "delete old/other".to_owned(),
            "delete old/f".to_owned(),
            "blocked gone: a symbolic link has that name +1".to_owned(),
            "blocked link: a symbolic link has that name +0".to_owned(),
            format!("spared old: {held}"),
            format!("spared old/deep: {held}"),
        ]
    );
    let over = PlanOptions { over_links: true, ..MIRROR };
    assert!(lines(&source, &target, &over).contains(&"send link".to_owned()));
    assert!(
        lines(&source, &target, &over)
            .contains(&"blocked gone: a symbolic link has that name +1".to_owned())
    );
    let replaced = keeping(&["link/", "link/in/"], &[("link/in", "l", SkipReason::Link)]);
    assert_eq!(
        lines(&source, &replaced, &MIRROR)[2..],
        [
            "blocked link: a folder has that name and cannot be removed: \
             it contains link/in/l, a symbolic link +0",
            "spared link/in: link/in/l, a symbolic link"
        ]
    );
}

#[test]
fn names_skipped_in_source_are_not_removed() {
    let source =
        keeping(&["d/"], &[("", "link", SkipReason::Link), ("d", "mount", SkipReason::Mount)]);
    let target = listing(&["link=1", "d/", "d/mount/", "d/mount/f=1", "d/mounted=1", "x=1"]);
    assert_eq!(lines(&source, &target, &MIRROR), ["delete x", "delete d/mounted"]);
}

#[test]
fn incomplete_listing_removes_nothing() {
    let mut source = listing(&["d/", "y=1"]);
    source.failed.push((path("d"), Failure::interrupted()));
    let target = listing(&["d/", "d/f=1", "x=1", "y/"]);
    assert_eq!(lines(&source, &target, &MIRROR), ["blocked y: a folder has that name +0"]);
}

#[test]
fn digests_decide_with_checksum() {
    let (source, mut target) =
        (listing(&["a=1", "b=1", "c=1", "d=1"]), listing(&["a=1", "b=1", "c=2", "d/"]));
    target.nodes[0].mtime.seconds += 7;
    let files = files_of_equal_size(&source, &target);
    assert_eq!(files.iter().map(|node| node.path.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let equal = HashSet::from([path("a"), path("c")]);
    let options =
        PlanOptions { compare: Compare::Digests(&equal), delete: false, over_links: false };
    assert_eq!(
        lines(&source, &target, &options),
        ["send b", "send c", "blocked d: a folder has that name +0"]
    );
}

#[test]
fn whole_second_times_count_as_equal() {
    let (source, mut target) = (listing(&["a=1", "b=1"]), listing(&["a=1", "b=1"]));
    target.nodes[0].mtime.nanos = 0;
    target.nodes[1].mtime.nanos = 6;
    assert_eq!(lines(&source, &target, &MIRROR), ["send b"]);
}

/// A model tree: the content of files, none for folders.
type Model = BTreeMap<TreePath, Option<u64>>;

fn parent(path: &TreePath) -> TreePath {
    path.split_last().unwrap().0
}

/// Generates trees of few names, so that both sides share many of them.
fn tree() -> impl Strategy<Value = Model> {
    let name = prop_oneof![Just("a"), Just("b"), Just("a-"), Just("c")];
    let entry = (prop::collection::vec(name, 1..4), prop::option::weighted(0.6, 0..24_u64));
    prop::collection::vec(entry, 0..24).prop_map(|entries| {
        let mut model = Model::new();
        for (parts, content) in entries {
            let full = path(&parts.join("/"));
            let mut above = parent(&full);
            let mut fits = !model.contains_key(&full);
            let mut missing = Vec::new();
            while !above.is_root() {
                match model.get(&above) {
                    None => missing.push(above.clone()),
                    Some(content) => fits &= content.is_none(),
                }
                above = parent(&above);
            }
            if fits {
                model.extend(missing.into_iter().map(|folder| (folder, None)));
                model.insert(full, content);
            }
        }
        model
    })
}

fn listed(model: &Model) -> TreeListing {
    let mut listing = TreeListing {
        nodes: model.iter().map(|(path, content)| node(path.clone(), *content)).collect(),
        ..TreeListing::default()
    };
    listing.sort();
    listing
}

/// Applies a plan as strictly as a file system.
///
/// Parents must exist, no entry may block another, and removed folders must be empty.
fn apply(
    plan: &Plan,
    source: &Model,
    listed: &TreeListing,
    target: &TreeListing,
    model: &mut Model,
) {
    let make = |model: &mut Model, at: usize| {
        let path = &listed.nodes[at].path;
        assert!(parent(path).is_root() || model[&parent(path)].is_none(), "{path}: no parent");
        assert_eq!(model.insert(path.clone(), None), None, "{path} was there");
    };
    let send = |model: &mut Model, at: usize| {
        let path = &listed.nodes[at].path;
        assert!(parent(path).is_root() || model[&parent(path)].is_none(), "{path}: no parent");
        assert_ne!(model.insert(path.clone(), source[path]), Some(None), "{path} was a folder");
    };
    plan.first.make.iter().for_each(|at| make(model, *at));
    plan.first.send.iter().for_each(|at| send(model, *at));
    for at in &plan.delete {
        let path = &target.nodes[*at].path;
        assert!(!model.keys().any(|other| other.is_below(path)), "{path} is not empty");
        assert!(model.remove(path).is_some(), "{path} does not exist");
    }
    plan.late.make.iter().for_each(|at| make(model, *at));
    plan.late.send.iter().for_each(|at| send(model, *at));
}

/// Lists the model with some names as links; those and the names below are no nodes.
fn with_links(model: &Model, links: &[usize]) -> TreeListing {
    let picked: Vec<&TreePath> =
        links.iter().filter_map(|at| model.keys().nth(at % model.len().max(1))).collect();
    let mut listing = listed(model);
    listing
        .nodes
        .retain(|node| !picked.iter().any(|link| node.path == **link || node.path.is_below(link)));
    let under = |link: &TreePath| picked.iter().any(|other| link.is_below(other));
    let reason = picked.iter().filter(|link| !under(link)).filter_map(|link| link.split_last());
    listing.skipped =
        reason.map(|(folder, name)| SkippedName::new(&folder, name, SkipReason::Link)).collect();
    listing.skipped.dedup();
    listing
}

proptest! {
    #[test]
    fn applied_plan_makes_target_equal_to_source(source in tree(), before in tree()) {
        let (from, to) = (listed(&source), listed(&before));
        let mut model = before.clone();
        let plan = plan(&from, &to, &MIRROR);
        apply(&plan, &source, &from, &to, &mut model);
        prop_assert_eq!(&model, &source);
        prop_assert!(plan.blocked.is_empty() && plan.spared.is_empty());
    }

    #[test]
    fn plan_without_removal_loses_nothing(source in tree(), before in tree()) {
        let (from, to) = (listed(&source), listed(&before));
        let mut model = before.clone();
        let plan = plan(&from, &to, &PlanOptions { delete: false, ..MIRROR });
        prop_assert!(plan.delete.is_empty());
        prop_assert!(plan.late.make.is_empty() && plan.late.send.is_empty());
        apply(&plan, &source, &from, &to, &mut model);
        let is_kept = |(path, content): (&TreePath, &Option<u64>)| {
            model[path].is_some() == content.is_some()
        };
        prop_assert!(before.iter().all(is_kept));
        let barred: u64 = plan.blocked.iter().map(|blocked| 1 + blocked.below).sum();
        let there = source.iter().filter(|(path, content)| model.get(path) == Some(content));
        prop_assert_eq!(there.count() as u64 + barred, source.len() as u64);
    }

    #[test]
    fn skipped_names_survive_and_only_listed_are_removed(
        source in tree(),
        before in tree(),
        links in prop::collection::vec(0..24_usize, 0..4),
        skipped in prop::collection::vec(0..24_usize, 0..3),
    ) {
        let (from, to) = (with_links(&source, &skipped), with_links(&before, &links));
        let plan = plan(&from, &to, &MIRROR);
        let all = |names: &[SkippedName], holds: &dyn Fn(&TreePath) -> bool| {
            names.iter().all(|name| name.path().as_ref().is_some_and(holds))
        };
        for at in &plan.delete {
            let Node { path: gone, kind, .. } = &to.nodes[*at];
            prop_assert!(all(&to.skipped, &|path| path != gone && !path.is_below(gone)));
            prop_assert!(all(&from.skipped, &|path| path != gone && !gone.is_below(path)));
            prop_assert!(from.nodes.iter().all(|node| node.path != *gone || node.kind != *kind));
        }
        // Skipped names are not written to either.
        let additions = [&plan.first.send, &plan.late.send, &plan.first.make, &plan.late.make];
        for at in additions.into_iter().flatten() {
            let made = &from.nodes[*at].path;
            prop_assert!(all(&to.skipped, &|path| path != made && !made.is_below(path)));
        }
    }
}
