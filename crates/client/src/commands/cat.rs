//! Files to standard output: `cat`.

use relais_proto::ErrorCode;

use super::{Command, Completes, get, options};
use crate::Failure;
use crate::outcome::{Outcome, Received};
use crate::output::Content;
use crate::shell::Shell;

pub const CAT: Command = Command {
    name: "cat",
    aliases: &[],
    usage: "cat REMOTE...",
    summary: "write files to standard output",
    help: "The content goes out as it comes, one file behind the other. It ends well only where the digest of all that\n\
           went out is right.\n\nExample: cat notes.txt",
    options: &[],
    completes: Completes::Remote,
    run: cat,
};

fn cat(shell: &mut Shell, words: Vec<String>) -> Result<Outcome, Failure> {
    shell.output.begin_content(Content::Quiet);
    let names = options::at_least_one(options::names(words, &mut options::none)?)?;
    show(shell, &names)
}

/// Writes each file to standard output.
pub fn show(shell: &mut Shell, names: &[String]) -> Result<Outcome, Failure> {
    match names {
        [name] => one(shell, name).map(Outcome::Received),
        names => get::all(shell, names, &mut one).map(Outcome::Several),
    }
}

fn one(shell: &mut Shell, name: &str) -> Result<Received, Failure> {
    let path = shell.remote(name)?;
    if path.is_root() || name.ends_with('/') {
        return Err(Failure::new(ErrorCode::IsFolder, format!("{name} is a folder")));
    }
    shell.show(&path).map_err(|failure| shell.explain(&path, failure))
}
