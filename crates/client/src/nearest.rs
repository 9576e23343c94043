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
    /// The most similar names, best first; all names as long as they are few.
    best: Vec<(f64, String)>,
    seen: usize,
}

impl SimilarNames {
    fn new(wanted: &str) -> Self {
        Self { wanted: wanted.to_lowercase(), best: Vec::new(), seen: 0 }
    }

    fn offer(&mut self, name: String) {
        self.seen += 1;
        let lower = name.trim_end_matches('/').to_lowercase();
        let similarity = strsim::normalized_damerau_levenshtein(&self.wanted, &lower)
            .max(strsim::jaro_winkler(&self.wanted, &lower) - 0.3);
        let is_better = |(other, text): &(f64, String)| {
            other.total_cmp(&similarity).reverse().then_with(|| text.cmp(&name)).is_le()
        };
        let at = self.best.partition_point(is_better);
        self.best.insert(at, (similarity, name));
        self.best.truncate(SHOW_ALL_LIMIT);
    }

    fn describe(self, folder: &TreePath) -> String {
        let Self { mut best, seen, .. } = self;
        if seen == 0 {
            return format!("{folder} is empty");
        }
        let is_small = seen <= SHOW_ALL_LIMIT;
        if is_small {
            best.sort_by(|(_, a), (_, b)| a.trim_end_matches('/').cmp(b.trim_end_matches('/')));
        } else {
            best.retain(|(similarity, _)| *similarity >= MIN_SIMILARITY);
            best.truncate(MAX_SUGGESTIONS);
        }
        let names: Vec<_> = best.into_iter().map(|(_, name)| name).collect();
        match names.join(", ").as_str() {
            names if is_small => format!("in {folder} there is: {names}"),
            "" => format!("none of the {seen} names in {folder} is similar"),
            names => format!("most similar of the {seen} names in {folder}: {names}"),
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
        assert!(nearest.best.len() <= SHOW_ALL_LIMIT);
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
