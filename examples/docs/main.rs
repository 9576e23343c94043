//! Writes the manual pages and the shells' completions of the three programs:
//! `cargo run --example docs -- FOLDER`, or `make docs`.
//!
//! An example, so that what it needs is no part of the programs. Everything is made from the
//! definitions that the programs themselves read their command lines with.

mod pages;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap_complete::{Shell, generate_to};

/// Each shell, and the folder for its completions.
const SHELLS: [(Shell, &str); 3] =
    [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")];

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: docs FOLDER");
        return ExitCode::from(2);
    };
    match write(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("docs: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn write(folder: &Path) -> anyhow::Result<()> {
    let manual = folder.join("man");
    fs::create_dir_all(&manual).with_context(|| manual.display().to_string())?;
    for command in pages::programs() {
        let section = pages::section_of(command.get_name());
        let page = manual.join(format!("{}.{section}", command.get_name()));
        fs::write(&page, pages::manual(&command)).with_context(|| page.display().to_string())?;
        for (shell, name) in SHELLS {
            let completions = folder.join("completions").join(name);
            fs::create_dir_all(&completions).with_context(|| completions.display().to_string())?;
            let program = command.get_name().to_owned();
            generate_to(shell, &mut command.clone(), program, &completions)
                .with_context(|| completions.display().to_string())?;
        }
    }
    Ok(())
}
