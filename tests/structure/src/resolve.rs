//! Finds the module that defines what a path names, through re-exports.

use crate::source::Modules;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Module(Vec<String>),
    /// An item: its module and its name.
    Item(Vec<String>, String),
}

/// Resolves paths in one crate.
pub(crate) struct Resolver<'a>(pub &'a Modules);

impl Resolver<'_> {
    /// Resolves a path as seen in `from`. Returns nothing for other crates and local names.
    pub(crate) fn resolve(&self, from: &[String], path: &[String]) -> Option<Target> {
        self.resolve_in(from, path, &mut Vec::new())
    }

    fn resolve_in(
        &self,
        from: &[String],
        path: &[String],
        seen: &mut Vec<(Vec<String>, Vec<String>)>,
    ) -> Option<Target> {
        let step = (from.to_vec(), path.to_vec());
        if seen.contains(&step) {
            return None;
        }
        seen.push(step);
        let mut at = from.to_vec();
        let mut names = path.iter().peekable();
        match names.peek().map(|name| name.as_str()) {
            Some("crate") => {
                at.clear();
                names.next();
            }
            Some("self") => {
                names.next();
            }
            _ => {}
        }
        while names.next_if(|name| *name == "super").is_some() {
            at.pop();
        }
        for name in names {
            match self.lookup(&at, name, seen)? {
                Target::Module(module) => at = module,
                // The rest names a variant or a function of the item.
                item => return Some(item),
            }
        }
        Some(Target::Module(at))
    }

    /// Looks up one name in a module: a child, an item, a `use`, then the globs.
    fn lookup(
        &self,
        at: &[String],
        name: &String,
        seen: &mut Vec<(Vec<String>, Vec<String>)>,
    ) -> Option<Target> {
        let child: Vec<_> = at.iter().chain([name]).cloned().collect();
        if self.0.contains_key(&child) {
            return Some(Target::Module(child));
        }
        let module = self.0.get(at)?;
        if module.items.contains(name) {
            return Some(Target::Item(at.to_vec(), name.clone()));
        }
        for (_, path) in module.uses.iter().filter(|(bound, _)| bound == name) {
            if let Some(target) = self.resolve_in(at, path, seen) {
                return Some(target);
            }
        }
        module.globs.iter().find_map(|glob| {
            let Target::Module(source) = self.resolve_in(at, glob, seen)? else { return None };
            self.resolve_in(&source, &["self".to_owned(), name.clone()], seen)
        })
    }
}
