//! A limit on the names that a server may list, because a hostile server could list without end.

/// Bytes of names and their records: some millions of names of usual length.
const MAX_BYTES: usize = 512 * 1024 * 1024;

/// The remaining bytes for the names of one listing.
#[derive(Debug)]
pub struct ListingBudget {
    left: usize,
}

impl Default for ListingBudget {
    fn default() -> Self {
        Self { left: MAX_BYTES }
    }
}

impl ListingBudget {
    /// Creates a budget of this many bytes.
    #[cfg(test)]
    pub fn with_limit(left: usize) -> Self {
        Self { left }
    }

    /// Takes the bytes of a `T` with a text of `len` bytes; returns false if too few are left.
    pub fn take<T>(&mut self, len: usize) -> bool {
        match self.left.checked_sub(len + size_of::<T>()) {
            Some(left) => self.left = left,
            None => return false,
        }
        true
    }
}
