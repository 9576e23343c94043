//! Cycles of modules and of files in a crate, and of crates.
//!
//! A module depends on another if it names an item that the other defines: by a path, a `use` or a
//! re-export. What counts is the defining module, so `super::child::Item` is no dependency on the
//! parent. `mod child;` alone is none either. A parent that uses its child's items and defines some
//! that the child uses is a cycle: these items belong into a module of their own.
//!
//! Blind spots:
//! - Method calls, fields and return values do not show their types. A module depends on a type
//!   only if it names it. So files with `impl` blocks of one type count as chapters of it: they
//!   depend on the file that defines the type, and calls between them are not seen.
//! - What macros of other crates and `derive` expand to is not seen. In the tokens of a macro call,
//!   `a::b` is taken for a path and single names count only if a glob import brings them in.
//! - A `macro_rules!` macro that is called without a path, by textual scope, is not seen.
//! - `use` declarations in functions hold for the whole module here. Local names that equal an
//!   imported one are taken for it.
//! - Every `cfg` but `cfg(test)` counts as set. `#[path]` and `include!` are not followed.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::graph::{Graph, cycles};
use crate::resolve::{Resolver, Target};
use crate::source::Modules;

/// Returns how many files are in cycles, and the lines that describe these.
pub(crate) fn check(modules: &Modules) -> (usize, Vec<String>) {
    let resolver = Resolver(modules);
    let (mut of_modules, mut of_files) = (Graph::new(), Graph::new());
    for module in modules.values() {
        let globbed = |path: &&Vec<String>| path.len() > 1 || !module.globs.is_empty();
        let paths = module.paths.iter().filter(globbed);
        for path in paths.chain(module.uses.iter().map(|(_, path)| path)) {
            if let Some(Target::Item(target, name)) = resolver.resolve(&module.path, path) {
                let (from, to) = (&module.file, &modules[&target].file);
                let (from, to) = (from.display().to_string(), to.display().to_string());
                if module.path != target {
                    let (from, to) = (qualified(&from, &module.path), qualified(&to, &target));
                    add(&mut of_modules, from, to, &name);
                }
                if from != to {
                    add(&mut of_files, from, to, &name);
                }
            }
        }
    }
    let mut lines = Vec::new();
    let mut files = BTreeSet::new();
    for cycle in cycles(&of_files) {
        describe(&of_files, &cycle, &mut lines);
        files.extend(cycle);
    }
    for cycle in cycles(&of_modules) {
        let in_files: BTreeSet<_> = cycle.iter().map(|module| file_of(module)).collect();
        if !in_files.iter().all(|file| files.contains(file)) {
            describe(&of_modules, &cycle, &mut lines);
            files.extend(in_files);
        }
    }
    (files.len(), lines)
}

/// Finds cycles of crates. cargo tolerates those through `dev-dependencies`.
pub(crate) fn check_crates(folders: &[PathBuf]) -> Result<Vec<String>, String> {
    let mut graph = Graph::new();
    for folder in folders {
        let file = folder.join("Cargo.toml");
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let from = format!("relais-{}", folder.file_name().unwrap_or_default().to_string_lossy());
        let word = |c: char| c == '-' || c.is_ascii_alphanumeric();
        for line in text.lines().filter(|line| line.starts_with("relais-")) {
            let name = line.split(|c| !word(c)).next().unwrap_or_default();
            add(&mut graph, from.clone(), name.to_owned(), "Cargo.toml");
        }
    }
    let mut lines = Vec::new();
    cycles(&graph).iter().for_each(|cycle| describe(&graph, cycle, &mut lines));
    Ok(lines)
}

fn qualified(file: &str, module: &[String]) -> String {
    format!("{file} {}", module.join("::"))
}

fn file_of(qualified: &str) -> String {
    qualified.split_once(' ').map_or(qualified, |(file, _)| file).to_owned()
}

fn add(graph: &mut Graph, from: String, to: String, name: &str) {
    graph.entry(to.clone()).or_default();
    graph.entry(from).or_default().entry(to).or_default().insert(name.to_owned());
}

fn describe(graph: &Graph, cycle: &[String], lines: &mut Vec<String>) {
    lines.push(format!("cycle of {}:", cycle.len()));
    for from in cycle {
        for (to, names) in graph[from].iter().filter(|(to, _)| cycle.contains(to)) {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            lines.push(format!("  {from} -> {to}: {}", names.join(", ")));
        }
    }
}
