//! Pages of a listing.

use crate::{Decode, Decoder, Encoder, Entry, NameError, WireError, limits};

/// Entries of a listing, kept as they came: they are decoded one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntriesPage(pub(super) Vec<u8>);

impl EntriesPage {
    /// The entries, checked when the page was decoded.
    pub fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        let mut from = Decoder::new(&self.0);
        std::iter::from_fn(
            move || if from.is_empty() { None } else { Entry::decode(&mut from).ok() },
        )
    }

    pub(super) fn decode_all(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let bytes = from.rest();
        let mut check = Decoder::new(bytes);
        while !check.is_empty() {
            // Only the top of the tree has no name, and it lies in no folder.
            if Entry::decode(&mut check)?.name.is_empty() {
                return Err(NameError::EmptyPart.into());
            }
        }
        Ok(Self(bytes.to_vec()))
    }
}

/// Collects entries for one frame.
#[derive(Debug, Default)]
pub struct PageBuilder(Vec<u8>);

impl PageBuilder {
    /// An empty page.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry; false, and nothing added, where the page has no room for it.
    pub fn push(&mut self, entry: &Entry) -> bool {
        let before = self.0.len();
        entry.encode(&mut Encoder::new(&mut self.0));
        if self.0.len() > limits::CONTROL_FRAME as usize {
            self.0.truncate(before);
            return false;
        }
        true
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The page.
    #[must_use]
    pub fn finish(self) -> EntriesPage {
        EntriesPage(self.0)
    }
}
