//! What the URL of an upload says: whose upload it is, of what, and how it is stored.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use relais_proto::{
    ChangeId, Decoder, Encoder, Expect, FileTime, FolderId, PutRequest, TreePath, Wire, WireError,
    limits,
};

/// The first byte: the version of the layout.
const LAYOUT: u8 = 1;

/// An upload of a user, which is resumed by its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadToken {
    /// Name of the user.
    pub user: String,
    /// The folder in which the content is staged.
    pub folder: FolderId,
    /// Id of the change.
    pub id: ChangeId,
    /// Path of the file, as the user sees it.
    pub path: TreePath,
    /// Size of the whole content.
    pub size: u64,
    /// What the change replaces.
    pub expect: Expect,
    /// Time of last modification; none for the time of the upload.
    pub mtime: Option<FileTime>,
    /// The SHA-256 that the whole content must have.
    pub sha256: Option<[u8; 32]>,
    /// When the URL ends, in milliseconds since 1970.
    pub ends_ms: u64,
}

impl UploadToken {
    /// Returns the request that continues the upload at an offset.
    #[must_use]
    pub fn put_request(&self, offset: u64) -> PutRequest {
        PutRequest {
            size: Some(self.size),
            offset,
            expect: self.expect,
            mtime: self.mtime,
            ..PutRequest::new(self.id, self.path.clone())
        }
    }

    /// Returns the fields, which have to be sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        let to = &mut Encoder::new(&mut bytes);
        to.u8(LAYOUT).short_text(&self.user).bytes(&self.folder.0);
        self.id.encode(to);
        to.path(&self.path).u64(self.size);
        self.expect.encode(to);
        to.bool(self.mtime.is_some());
        self.mtime.unwrap_or_default().encode(to);
        to.bool(self.sha256.is_some()).bytes(&self.sha256.unwrap_or_default());
        to.u64(self.ends_ms);
        bytes
    }

    /// Takes the fields apart.
    ///
    /// # Errors
    /// They have another layout.
    pub fn decode(fields: &[u8]) -> Result<Self, WireError> {
        let mut from = Decoder::new(fields);
        let layout = from.u8()?;
        if layout != LAYOUT {
            return Err(WireError::BadValue { what: "upload layout", value: layout.into() });
        }
        let user = from.short_text("user name", limits::USER)?.to_owned();
        let folder = FolderId(from.array()?);
        let id = ChangeId::decode(&mut from)?;
        let (path, size) = (from.path()?, from.u64()?);
        let expect = Expect::decode(&mut from)?;
        let has_mtime = from.bool()?;
        let mtime = FileTime::decode(&mut from)?;
        let has_sha256 = from.bool()?;
        let (sha256, ends_ms) = (from.array()?, from.u64()?);
        from.finish()?;
        let (mtime, sha256) = (has_mtime.then_some(mtime), has_sha256.then_some(sha256));
        Ok(Self { user, folder, id, path, size, expect, mtime, sha256, ends_ms })
    }
}

/// Returns sealed fields as the last part of a URL.
#[must_use]
pub fn to_text(sealed: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(sealed)
}

/// Returns the sealed fields of the last part of a URL.
#[must_use]
pub fn from_text(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use relais_proto::Lsn;

    use super::*;

    #[test]
    fn fields_survive_the_url() {
        let token = UploadToken {
            user: "ann".to_owned(),
            folder: FolderId([3; 16]),
            id: ChangeId([1; 16]),
            path: TreePath::new("a/b c").unwrap(),
            size: 7,
            expect: Expect::Lsn(Lsn { epoch: 1, number: 42 }),
            mtime: Some(FileTime { seconds: 5, nanos: 0 }),
            sha256: Some([9; 32]),
            ends_ms: 77,
        };
        let bare = UploadToken { mtime: None, sha256: None, expect: Expect::Any, ..token.clone() };
        for token in [token, bare] {
            let text = to_text(&token.encode());
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
            assert_eq!(UploadToken::decode(&from_text(&text).unwrap()).unwrap(), token);
        }
        assert!(UploadToken::decode(&[LAYOUT + 1]).is_err() && from_text("+").is_none());
    }
}
