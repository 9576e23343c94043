//! The name of this program, as peers see it in logs.

/// Returns program and version.
pub(crate) fn agent() -> String {
    format!("ftpslave {}", env!("CARGO_PKG_VERSION"))
}
