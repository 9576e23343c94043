//! Making one folder equal to another: `mirror`.

use super::{Command, CompletionKind, OptionValue, options};
use crate::Result;
use crate::outcome::CommandOutcome;
use crate::recursive::MirrorOptions;
use crate::shell::Shell;

pub const MIRROR: Command = Command {
    name: "mirror",
    aliases: &[],
    usage: "mirror [-R] [--delete] [--dry-run] [--checksum] [--force] SRC DST",
    summary: "make a local folder equal to a remote one; with -R the reverse",
    help: "Transfers files that differ in kind, size or time; with --checksum, in kind, size\n\
           or digest.\n\
           --delete then removes what only DST has, if all of SRC was listed and transferred.\n\
           Links, devices, mount points and ftpclient's own files are never removed.\n\
           An empty SRC empties DST only with --force. --dry-run only shows the steps.\n\
           A missing DST is made.\n\n\
           Example: mirror --delete photos backup/photos",
    options: &[
        ("-R", OptionValue::Nothing),
        ("--delete", OptionValue::Nothing),
        ("--dry-run", OptionValue::Nothing),
        ("--checksum", OptionValue::Nothing),
        ("--force", OptionValue::Nothing),
    ],
    completes: CompletionKind::Mirror,
    run: mirror,
};

fn mirror(shell: &mut Shell, args: Vec<String>) -> Result<CommandOutcome> {
    let mirror = read(args)?;
    shell.mirror(&mirror).map(CommandOutcome::Mirrored)
}

fn read(args: Vec<String>) -> Result<MirrorOptions> {
    let mut mirror = MirrorOptions::default();
    let names = options::names(args, &mut |option, _| {
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
        .map_err(|_| failure!(Usage, "the command takes two names, SRC and DST"))?;
    if source.is_empty() || target.is_empty() {
        fail!(Usage, "a name is empty");
    }
    Ok(MirrorOptions { source, target, ..mirror })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_parsed() {
        let read = |args: &[&str]| read(args.iter().map(|w| w.to_string()).collect());
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
