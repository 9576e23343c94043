//! Widths of lines in Rust and Markdown files, and words that the project avoids.

use std::fs;
use std::path::{Path, PathBuf};

use crate::exceptions::{TOLERATED_WIDE_LINES, TOLERATED_WORDS};

/// Columns of a line.
const WIDTH: usize = 100;
/// Words that hide the subject of a sentence.
const WORDS: [&str; 6] = ["whoever", "whom", "somebody", "nobody", "stranger", "strangers"];
/// Folders that hold no sources of ours.
const SKIPPED: [&str; 5] = ["target", ".git", "_FTPROOT", "_CLIENTROOT", "corpus"];

pub(crate) fn check(root: &Path) -> Result<Vec<String>, String> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let (mut wide, mut words) = (Vec::new(), Vec::new());
    for file in &files {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let markdown = file.extension().is_some_and(|extension| extension == "md");
        let name = file.strip_prefix(root).unwrap_or(file).display();
        wide.extend(wide_lines(&text, markdown).map(|n| format!("{name}:{n} is too wide")));
        for (number, line) in (1..).zip(text.lines()) {
            words.extend(avoided(line).map(|word| format!("{name}:{number} has the word {word}")));
        }
    }
    let mut violations = Vec::new();
    if wide.len() > TOLERATED_WIDE_LINES {
        violations.extend(wide);
    }
    if words.len() > TOLERATED_WORDS {
        violations.extend(words);
    }
    Ok(violations)
}

/// Returns the numbers of lines that are too wide. Tables and code in Markdown may be wider.
pub(crate) fn wide_lines(text: &str, markdown: bool) -> impl Iterator<Item = usize> {
    let mut fenced = false;
    (1..).zip(text.lines()).filter_map(move |(number, line)| {
        fenced ^= markdown && line.trim_start().starts_with("```");
        let free = markdown && (fenced || line.starts_with("    ") || line.starts_with('|'));
        (line.chars().count() > WIDTH && !free).then_some(number)
    })
}

/// Returns the avoided words of a line. The Unix user `nobody`, in quotes or code, is none.
pub(crate) fn avoided(line: &str) -> impl Iterator<Item = &str> {
    let word = |c: char| c.is_ascii_alphanumeric() || "_\"`".contains(c);
    line.split(move |c| !word(c)).filter(|part| WORDS.iter().any(|w| part.eq_ignore_ascii_case(w)))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().map_err(|e| format!("{}: {e}", path.display()))?;
        if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
            collect(&path, files)?;
        } else if kind.is_file() && path.extension().is_some_and(|e| e == "rs" || e == "md") {
            files.push(path);
        }
    }
    Ok(())
}
