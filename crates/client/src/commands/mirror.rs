//! Making one folder equal to another: `mirror`.

use super::command::{ANY, Args, Command, CompletionKind, PLAIN};
use crate::Result;
use crate::outcome::CommandOutcome;
use crate::recursive::{MirrorOptions, mirror};

pub const MIRROR: Command = Command {
    name: "mirror",
    usage: "mirror [-R] [--delete] [--dry-run] [--checksum] [--force] SRC DST",
    summary: "make a local folder equal to a remote one; with -R the reverse",
    help: "Transfers files that differ in kind, size or time; with --checksum, in kind, size\n\
           or digest. With -R (--reverse) SRC is local and DST remote.\n\
           --delete then removes what only DST has, if all of SRC was listed and transferred.\n\
           Links, devices, mount points and ftpclient's own files are never removed.\n\
           An empty SRC empties DST only with --force. --dry-run only shows the steps.\n\
           A missing DST is made.\n\n\
           Example: mirror --delete photos backup/photos",
    options: &[
        ("-R", None),
        ("--reverse", None),
        ("--delete", None),
        ("--dry-run", None),
        ("--checksum", None),
        ("--force", None),
    ],
    names: (0, ANY),
    completes: CompletionKind::Mirror,
    run: |shell, args| mirror(shell, &options(args)?).map(CommandOutcome::Batch),
    ..PLAIN
};

fn options(args: Args) -> Result<MirrorOptions> {
    let [up, delete, dry_run, checksum, force] =
        ["-R", "--delete", "--dry-run", "--checksum", "--force"].map(|option| args.has(option));
    let up = up || args.has("--reverse");
    let [source, target] = <[String; 2]>::try_from(args.names)
        .map_err(|_| failure!(Usage, "the command takes two names, SRC and DST"))?;
    if source.is_empty() || target.is_empty() {
        fail!(Usage, "a name is empty");
    }
    Ok(MirrorOptions { source, target, up, delete, dry_run, checksum, force })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::command::parse;

    #[test]
    fn arguments_are_parsed() {
        let read = |words: &[&str]| options(parse(&MIRROR, words)?);
        let mirror = read(&["-R", "a", "--delete", "b", "--dry-run", "--checksum"]).unwrap();
        let wanted = MirrorOptions {
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
