//! One command with several names: each is tried, and each that fails is told.

use std::collections::HashMap;

use relais_proto::ErrorCode;

use crate::Failure;
use crate::outcome::FailedName;
use crate::shell::Shell;

/// Runs a command on one of its names.
pub type EachName<'a> = &'a mut dyn FnMut(&mut Shell, &str) -> Result<(), Failure>;

/// Runs `one` on each name. What fails does not keep the others from being done; an interruption does.
///
/// # Errors
/// That nobody reads standard output any more.
pub fn each(
    shell: &mut Shell,
    names: &[String],
    one: EachName<'_>,
) -> Result<Vec<FailedName>, Failure> {
    let mut failed = Vec::new();
    for name in names {
        let Err(failure) = one(shell, name) else { continue };
        if shell.output.is_broken() {
            return Err(failure);
        }
        shell.output.failed(&failure);
        let interrupted = failure.code == ErrorCode::Interrupted;
        failed.push(FailedName { remote: name.clone(), failure });
        if interrupted {
            break;
        }
    }
    Ok(failed)
}

/// What one command has brought to which place: a second name with the same place would take it from the first.
#[derive(Debug, Default)]
pub struct UsedTargets(HashMap<String, String>);

impl UsedTargets {
    /// Brings `from` to `place`, where nothing else was brought by this command. A name that is given twice is no other.
    ///
    /// # Errors
    /// That something else was, or that of `bring`.
    pub fn once<T>(
        &mut self,
        place: &str,
        from: &str,
        bring: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if let Some(other) = self.0.get(place).filter(|other| *other != from) {
            let message = format!(
                "{from}: {other} has just become {place} by this command, and is not replaced"
            );
            return Err(Failure::new(ErrorCode::Exists, message));
        }
        let brought = bring()?;
        self.0.insert(place.to_owned(), from.to_owned());
        Ok(brought)
    }
}

/// The same with whole remote paths in place of what was typed, where that is a name for one.
pub fn with_paths(shell: &Shell, mut failed: Vec<FailedName>) -> Vec<FailedName> {
    for one in &mut failed {
        if let Ok(path) = shell.resolve_remote(&one.remote) {
            one.remote = path.to_string();
        }
    }
    failed
}
