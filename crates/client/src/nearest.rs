//! Suggestions for a remote name that does not exist.
//!
//! The search reads a folder of any size and keeps only a few names.

use relais_proto::{Kind, TreePath};

use crate::Result;
use crate::session::Session;

/// Folders up to this many names are shown completely.
const SHOW_ALL_LIMIT: usize = 20;
/// Names shown of a larger folder.
const MAX_SUGGESTIONS: usize = 10;
/// Minimum similarity of a shown name; 1 is equality.
const MIN_SIMILARITY: f64 = 0.5;

/// Collects the names that are most similar to a wanted one.
#[derive(Debug)]
struct SimilarNames {
    wanted: String,
    /// All names, as long as they are few.
    all: Vec<String>,
    /// The most similar names, best first.
    best: Vec<(f64, String)>,
    seen: u64,
}

impl SimilarNames {
    fn new(wanted: &str) -> Self {
        Self { wanted: wanted.to_lowercase(), all: Vec::new(), best: Vec::new(), seen: 0 }
    }

    fn offer(&mut self, name: String) {
        self.seen += 1;
        let lower = name.trim_end_matches('/').to_lowercase();
        let similarity = strsim::normalized_damerau_levenshtein(&self.wanted, &lower)
            .max(strsim::jaro_winkler(&self.wanted, &lower) - 0.3);
        if self.all.len() <= SHOW_ALL_LIMIT {
            self.all.push(name.clone());
        }
        let is_better = |(other, text): &(f64, String)| {
            other.total_cmp(&similarity).reverse().then_with(|| text.cmp(&name)).is_le()
        };
        let at = self.best.partition_point(is_better);
        if similarity >= MIN_SIMILARITY && at < MAX_SUGGESTIONS {
            self.best.insert(at, (similarity, name));
            self.best.truncate(MAX_SUGGESTIONS);
        }
    }

    fn describe(self, folder: &TreePath) -> String {
        if self.all.is_empty() {
            return format!("{folder} is empty");
        }
        if self.all.len() <= SHOW_ALL_LIMIT {
            return format!("in {folder} there is: {}", self.all.join(", "));
        }
        let names: Vec<_> = self.best.into_iter().map(|(_, name)| name).collect();
        match names.as_slice() {
            [] => format!("none of the {} names in {folder} is similar", self.seen),
            names => {
                format!("most similar of the {} names in {folder}: {}", self.seen, names.join(", "))
            }
        }
    }
}

/// Describes the names in the folder of `path`, for an error message.
///
/// # Errors
/// The user interrupted, or the folder cannot be listed.
pub fn suggest_names(session: &mut Session, path: &TreePath) -> Result<String> {
    let Some((folder, wanted)) = path.split_last() else {
        fail!(BadServer, "the server has no root folder");
    };
    let mut nearest = SimilarNames::new(wanted);
    session.list(&folder, &mut |entry| {
        let slash = if entry.kind == Kind::Folder { "/" } else { "" };
        nearest.offer(entry.name + slash);
        Ok(())
    })?;
    Ok(nearest.describe(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(wanted: &str, names: impl IntoIterator<Item = String>) -> String {
        let mut nearest = SimilarNames::new(wanted);
        names.into_iter().for_each(|name| nearest.offer(name));
        assert!(nearest.all.len() <= SHOW_ALL_LIMIT + 1 && nearest.best.len() <= MAX_SUGGESTIONS);
        nearest.describe(&TreePath::root())
    }

    #[test]
    fn small_folder_is_listed_completely() {
        assert_eq!(describe("x", []), "/ is empty");
        assert_eq!(describe("x", ["a".into(), "b/".into()]), "in / there is: a, b/");
    }

    #[test]
    fn large_folder_shows_most_similar_names() {
        let names = || (0..100_000).map(|n| format!("file-{n:06}.dat"));
        let text = describe("file-04711.dat", names().chain(["big.bin".into()]));
        assert!(text.starts_with("most similar of the 100001 names in /: file-"), "{text}");
        assert!(text.contains("file-004711.dat"), "{text}");
        assert_eq!(text.split(", ").count(), 10);
        assert!(describe("bgi.bin", names().chain(["big.bin".into()])).ends_with(": big.bin"));
        assert_eq!(describe("zzz", names()), "none of the 100000 names in / is similar");
    }
}
