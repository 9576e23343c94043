//! Commands with several names: each name is tried, and each failure is reported.

use std::collections::HashMap;

use relais_proto::ErrorCode;

use crate::outcome::FailedName;
use crate::shell::Shell;
use crate::{Failure, Result};

/// Runs a command on one of its names.
pub type EachName<'a> = &'a mut dyn FnMut(&mut Shell, &str) -> Result<()>;

/// Runs `one` on each name. A failure does not stop the others; an interruption does.
///
/// # Errors
/// Standard output was closed.
pub fn each(shell: &mut Shell, names: &[String], one: EachName<'_>) -> Result<Vec<FailedName>> {
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
            let message = format!(
                "{from}: this command has already transferred {other} to {place}, \
                 and does not replace it"
            );
            return Err(Failure::new(ErrorCode::Exists, message));
        }
        let brought = bring()?;
        self.0.insert(place.to_owned(), from.to_owned());
        Ok(brought)
    }
}

/// Replaces typed names by their full remote paths, where they have one.
pub fn with_paths(shell: &Shell, mut failed: Vec<FailedName>) -> Vec<FailedName> {
    for one in &mut failed {
        if let Ok(path) = shell.resolve_remote(&one.remote) {
            one.remote = path.to_string();
        }
    }
    failed
}
