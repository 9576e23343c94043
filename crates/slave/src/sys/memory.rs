//! Memory that a process shares with its forked children.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

/// Words that this process and its children share, all 0 at first.
///
/// They are never unmapped: they live as long as the last of these processes.
#[derive(Debug)]
pub struct SharedWords {
    words: NonNull<[AtomicU64]>,
}

// SAFETY: any thread may use atomics, and only `&[AtomicU64]` is ever given out.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps `count` words, which all processes share that are forked from here on.
    ///
    /// # Errors
    /// Those of the mapping; [`io::ErrorKind::InvalidInput`] if `count` is 0 or too large.
    pub fn new(count: usize) -> io::Result<Self> {
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
        Ok(Self { words: NonNull::slice_from_raw_parts(address.cast(), count) })
    }
}

impl Deref for SharedWords {
    type Target = [AtomicU64];
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, as large as the slice and filled with zeros, each a
        // valid atomic. It is never unmapped, and only ever borrowed shared.
        unsafe { self.words.as_ref() }
    }
}
