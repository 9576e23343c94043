//! Listing of folders, remote and local, and details of single paths: `ls`, `lls`, `stat`, `hash`.

use std::ffi::OsStr;
use std::fs::{DirEntry, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use relais_proto::{Endpoint, ErrorCode, FileTime, Mode, TreePath};

use super::command::{Args, Command, LOCAL, ON_REMOTE_NAMES, PLAIN};
use super::each_name;
use crate::local::openable;
use crate::outcome::{CommandOutcome, EntryContent, FailedName, ListedEntry, ListedKind};
use crate::output::Style;
use crate::session::Details;
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
    options: &[("-l", None)],
    names: (0, 1),
    run: ls,
    ..ON_REMOTE_NAMES
};

pub const LLS: Command = Command {
    name: "lls",
    usage: "lls [-l] [PATH]",
    summary: "list a local folder",
    help: "Works like ls, for local folders.\n\n\
           Example: lls -l",
    options: &[("-l", None)],
    names: (0, 1),
    completes: LOCAL,
    is_local: true,
    run: lls,
    ..PLAIN
};

pub const STAT: Command = Command {
    name: "stat",
    usage: "stat PATH...",
    summary: "show the details of files and folders",
    help: "Shows kind, size, time, version, holders and, if it is known, the digest.\n\n\
           Example: stat big.bin",
    run: stat,
    ..ON_REMOTE_NAMES
};

pub const HASH: Command = Command {
    name: "hash",
    usage: "hash PATH...",
    summary: "show the BLAKE3 digests of files",
    help: "The server computes unknown digests. The lines have the format of b3sum.\n\n\
           Example: hash big.bin",
    run: hash,
    ..ON_REMOTE_NAMES
};

fn ls(shell: &mut Shell, args: Args) -> Result<CommandOutcome> {
    let (name, style) = (args.names.first(), style(&args));
    let path = match name {
        Some(name) => shell.resolve_remote(name)?,
        None => shell.cwd.clone(),
    };
    let output = &mut shell.output;
    let listed = shell.session.list(&path, &mut |entry| output.entry(style, entry.into()));
    match listed {
        Ok(()) => {}
        Err(failure) if failure.code == ErrorCode::NotFolder && !output.is_listing() => {
            output.entry(style, shell.session.stat(&path)?.entry.into())?;
        }
        Err(failure) => return Err(shell.explain(&path, failure)),
    }
    entries(shell, style, Vec::new())
}

fn lls(shell: &mut Shell, args: Args) -> Result<CommandOutcome> {
    let (name, style) = (args.names.first(), style(&args));
    let path = shell.local.resolve(name.map_or("", String::as_str));
    let found = read_local(openable(&path)).map_err(|e| Failure::local(openable(&path), &e))?;
    found.into_iter().try_for_each(|shown| shell.output.entry(style, shown))?;
    entries(shell, style, Vec::new())
}

/// Ends a listing, which may be empty.
fn entries(shell: &mut Shell, style: Style, failed: Vec<FailedName>) -> Result<CommandOutcome> {
    shell.output.begin_entries(style)?;
    Ok(CommandOutcome::Entries { failed })
}

fn style(args: &Args) -> Style {
    if args.has("-l") { Style::Long } else { Style::Names }
}

fn stat(shell: &mut Shell, args: Args) -> Result<CommandOutcome> {
    details(shell, &args.names, Style::Details, |shell, path| {
        let Details { entry, digest, holders } = shell.session.stat(path)?;
        let holders = Some(holders.iter().map(|endpoint| holder(shell, endpoint)).collect());
        Ok(ListedEntry { content: Some(EntryContent { digest, holders }), ..entry.into() })
    })
}

fn hash(shell: &mut Shell, args: Args) -> Result<CommandOutcome> {
    details(shell, &args.names, Style::Digests, |shell, path| {
        let Details { entry, digest, .. } = shell.session.hash(path)?;
        Ok(ListedEntry { content: Some(EntryContent { digest, holders: None }), ..entry.into() })
    })
}

/// Requests the details of each name; a failure does not stop the others.
fn details(
    shell: &mut Shell,
    names: &[String],
    style: Style,
    ask: fn(&mut Shell, &TreePath) -> Result<ListedEntry>,
) -> Result<CommandOutcome> {
    let failed = each_name::each(shell, names, &|_, _| None, &mut |shell, name| {
        let path = shell.resolve_remote(name)?;
        let shown = ask(shell, &path).map_err(|failure| shell.explain(&path, failure))?;
        shell.output.entry(style, ListedEntry { path: Some(path.to_string()), ..shown })
    })?;
    entries(shell, style, failed)
}

/// Formats a holder by its first known address, else by its id.
///
/// A slave does not know the address at which the client reached it, so it names itself without
/// one.
fn holder(shell: &Shell, endpoint: &Endpoint) -> String {
    let addr = endpoint.addrs.first().copied().or_else(|| shell.session.address_of(endpoint.id));
    addr.map_or_else(|| endpoint.id.to_string(), |addr| addr.to_string())
}

/// Lists a local folder in the order of the names, or the one file that `path` is.
fn read_local(path: &Path) -> std::io::Result<Vec<ListedEntry>> {
    let metadata = path.metadata()?;
    if !metadata.is_dir() {
        return Ok(vec![local_entry(path.file_name().unwrap_or(path.as_os_str()), &metadata)]);
    }
    let mut entries = path.read_dir()?.collect::<Result<Vec<DirEntry>, _>>()?;
    entries.sort_by_key(DirEntry::file_name);
    // Entries that vanish during the listing are left out.
    let listed =
        entries.iter().filter_map(|e| Some(local_entry(&e.file_name(), &e.metadata().ok()?)));
    Ok(listed.collect())
}

fn local_entry(name: &OsStr, metadata: &Metadata) -> ListedEntry {
    let kind = match metadata.file_type() {
        t if t.is_dir() => ListedKind::Folder,
        t if t.is_file() => ListedKind::File,
        _ => ListedKind::Other,
    };
    ListedEntry {
        name: name.to_string_lossy().into_owned(),
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
