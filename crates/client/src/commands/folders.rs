//! Where the user is, here and there: `cd`, `pwd`, `lcd`, `lpwd`.

use relais_proto::{ErrorCode, Kind, TreePath};

use super::{Command, Completes, options};
use crate::Failure;
use crate::outcome::Outcome;
use crate::shell::Shell;

pub const CD: Command = Command {
    name: "cd",
    aliases: &[],
    usage: "cd [FOLDER]",
    summary: "go to another remote folder",
    help: "Without FOLDER it goes to the top. `..` is the folder above; above the top is an error.\n\nExample: cd music/live",
    options: &[],
    completes: Completes::RemoteFolders,
    run: cd,
};

pub const PWD: Command = Command {
    name: "pwd",
    aliases: &[],
    usage: "pwd",
    summary: "show the remote folder",
    help: "Example: pwd",
    options: &[],
    completes: Completes::Nothing,
    run: pwd,
};

pub const LCD: Command = Command {
    name: "lcd",
    aliases: &[],
    usage: "lcd [FOLDER]",
    summary: "go to another local folder",
    help: "Files are fetched into it. Without FOLDER it goes back to the folder of -d; the .log stays there.\n\nExample: lcd /tmp",
    options: &[],
    completes: Completes::LocalFolders,
    run: lcd,
};

pub const LPWD: Command = Command {
    name: "lpwd",
    aliases: &[],
    usage: "lpwd",
    summary: "show the local folder",
    help: "Example: lpwd",
    options: &[],
    completes: Completes::Nothing,
    run: lpwd,
};

fn cd(shell: &mut Shell, words: Vec<String>) -> Result<Outcome, Failure> {
    let path = match options::at_most_one(options::names(words, &mut options::none)?)? {
        Some(name) => shell.remote(&name)?,
        None => TreePath::root(),
    };
    let details = shell.session.stat(&path).map_err(|failure| shell.explain(&path, failure))?;
    if details.entry.kind != Kind::Folder {
        return Err(Failure::new(ErrorCode::NotFolder, format!("{path} is no folder")));
    }
    shell.place = path;
    Ok(Outcome::Moved(shell.place.to_string()))
}

fn pwd(shell: &mut Shell, words: Vec<String>) -> Result<Outcome, Failure> {
    no_names(words)?;
    Ok(Outcome::Place(shell.place.to_string()))
}

fn lcd(shell: &mut Shell, words: Vec<String>) -> Result<Outcome, Failure> {
    let name = options::at_most_one(options::names(words, &mut options::none)?)?;
    let place = shell.local.change(name.as_deref())?;
    Ok(Outcome::Moved(place.display().to_string()))
}

fn lpwd(shell: &mut Shell, words: Vec<String>) -> Result<Outcome, Failure> {
    no_names(words)?;
    Ok(Outcome::Place(shell.local.place()?.display().to_string()))
}

fn no_names(words: Vec<String>) -> Result<(), Failure> {
    let names = options::names(words, &mut options::none)?;
    if names.is_empty() { Ok(()) } else { Err(Failure::usage("it takes no names")) }
}
