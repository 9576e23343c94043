//! One command with several names: each is tried, and each that fails is told.

use relais_proto::ErrorCode;

use crate::Failure;
use crate::outcome::Failed;
use crate::shell::Shell;

/// Runs a command on one of its names.
pub type One<'a> = &'a mut dyn FnMut(&mut Shell, &str) -> Result<(), Failure>;

/// Runs `one` on each name. What fails does not keep the others from being done; an interruption does.
///
/// # Errors
/// That nobody reads standard output any more.
pub fn each(shell: &mut Shell, names: &[String], one: One<'_>) -> Result<Vec<Failed>, Failure> {
    let mut failed = Vec::new();
    for name in names {
        let Err(failure) = one(shell, name) else { continue };
        if shell.output.is_broken() {
            return Err(failure);
        }
        shell.output.failed(&failure);
        let interrupted = failure.code == ErrorCode::Interrupted;
        failed.push(Failed { remote: name.clone(), failure });
        if interrupted {
            break;
        }
    }
    Ok(failed)
}

/// The same with whole remote paths in place of what was typed, where that is a name for one.
pub fn with_paths(shell: &Shell, mut failed: Vec<Failed>) -> Vec<Failed> {
    for one in &mut failed {
        if let Ok(path) = shell.remote(&one.remote) {
            one.remote = path.to_string();
        }
    }
    failed
}
