//! Commands with several names: each name is tried, and each failure is reported.

use std::collections::HashMap;
use std::time::Instant;

use relais_proto::ErrorCode;

use crate::Result;
use crate::outcome::{BatchSummary, CommandOutcome, FailedName, TransferredFile};
use crate::shell::Shell;

/// Runs a command on one of its names.
pub type EachName<'a, T> = &'a mut dyn FnMut(&mut Shell, &str) -> Result<T>;

/// Returns the remote path of a name, if it has one, for the report of its failure.
pub type RemoteOf<'a> = &'a dyn Fn(&mut Shell, &str) -> Option<String>;

/// Runs `one` on each name. A failure does not stop the others; an interruption does.
///
/// # Errors
/// The only name fails, or standard output was closed.
pub fn each(
    shell: &mut Shell,
    names: &[String],
    remote_of: RemoteOf<'_>,
    one: EachName<'_, ()>,
) -> Result<Vec<FailedName>> {
    let mut failed = Vec::new();
    for name in names {
        let Err(failure) = one(shell, name) else { continue };
        if names.len() == 1 || shell.output.is_broken {
            return Err(failure);
        }
        shell.output.failed(&failure);
        let interrupted = failure.code == ErrorCode::Interrupted;
        let remote = remote_of(shell, name).unwrap_or_else(|| name.clone());
        failed.push(FailedName { remote, failure });
        if interrupted {
            break;
        }
    }
    Ok(failed)
}

/// Transfers each file.
///
/// # Errors
/// As [`each`].
pub fn files(
    shell: &mut Shell,
    names: &[String],
    remote_of: RemoteOf<'_>,
    one: EachName<'_, TransferredFile>,
) -> Result<CommandOutcome> {
    if let [name] = names {
        return one(shell, name).map(CommandOutcome::File);
    }
    folders(shell, names, remote_of, &mut |shell, name| {
        let (file, mut summary) = (one(shell, name)?, BatchSummary::default());
        summary.add(&file);
        shell.output.file(&file)?;
        Ok(summary)
    })
}

/// Copies each folder, or what else makes a summary.
///
/// # Errors
/// As [`each`].
pub fn folders(
    shell: &mut Shell,
    names: &[String],
    remote_of: RemoteOf<'_>,
    one: EachName<'_, BatchSummary>,
) -> Result<CommandOutcome> {
    let (begun, mut several) = (Instant::now(), BatchSummary::default());
    let failed = each(shell, names, remote_of, &mut |shell, name| {
        several.merge(one(shell, name)?);
        Ok(())
    })?;
    several.failed.extend(failed);
    several.time = begun.elapsed();
    Ok(CommandOutcome::Batch(several))
}

/// Resolves a name against the current remote folder, for the report of its failure.
pub fn resolved(shell: &mut Shell, name: &str) -> Option<String> {
    shell.resolve_remote(name).ok().map(|path| path.to_string())
}

/// The targets that one command has written; a second source with the same target is refused.
#[derive(Debug, Default)]
pub struct UsedTargets(HashMap<String, String>);

impl UsedTargets {
    /// Runs `bring` unless this command has already written `place` from another source.
    ///
    /// A source that is given twice is transferred twice.
    ///
    /// # Errors
    /// Another source has that target, or `bring` fails.
    pub fn once<T>(
        &mut self,
        place: &str,
        from: &str,
        bring: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if let Some(other) = self.0.get(place).filter(|other| *other != from) {
            fail!(
                Exists,
                "{from}: this command has already transferred {other} to {place}, \
                 and does not replace it"
            );
        }
        let brought = bring()?;
        self.0.insert(place.to_owned(), from.to_owned());
        Ok(brought)
    }
}
