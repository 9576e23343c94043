//! A directed graph and its strongly connected components.

use std::collections::{BTreeMap, BTreeSet};

/// Edges, each with the names that it stands for.
pub(crate) type Graph = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Returns the components of more than one node, each sorted.
pub(crate) fn cycles(graph: &Graph) -> Vec<Vec<String>> {
    let reach: BTreeMap<_, _> = graph.keys().map(|node| (node, reachable(graph, node))).collect();
    let mut components = BTreeSet::new();
    for (node, reached) in &reach {
        let back = |other: &&String| reach.get(other).is_some_and(|back| back.contains(*node));
        let component: Vec<String> = reached.iter().copied().filter(back).cloned().collect();
        if component.len() > 1 {
            components.insert(component);
        }
    }
    components.into_iter().collect()
}

/// Returns the nodes at the end of each path from a node; the node itself if it is in a cycle.
fn reachable<'a>(graph: &'a Graph, node: &String) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut queue: Vec<&String> = graph.get(node).into_iter().flat_map(BTreeMap::keys).collect();
    while let Some(node) = queue.pop() {
        if reached.insert(node) {
            queue.extend(graph.get(node).into_iter().flat_map(BTreeMap::keys));
        }
    }
    reached
}
