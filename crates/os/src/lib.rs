//! What the servers need of the operating system beyond the standard library.
//!
//! The crate owns the atomic replacement of files and random bytes. It knows neither what the
//! bytes mean nor which process it runs in.

mod atomic_file;

pub use atomic_file::{
    display_path, sync_folder_of, write_atomically, write_atomically_as, write_new,
};

/// Returns random bytes from the kernel.
///
/// # Errors
/// The kernel provides no random bytes.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}
