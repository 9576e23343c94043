//! Receives the body of a request as content of an upload, and checks its digests.

use relais_engine::{ChecksumAlgorithm, ChecksumHasher, Upload};
use relais_http::digest::{self, Sha256Digest};
use relais_http::{Headers, Status};
use relais_os::SplicePipe;

use crate::front::http::error::{HttpError, HttpResult};
use crate::front::http::session::HttpSession;

/// Bytes of one read of a body; they stay in the processor's cache until they are written.
const BUFFER: usize = 128 * 1024;

/// The digests that a client names (RFC 9530 sections 2 and 3).
#[derive(Debug, Clone, Copy, Default)]
pub struct BodyDigests {
    /// `Content-Digest`: of the body of this request.
    pub content: Option<Sha256Digest>,
    /// `Repr-Digest`: of the whole content.
    pub representation: Option<Sha256Digest>,
}

impl BodyDigests {
    /// Takes the digests from a request.
    ///
    /// # Errors
    /// Status 400 for malformed ones.
    pub fn of(headers: &Headers) -> HttpResult<Self> {
        let content = digest::parse(headers, "content-digest")?;
        let representation = digest::parse(headers, "repr-digest")?;
        Ok(Self { content, representation })
    }
}

/// An upload whose body could not be received. The caller decides what is kept of it.
pub struct FailedUpload {
    /// Why it failed.
    pub error: HttpError,
    /// What has come.
    pub upload: Upload,
}

/// Receives the body of the present request.
///
/// # Errors
/// The reason why it failed, with the upload.
pub fn receive(
    http: &mut HttpSession,
    mut upload: Upload,
    digests: &BodyDigests,
) -> Result<Upload, Box<FailedUpload>> {
    match receive_all(http, &mut upload, digests) {
        Ok(()) => Ok(upload),
        Err(error) => Err(Box::new(FailedUpload { error, upload })),
    }
}

/// The bytes of a large body go from the socket to the file without a copy, if they can.
fn receive_all(http: &mut HttpSession, upload: &mut Upload, digests: &BodyDigests) -> HttpResult {
    let wanted = [digests.content, digests.representation];
    let is_hashed = wanted.iter().any(Option::is_some);
    let mut hasher = is_hashed.then(|| ChecksumHasher::new(ChecksumAlgorithm::Sha256));
    let mut body = http.connection.body();
    let length = body.left().and_then(|left| usize::try_from(left).ok()).unwrap_or(BUFFER);
    let mut buffer = vec![0; length.clamp(1, BUFFER)];
    loop {
        let got = body.read(&mut buffer)?;
        if got == 0 {
            break;
        }
        if let Some(hasher) = &mut hasher {
            hasher.update(&buffer[..got]);
        }
        upload.write(&buffer[..got])?;
        if upload.is_large()
            && hasher.is_none()
            && body.can_be_spliced()
            && let Some(mut pipe) = SplicePipe::if_possible()
        {
            while body.read_into(&mut pipe)? > 0 {
                upload.write_from(&mut pipe)?;
            }
            break;
        }
    }
    let found = hasher.map(ChecksumHasher::finish);
    check_digest(found.as_deref(), wanted.iter().flatten())
}

/// Checks that content has the digests that its client has named.
///
/// # Errors
/// Status 400.
pub fn check_digest<'a>(
    found: Option<&[u8]>,
    mut wanted: impl Iterator<Item = &'a Sha256Digest>,
) -> HttpResult {
    if wanted.all(|wanted| found == Some(wanted.as_slice())) {
        return Ok(());
    }
    let text = "the content does not match its digest; nothing was stored";
    Err(HttpError::status(Status::BAD_REQUEST, text))
}
