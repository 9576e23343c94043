//! The current folders, remote and local: `cd`, `pwd`, `lcd`, `lpwd`.

use relais_proto::TreePath;

use super::command::{Args, Command, CompletionKind, NameFilter, PLAIN};
use crate::Result;
use crate::outcome::CommandOutcome;
use crate::shell::Shell;

pub const CD: Command = Command {
    name: "cd",
    usage: "cd [FOLDER]",
    summary: "change the remote folder",
    help: "Without FOLDER it goes to the root. `..` is the parent folder; above the root\n\
           is an error.\n\n\
           Example: cd music/live",
    names: (0, 1),
    completes: CompletionKind::Remote(NameFilter::Folders),
    run: cd,
    ..PLAIN
};

pub const PWD: Command = Command {
    name: "pwd",
    usage: "pwd",
    summary: "show the remote folder",
    help: "Example: pwd",
    run: |shell, _| Ok(CommandOutcome::Folder { path: shell.cwd.to_string() }),
    ..PLAIN
};

pub const LCD: Command = Command {
    name: "lcd",
    usage: "lcd [FOLDER]",
    summary: "change the local folder",
    help: "Files are fetched into this folder. Without FOLDER it returns to the folder of -d,\n\
           where the .log always stays.\n\n\
           Example: lcd /tmp",
    names: (0, 1),
    completes: CompletionKind::Local(NameFilter::Folders),
    is_local: true,
    run: lcd,
    ..PLAIN
};

pub const LPWD: Command = Command {
    name: "lpwd",
    usage: "lpwd",
    summary: "show the local folder",
    help: "Example: lpwd",
    is_local: true,
    run: |shell, _| {
        Ok(CommandOutcome::Folder { path: shell.local.current_dir()?.display().to_string() })
    },
    ..PLAIN
};

fn cd(shell: &mut Shell, args: Args) -> Result<CommandOutcome> {
    let path = match args.names.first() {
        Some(name) => shell.resolve_remote(name)?,
        None => TreePath::root(),
    };
    if !shell.is_folder(&path)? {
        fail!(NotFolder, "{path} is not a folder");
    }
    shell.cwd = path;
    Ok(CommandOutcome::FolderChanged { path: shell.cwd.to_string() })
}

fn lcd(shell: &mut Shell, args: Args) -> Result<CommandOutcome> {
    let place = shell.local.change(args.names.first().map(String::as_str))?;
    Ok(CommandOutcome::FolderChanged { path: place.display().to_string() })
}
