//! Pages of a listing.

use crate::{Decoder, Encoder, Entry, NameError, Wire, WireError, limits};

/// A page of entries in encoded form; the iterator decodes them one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntriesPage(Vec<u8>);

impl EntriesPage {
    /// Iterates over the entries. The decoder of the page has checked them.
    pub fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        let mut from = Decoder::new(&self.0);
        std::iter::from_fn(
            move || if from.is_empty() { None } else { Entry::decode(&mut from).ok() },
        )
    }
}

impl Wire for EntriesPage {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.bytes(&self.0);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let bytes = from.rest();
        let mut check = Decoder::new(bytes);
        while !check.is_empty() {
            // Only the root has no name, and it is in no folder.
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

    /// Adds an entry. Returns false, and adds nothing, if the page is full.
    pub fn push(&mut self, entry: &Entry) -> bool {
        let before = self.0.len();
        entry.encode(&mut Encoder::new(&mut self.0));
        if self.0.len() > limits::CONTROL_FRAME as usize {
            self.0.truncate(before);
            return false;
        }
        true
    }

    /// Returns whether the page is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the page.
    #[must_use]
    pub fn finish(self) -> EntriesPage {
        EntriesPage(self.0)
    }
}
