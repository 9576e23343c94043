//! The base of an upload by path: the file of the tree whose first bytes the upload began with.
//!
//! It lies beside the staged file, and is written before the first byte is copied. So a later
//! session knows which version the change has to replace, and whether all of the copied bytes came.

use std::os::unix::fs::FileExt;

use relais_proto::{Decoder, Encoder, Expect, Wire, wire_struct};
use relais_tree::TreeError;

use crate::staging::{StagedName, Staging};

wire_struct! {
    /// Where the first bytes of an upload by path came from.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct UploadBase {
        /// Required state of the path for the change.
        pub expect: Expect,
        /// Number of bytes that were copied from there.
        pub length: u64,
    }
}

impl Staging {
    /// Stores the base of an upload by path. The caller holds the lock of the staged file.
    ///
    /// # Errors
    /// Returns the errors of the folder.
    pub fn store_base(&self, name: &StagedName, base: &UploadBase) -> Result<(), TreeError> {
        let mut bytes = Vec::new();
        base.encode(&mut Encoder::new(&mut bytes));
        let file = self.staged.create_or_open_part(name.base())?;
        // One write, so that no other process sees a part of it.
        file.write_all_at(&bytes, 0).map_err(|e| TreeError::Io("write the staged file", e))
    }

    /// Reads the base of an upload by path; `None` if it has none.
    ///
    /// # Errors
    /// Returns the errors of the folder, and an error for a file that is incomplete.
    pub fn base(&self, name: &StagedName) -> Result<Option<UploadBase>, TreeError> {
        let file = match self.staged.open_read(name.base()) {
            Ok(open) => open.file,
            Err(TreeError::NotFound) => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut bytes = [0; 64];
        let read = file.read_at(&mut bytes, 0).map_err(|e| TreeError::Io("read", e))?;
        let base = UploadBase::decode(&mut Decoder::new(&bytes[..read]));
        base.map(Some).map_err(|e| TreeError::Io("read", std::io::Error::other(e)))
    }
}

#[cfg(test)]
mod tests {
    use relais_proto::{Lsn, TreePath};
    use relais_tree::Folder;

    use super::*;

    #[test]
    fn bases_are_found_again_and_go_with_the_upload() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(crate::metadata_folder::FOLDER)).unwrap();
        let staging = Staging::open(&Folder::open(dir.path()).unwrap()).unwrap();
        let name = StagedName::for_path(1, "ann", None, &TreePath::new("f").unwrap());
        assert_eq!(staging.base(&name).unwrap(), None);
        let expect = Expect::Lsn(Lsn { epoch: 3, number: 1 << 40 });
        for length in [u64::MAX, 7] {
            let base = UploadBase { expect, length };
            staging.store_base(&name, &base).unwrap();
            assert_eq!(staging.base(&name).unwrap(), Some(base));
        }
        // A power cut may leave an empty file.
        let path = dir.path().join(".relais/staging").join(name.base());
        std::fs::write(&path, "").unwrap();
        assert!(staging.base(&name).is_err());
        staging.discard(&name);
        assert!(!path.exists());
    }
}
