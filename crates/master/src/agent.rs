//! The name of this program, as peers see it in logs.

/// Program and version, which peers get in `Welcome`.
pub(crate) const AGENT: &str = concat!("ftpmaster ", env!("CARGO_PKG_VERSION"));
