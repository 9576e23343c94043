//! Memory that a process shares with the children it forks.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

/// `N` words that this process and its children share, all 0 at first. They are never
/// unmapped: they live as long as the last of these processes.
#[derive(Debug)]
pub struct SharedWords<const N: usize> {
    words: NonNull<[AtomicU64; N]>,
}

// SAFETY: atomics may be used from any thread, and only `&[AtomicU64; N]` is ever given out.
unsafe impl<const N: usize> Send for SharedWords<N> {}
// SAFETY: as above.
unsafe impl<const N: usize> Sync for SharedWords<N> {}

impl<const N: usize> SharedWords<N> {
    /// Fresh words, shared with all processes forked from here on.
    ///
    /// # Errors
    /// Those of the mapping.
    pub fn new() -> io::Result<Self> {
        let len = NonZeroUsize::new(size_of::<[AtomicU64; N]>()).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a fresh anonymous mapping touches no memory that exists.
        let address = unsafe { mmap_anonymous(None, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED) }?;
        Ok(Self { words: address.cast() })
    }
}

impl<const N: usize> Deref for SharedWords<N> {
    type Target = [AtomicU64; N];
    fn deref(&self) -> &[AtomicU64; N] {
        // SAFETY: the mapping is page-aligned, as large as the array, filled with zeros (a valid
        // atomic), never unmapped, and only ever borrowed shared.
        unsafe { self.words.as_ref() }
    }
}
