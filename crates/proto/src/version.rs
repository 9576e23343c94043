//! Versions of the protocol, and the choice of one.

use crate::WireError;

/// Protocol versions that this crate speaks, lowest and highest.
pub const VERSIONS: (u16, u16) = (1, 1);

/// Returns the highest version that two ranges share.
///
/// # Errors
/// [`WireError::NoCommonVersion`] with both ranges if they share none.
pub fn common_version(ours: (u16, u16), theirs: (u16, u16)) -> Result<u16, WireError> {
    let highest = ours.1.min(theirs.1);
    if theirs.0 <= theirs.1 && highest >= ours.0 && highest >= theirs.0 {
        Ok(highest)
    } else {
        Err(WireError::NoCommonVersion { ours, theirs })
    }
}
