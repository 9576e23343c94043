//! The current folders, remote and local: `cd`, `pwd`, `lcd`, `lpwd`.

use relais_proto::{Kind, TreePath};

use super::{Command, CompletionKind, options};
use crate::Result;
use crate::outcome::CommandOutcome;
use crate::shell::Shell;

pub const CD: Command = Command {
    name: "cd",
    aliases: &[],
    usage: "cd [FOLDER]",
    summary: "change the remote folder",
    help: "Without FOLDER it goes to the root. `..` is the parent folder; above the root\n\
           is an error.\n\n\
           Example: cd music/live",
    options: &[],
    completes: CompletionKind::RemoteFolders,
    run: cd,
};

pub const PWD: Command = Command {
    name: "pwd",
    aliases: &[],
    usage: "pwd",
    summary: "show the remote folder",
    help: "Example: pwd",
    options: &[],
    completes: CompletionKind::Nothing,
    run: pwd,
};

pub const LCD: Command = Command {
    name: "lcd",
    aliases: &[],
    usage: "lcd [FOLDER]",
    summary: "change the local folder",
    help: "Files are fetched into this folder. Without FOLDER it returns to the folder of -d,\n\
           where the .log always stays.\n\n\
           Example: lcd /tmp",
    options: &[],
    completes: CompletionKind::LocalFolders,
    run: lcd,
};

pub const LPWD: Command = Command {
    name: "lpwd",
    aliases: &[],
    usage: "lpwd",
    summary: "show the local folder",
    help: "Example: lpwd",
    options: &[],
    completes: CompletionKind::Nothing,
    run: lpwd,
};

fn cd(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let path = match options::at_most_one(options::names(args, &mut options::none)?)? {
        Some(name) => shell.resolve_remote(&name)?,
        None => TreePath::root(),
    };
    let details = shell.session.stat(&path).map_err(|failure| shell.explain(&path, failure))?;
    if details.entry.kind != Kind::Folder {
        fail!(NotFolder, "{path} is not a folder");
    }
    shell.cwd = path;
    Ok(CommandOutcome::FolderChanged(shell.cwd.to_string()))
}

fn pwd(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    no_names(args)?;
    Ok(CommandOutcome::Folder(shell.cwd.to_string()))
}

fn lcd(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let name = options::at_most_one(options::names(args, &mut options::none)?)?;
    let place = shell.local.change(name.as_deref())?;
    Ok(CommandOutcome::FolderChanged(place.display().to_string()))
}

fn lpwd(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    no_names(args)?;
    Ok(CommandOutcome::Folder(shell.local.current_dir()?.display().to_string()))
}

fn no_names(args: Vec<String>) -> Result<()> {
    let names = options::names(args, &mut options::none)?;
    if names.is_empty() { Ok(()) } else { Err(failure!(Usage, "the command takes no names")) }
}
