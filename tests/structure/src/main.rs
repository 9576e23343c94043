//! Checks the structure of the sources, without building them: `make check` runs it.
//!
//! - No cycle of modules or of files in a crate, and none of crates ([`cycles`]).
//! - No type name means two things in a crate or more than two in the workspace ([`names`]).
//! - Rust and Markdown prose is at most 100 columns wide, and some words are rare ([`text`]).
//!
//! It prints each violation and exits with status 1 if there is one. [`exceptions`] lists what is
//! tolerated.

mod cycles;
mod exceptions;
mod graph;
mod names;
mod resolve;
mod source;
#[cfg(test)]
mod tests;
mod text;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    match root.canonicalize().map_err(|e| e.to_string()).and_then(|root| check(&root)) {
        Ok(violations) if violations.is_empty() => ExitCode::SUCCESS,
        Ok(violations) => {
            violations.iter().for_each(|violation| eprintln!("{violation}"));
            eprintln!("{} violations", violations.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("cannot check the structure: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check(root: &Path) -> Result<Vec<String>, String> {
    let mut violations = Vec::new();
    let mut types = names::TypeNames::default();
    let crates = folders(&root.join("crates"))?;
    for folder in &crates {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut files_in_cycles = 0;
        let mut found = Vec::new();
        for program in ["lib.rs", "main.rs"] {
            let file = folder.join("src").join(program);
            if !file.exists() {
                continue;
            }
            let modules = source::load(root, &file)?;
            types.add(&name, &modules);
            let (files, lines) = cycles::check(&modules);
            files_in_cycles += files;
            found.extend(lines);
        }
        if files_in_cycles > 0 {
            violations.push(format!("crates/{name}: {files_in_cycles} files are in cycles"));
            violations.extend(found);
        }
    }
    violations.extend(cycles::check_crates(&crates)?);
    violations.extend(types.check());
    violations.extend(text::check(root)?);
    Ok(violations)
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut folders: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    folders.retain(|path| path.join("Cargo.toml").exists());
    folders.sort();
    Ok(folders)
}
