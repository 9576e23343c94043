//! Type names that mean more than one thing.

use std::collections::BTreeMap;

use crate::exceptions::IDIOMATIC;
use crate::source::Modules;

/// Where each type name is defined: crate and file.
#[derive(Default)]
pub(crate) struct TypeNames(BTreeMap<String, Vec<(String, String)>>);

impl TypeNames {
    pub(crate) fn add(&mut self, package: &str, modules: &Modules) {
        for module in modules.values() {
            for name in &module.types {
                let places = self.0.entry(name.clone()).or_default();
                places.push((package.to_owned(), module.file.display().to_string()));
            }
        }
    }

    /// Reports names with two meanings in a crate, or more than two in all.
    pub(crate) fn check(&self) -> Vec<String> {
        let mut violations = Vec::new();
        for (name, places) in &self.0 {
            if IDIOMATIC.contains(&name.as_str()) {
                continue;
            }
            let mut packages: Vec<_> = places.iter().map(|(package, _)| package).collect();
            packages.dedup();
            if packages.len() < places.len() || places.len() > 2 {
                let files: Vec<_> = places.iter().map(|(_, file)| file.as_str()).collect();
                violations.push(format!("type {name} has several meanings: {}", files.join(", ")));
            }
        }
        violations
    }
}
