//! Sending files: `put`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use lexopt::ValueExt;
use relais_proto::{ErrorCode, Expect, Kind, Lsn, TreePath};

use super::several::{self, Places};
use super::{Command, Completes, Takes, options};
use crate::Failure;
use crate::outcome::{Outcome, Sent, Several};
use crate::send::Job;
use crate::shell::Shell;

pub const PUT: Command = Command {
    name: "put",
    aliases: &[],
    usage: "put [-r] LOCAL... [-o REMOTE] [--if-version V]",
    summary: "send files",
    help: "A file is seen under its name once it is stored whole; until then the file that was there is.\n\
           Cut off, it goes on through another server, or where it was when the same put is typed again.\n\
           -o names the remote file, or the folder it goes into. An existing file is replaced; --if-version\n\
           does so only where it still has that version. -r sends folders with all that is in them.\n\
           - sends standard input, which -o has to give a name; cut off it cannot be resumed.\n\n\
           Example: put big.bin 'two words.txt' -o /incoming/",
    options: &[("-r", Takes::Nothing), ("-o", Takes::Remote), ("--if-version", Takes::Value)],
    completes: Completes::Local,
    run: put,
};

/// What was typed behind `put`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    names: Vec<String>,
    onto: Option<String>,
    expect: Expect,
    recursive: bool,
}

/// Where files go.
#[derive(Debug, Clone)]
enum Onto {
    /// Into this folder, under their own names.
    Folder(TreePath),
    /// A single one, under this name.
    Name(TreePath),
}

fn put(shell: &mut Shell, words: Vec<String>) -> Result<Outcome, Failure> {
    let words = read(words)?;
    if words.names == ["-"] {
        return input(shell, &words).map(Outcome::Sent);
    }
    if words.recursive {
        return trees(shell, &words).map(Outcome::Several);
    }
    let onto = place(shell, words.onto.as_deref(), words.names.len() > 1)?;
    if let [name] = words.names.as_slice() {
        return one(shell, name, &onto, words.expect, &mut Places::default()).map(Outcome::Sent);
    }
    let mut places = Places::default();
    let (begun, mut sent) = (Instant::now(), Several::default());
    let mut failed = several::each(shell, &words.names, &mut |shell, name| {
        let file = one(shell, name, &onto, Expect::Any, &mut places)?;
        sent.add_sent(&file);
        shell.output.sent(&file)
    })?;
    for one in &mut failed {
        // As with a file that is stored: the remote path, or what was typed where there is none.
        if let Ok((_, remote)) = names(shell, &one.remote, &onto) {
            one.remote = remote.to_string();
        }
    }
    Ok(Outcome::Several(Several { time: begun.elapsed(), failed, ..sent }))
}

