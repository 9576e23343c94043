//! Making one folder equal to another: `mirror`.

use super::{Command, Completes, Takes, options};
use crate::Failure;
use crate::outcome::Outcome;
use crate::recursive::Mirror;
use crate::shell::Shell;

pub const MIRROR: Command = Command {
    name: "mirror",
    aliases: &[],
    usage: "mirror [-R] [--delete] [--dry-run] [--checksum] [--force] SRC DST",
    summary: "make a local folder equal to a remote one, or with -R the other way round",
    help: "Only what differs in kind, size or time is transferred; with --checksum, in kind, size or digest.\n\
           --delete removes what only DST has, at the end, and only where everything of SRC was listed and\n\
           transferred; links, devices, mount points and ftpclient's own files are never removed. An SRC that is\n\
           empty removes everything only with --force. --dry-run tells what would be done. DST is made where it is missing.\n\n\
           Example: mirror --delete photos backup/photos",
    options: &[
        ("-R", Takes::Nothing),
        ("--delete", Takes::Nothing),
        ("--dry-run", Takes::Nothing),
        ("--checksum", Takes::Nothing),
        ("--force", Takes::Nothing),
    ],
    completes: Completes::Mirror,
    run: mirror,
};

fn mirror(shell: &mut Shell, words: Vec<String>) -> Result<Outcome, Failure> {
    let mirror = read(words)?;
    shell.mirror(&mirror).map(Outcome::Mirrored)
}

fn read(words: Vec<String>) -> Result<Mirror, Failure> {
    let mut mirror = Mirror::default();
    let names = options::names(words, &mut |option, _| {
        let switch = match option {
            "-R" | "--reverse" => &mut mirror.up,
            "--delete" => &mut mirror.delete,
            "--dry-run" => &mut mirror.dry_run,
            "--checksum" => &mut mirror.checksum,
            "--force" => &mut mirror.force,
            _ => return Ok(false),
        };
        *switch = true;
        Ok(true)
    })?;
    let [source, target] = <[String; 2]>::try_from(names)
        .map_err(|_| Failure::usage("it takes two names, SRC and DST"))?;
    if source.is_empty() || target.is_empty() {
        return Err(Failure::usage("a name is empty"));
    }
    Ok(Mirror { source, target, ..mirror })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        let read = |words: &[&str]| read(words.iter().map(|w| w.to_string()).collect());
        let mirror = read(&["-R", "a", "--delete", "b", "--dry-run", "--checksum"]).unwrap();
        let wanted = Mirror {
            source: "a".into(),
            target: "b".into(),
            up: true,
            delete: true,
            dry_run: true,
            checksum: true,
            force: false,
        };
        assert_eq!(mirror, wanted);
        assert!(read(&["--force", "--", "-a", "b"]).unwrap().force);
        for bad in
            [&[][..], &["a"], &["a", "b", "c"], &["a", ""], &["", "b"], &["--remove", "a", "b"]]
        {
            assert_eq!(read(bad).unwrap_err().status(), 2, "{bad:?}");
        }
    }
}
