//! Random bytes.

/// Returns random bytes from the kernel.
///
/// # Errors
/// The kernel provides no random bytes.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}