fn read(words: Vec<String>) -> Result<Words, Failure> {
    let (mut read, mut version) = (Words::default(), None);
    read.names = options::names(words, &mut |option, parser| {
        match option {
            "-o" => read.onto = Some(parser.value()?.string()?),
            "-r" => read.recursive = true,
            "--if-version" => version = Some(parser.value()?.string()?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if let Some(version) = &version {
        read.expect = Expect::Lsn(read_version(version)?);
    }
    if read.names.is_empty() {
        return Err(Failure::usage("a name is missing"));
    }
    if version.is_some() && (read.recursive || read.names.len() > 1) {
        return Err(Failure::usage("--if-version is for a single file"));
    }
    if read.onto.as_deref() == Some("") {
        return Err(Failure::usage("the remote name is empty"));
    }
    if read.names.iter().any(|name| name == "-") && (read.recursive || read.names.len() > 1) {
        return Err(Failure::usage("standard input is sent alone; a file called - is named ./-"));
    }
    Ok(read)
}

/// A version as `ls --json` and `stat` show it, such as `1-42`.
fn read_version(text: &str) -> Result<Lsn, Failure> {
    let number =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let version = text.split_once('-').and_then(|(epoch, count)| {
        Some(Lsn { epoch: u32::try_from(number(epoch)?).ok()?, number: number(count)? })
    });
    version.ok_or_else(|| {
        Failure::usage(format!("{text:?} is no version; stat shows one, such as 1-42"))
    })
}

/// Where files go. A server is asked only where a name may be that of a folder.
fn place(shell: &mut Shell, onto: Option<&str>, several: bool) -> Result<Onto, Failure> {
    let Some(name) = onto else { return Ok(Onto::Folder(shell.place.clone())) };
    let path = shell.remote(name)?;
    if path.is_root() || name.ends_with('/') && !several {
        return Ok(Onto::Folder(path));
    }
    match shell.session.stat(&path).map(|details| details.entry.kind) {
        Ok(Kind::Folder) => Ok(Onto::Folder(path)),
        Err(failure) if failure.code == ErrorCode::NotFound && !several => Ok(Onto::Name(path)),
        Ok(Kind::File) if !several => Ok(Onto::Name(path)),
        Ok(Kind::File) => Err(Failure::new(
            ErrorCode::NotFolder,
            format!("{path} is no folder, and several files cannot have one name"),
        )),
        Err(failure) => Err(shell.explain(&path, failure)),
    }
}

fn one(
    shell: &mut Shell,
    name: &str,
    onto: &Onto,
    expect: Expect,
    places: &mut Places,
) -> Result<Sent, Failure> {
    let (local, remote) = names(shell, name, onto)?;
    let logged = shell.local.logged_path(&local);
    let (place, shown) = (remote.to_string(), local.display().to_string());
    let job = Job { shown, local, remote, logged, expect, resumed: false };
    places.once(&place, &job.shown, || {
        shell.send_named(&job).map_err(|failure| suggest_pattern(name, &job.local, failure))
    })
}

/// Adds to the failure for a missing local file that `mput` takes patterns.
fn suggest_pattern(name: &str, local: &Path, failure: Failure) -> Failure {
    let is_pattern = name.contains(['*', '?', '[', '{']);
    if failure.code != ErrorCode::Local || !is_pattern || local.symlink_metadata().is_ok() {
        return failure;
    }
    Failure { message: format!("{}; mput takes patterns", failure.message), ..failure }
}

/// Which file it is here, and which it becomes there.
fn names(shell: &Shell, name: &str, onto: &Onto) -> Result<(PathBuf, TreePath), Failure> {
    if name.is_empty() {
        return Err(Failure::usage("a local name is empty"));
    }
    let local = shell.local.resolve(name);
    let remote = match onto {
        Onto::Name(path) => path.clone(),
        Onto::Folder(folder) => {
            let is_folder = || {
                Failure::new(
                    ErrorCode::IsFolder,
                    format!("{name} is a folder; put -r sends folders"),
                )
            };
            let last = Path::new(name).file_name().ok_or_else(is_folder)?;
            folder.join(&last.to_string_lossy()).map_err(|e| Failure::from(e).of(name))?
        }
    };
    Ok((local, remote))
}

/// Folders with all that is in them; a file among the names is sent as it is.
fn trees(shell: &mut Shell, words: &Words) -> Result<Several, Failure> {
    let is_many = words.names.len() > 1;
    let onto = words.onto.as_deref().map(|onto| {
        if is_many && !onto.ends_with('/') { format!("{onto}/") } else { onto.to_owned() }
    });
    if is_many {
        // Said once, before anything is sent, rather than for each name.
        place(shell, onto.as_deref(), true)?;
    }
    let (begun, mut sent) = (Instant::now(), Several::default());
    let mut places = Places::default();
    let mut send = |shell: &mut Shell, name: &str| {
        let last = Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
        places.once(&last, name, || {
            sent.merge(shell.put_tree(name, onto.as_deref())?);
            Ok(())
        })
    };
    let failed = match words.names.as_slice() {
        [name] => send(shell, name).map(|()| Vec::new())?,
        names => several::each(shell, names, &mut send)?,
    };
    sent.failed.extend(failed);
    Ok(Several { time: begun.elapsed(), ..sent })
}

/// Standard input, under the name that `-o` gives it.
fn input(shell: &mut Shell, words: &Words) -> Result<Sent, Failure> {
    if shell.input_is_commands {
        return Err(Failure::usage(
            "put - cannot be used here: the commands themselves come from standard input",
        ));
    }
    let Some(onto) = &words.onto else {
        return Err(Failure::usage("put - needs -o, to give it a name"));
    };
    match place(shell, Some(onto), false)? {
        Onto::Name(path) => shell.send_input(&path, words.expect),
        Onto::Folder(path) => Err(Failure::new(
            ErrorCode::IsFolder,
            format!("{path} is a folder; -o has to name the file"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Result<Words, Failure> {
        read(words.iter().map(|w| w.to_string()).collect())
    }

    #[test]
    fn words_are_read() {
        let read = words(&["a", "-o", "x/", "-r", "b"]).unwrap();
        assert_eq!(
            (read.names, read.onto, read.recursive),
            (vec!["a".into(), "b".into()], Some("x/".into()), true)
        );
        assert_eq!(
            words(&["a", "--if-version=1-42"]).unwrap().expect,
            Expect::Lsn(Lsn { epoch: 1, number: 42 })
        );
        assert_eq!(words(&["-", "-o", "x"]).unwrap().names, ["-"]);
        assert_eq!(
            words(&["--", "-r"]).unwrap(),
            Words { names: vec!["-r".into()], ..Words::default() }
        );
    }

    #[test]
    fn mistakes_are_told() {
        for bad in [
            &[][..],
            &["-r"],
            &["a", "-o"],
            &["a", "-o", ""],
            &["-", "a"],
            &["-r", "-"],
            &["a", "b", "--if-version", "1-2"],
            &["a", "--if-version", "1"],
            &["a", "--if-version", "+1-2"],
            &["a", "--if-version", "4294967296-2"],
            &["a", "--if-version", "-"],
            &["a", "--version"],
        ] {
            assert_eq!(words(bad).unwrap_err().status(), 2, "{bad:?}");
        }
    }
}
