//! How much of what a server lists may be kept: it could go on naming files for ever.

/// Bytes of names and of what goes with them: some millions of names of the usual length.
const MOST: usize = 512 * 1024 * 1024;

/// Room for the names of one listing.
#[derive(Debug)]
pub struct ListingBudget {
    left: usize,
}

impl Default for ListingBudget {
    fn default() -> Self {
        Self { left: MOST }
    }
}

impl ListingBudget {
    /// Room for so many bytes.
    #[cfg(test)]
    pub fn with_limit(left: usize) -> Self {
        Self { left }
    }

    /// Takes room for a value of type `T` with a text of `len` bytes; false where there is no more.
    #[must_use]
    pub fn take<T>(&mut self, len: usize) -> bool {
        match self.left.checked_sub(len + size_of::<T>()) {
            Some(left) => self.left = left,
            None => return false,
        }
        true
    }
}
