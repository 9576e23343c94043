//! Memory that a process shares with its forked children.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

/// Maps `count` words, all 0, which all processes share that are forked from here on.
///
/// They are never unmapped: they live as long as the last of these processes.
///
/// # Errors
/// Those of the mapping; [`io::ErrorKind::InvalidInput`] if `count` is 0 or too large.
pub fn shared_words(count: usize) -> io::Result<&'static [AtomicU64]> {
    let len = count
        .checked_mul(size_of::<AtomicU64>())
        .and_then(NonZeroUsize::new)
        .ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: a fresh anonymous mapping touches no existing memory.
    let address = unsafe {
        mmap_anonymous(
            None,
            len,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_SHARED,
        )
    }?;
    // SAFETY: the mapping is page-aligned, as large as the slice and filled with zeros, each a
    // valid atomic. It is never unmapped, and only ever borrowed shared.
    Ok(unsafe { NonNull::slice_from_raw_parts(address.cast(), count).as_ref() })
}
