//! Listing of folders, remote and local: `ls`, `lls`.

use std::fs::{DirEntry, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use relais_proto::{ErrorCode, FileTime, Mode};

use super::{Command, CompletionKind, OptionValue, options};
use crate::local::openable;
use crate::outcome::{CommandOutcome, ListedEntry, ListedKind};
use crate::output::Style;
use crate::shell::Shell;
use crate::{Failure, Result};

pub const LS: Command = Command {
    name: "ls",
    aliases: &["dir"],
    usage: "ls [-l] [PATH]",
    summary: "list a remote folder",
    help: "Folders end in /. With -l each line has kind (d for a folder), permission bits,\n\
           bytes, time in UTC, and name. If PATH is a file, ls lists that file.\n\n\
           Example: ls -l music",
    options: &[("-l", OptionValue::Nothing)],
    completes: CompletionKind::Remote,
    run: ls,
};

pub const LLS: Command = Command {
    name: "lls",
    aliases: &[],
    usage: "lls [-l] [PATH]",
    summary: "list a local folder",
    help: "Works like ls, for local folders.\n\n\
           Example: lls -l",
    options: &[("-l", OptionValue::Nothing)],
    completes: CompletionKind::Local,
    run: lls,
};

fn ls(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let (name, style) = read(args)?;
    let path = match name {
        Some(name) => shell.resolve_remote(&name)?,
        None => shell.cwd.clone(),
    };
    let mut begun = false;
    let output = &mut shell.output;
    let listed = shell.session.list(&path, &mut |entry| {
        if !std::mem::replace(&mut begun, true) {
            output.begin_entries(style)?;
        }
        output.entry(entry.into())
    });
    match listed {
        Ok(()) if begun => {}
        Ok(()) => output.begin_entries(style)?,
        Err(failure) if failure.code == ErrorCode::NotFolder && !begun => {
            let entry = shell.session.stat(&path)?.entry;
            shell.output.begin_entries(style)?;
            shell.output.entry(entry.into())?;
        }
        Err(failure) => return Err(shell.explain(&path, failure)),
    }
    Ok(CommandOutcome::Entries(Vec::new()))
}

fn lls(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let (name, style) = read(args)?;
    let path = shell.local.resolve(name.as_deref().unwrap_or_default());
    let entries = read_local(openable(&path)).map_err(|e| Failure::local(openable(&path), &e))?;
    shell.output.begin_entries(style)?;
    entries.into_iter().try_for_each(|shown| shell.output.entry(shown))?;
    Ok(CommandOutcome::Entries(Vec::new()))
}

fn read(args: Vec<String>) -> Result<(Option<String>, Style)> {
    let mut style = Style::Names;
    let names = options::names(args, &mut |option, _| {
        style = Style::Long;
        Ok(option == "-l")
    })?;
    Ok((options::at_most_one(names)?, style))
}

/// Lists a local folder in the order of the names, or the one file that `path` is.
fn read_local(path: &Path) -> std::io::Result<Vec<ListedEntry>> {
    let metadata = path.metadata()?;
    if !metadata.is_dir() {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        return Ok(vec![local_entry(name, &metadata)]);
    }
    let mut entries = path.read_dir()?.collect::<Result<Vec<DirEntry>, _>>()?;
    entries.sort_by_key(DirEntry::file_name);
    // Entries that vanish during the listing are left out.
    Ok(entries
        .iter()
        .filter_map(|e| {
            Some(local_entry(e.file_name().to_string_lossy().into_owned(), &e.metadata().ok()?))
        })
        .collect())
}

fn local_entry(name: String, metadata: &Metadata) -> ListedEntry {
    let kind = match metadata.file_type() {
        t if t.is_dir() => ListedKind::Folder,
        t if t.is_file() => ListedKind::File,
        _ => ListedKind::Other,
    };
    ListedEntry {
        name,
        path: None,
        kind,
        mode: Mode::new(metadata.permissions().mode()),
        size: if kind == ListedKind::Folder { 0 } else { metadata.len() },
        mtime: FileTime {
            seconds: metadata.mtime(),
            nanos: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
        },
        version: None,
        content: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_folders_are_listed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("b"), "xyz").unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("c")).unwrap();
        let found: Vec<_> =
            read_local(dir.path()).unwrap().into_iter().map(|s| (s.name, s.kind, s.size)).collect();
        assert_eq!(found[0], ("a".into(), ListedKind::Folder, 0));
        assert_eq!(found[1], ("b".into(), ListedKind::File, 3));
        assert_eq!(found[2].1, ListedKind::Other);
        assert_eq!(read_local(&dir.path().join("b")).unwrap()[0].name, "b");
        assert!(read_local(&dir.path().join("none")).is_err());
    }
}
