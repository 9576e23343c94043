//! `?tar` and `?zip`: a folder with everything in it as one stream.
//!
//! It is no snapshot. Each file is complete and of one version, but the tree may change meanwhile:
//! what is removed before its turn is left out. An error cuts the stream, so an incomplete archive
//! never looks complete. Memory and the number of open files do not depend on the tree.

mod content;
mod walk;

use std::io;
use std::sync::Arc;

use relais_archive::{ArchiveEntry, ArchiveWriter, EntryKind, TarWriter, ZipWriter};
use relais_engine::Session;
use relais_http::disposition::{Disposition, content_disposition};
use relais_http::{Response, Status};
use relais_proto::{Entry, ErrorCode, Kind, TreePath};
use relais_web::{BodyWriter, ResponseBody};

use self::walk::FolderWalk;
use crate::front::http::error::{HttpError, HttpResult};
use crate::front::http::keep_alive::HttpKeepAlive;
use crate::front::http::request::TreeRequest;
use crate::front::http::session::HttpSession;
use crate::front::replica_stream::{ContentSource, ReplicaDialer};

/// The name of the root in an archive.
const ROOT: &str = "files";
/// The permissions of a folder, of which the tree keeps none.
const FOLDER_MODE: u32 = 0o755;

/// The format of an archive.
#[derive(Debug, Clone, Copy)]
pub enum ArchiveFormat {
    /// ustar with pax records.
    Tar,
    /// zip without compression.
    Zip,
}

impl ArchiveFormat {
    /// Returns the format that a request asks for; none if it does not ask for an archive.
    ///
    /// # Errors
    /// Status 400 for a malformed query; 403 for a signed URL, which is for one path alone.
    pub fn of(request: &TreeRequest<'_>) -> HttpResult<Option<Self>> {
        let query = request.request.head.target.parameters()?;
        let formats = [("tar", Self::Tar), ("zip", Self::Zip)];
        let format = formats.into_iter().find(|(name, _)| query.has(name));
        let is_signed = request.request.credentials.are_in_url();
        if format.is_some() && is_signed {
            const ONE: &str = "a signed URL is for one path; log in here for an archive";
            return Err(HttpError::status(Status::FORBIDDEN, ONE));
        }
        Ok(format.map(|(_, format)| format))
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Tar => "application/x-tar",
            Self::Zip => "application/zip",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Zip => "zip",
        }
    }
}

/// Sends a folder that exists.
pub fn send(
    http: &mut HttpSession,
    request: &TreeRequest<'_>,
    format: ArchiveFormat,
) -> HttpResult {
    let name = format!("{}.{}", top_name(&request.path), format.extension());
    let mut response = Response::new(Status::OK)
        .with("Content-Type", format.media_type())
        .with("Content-Disposition", content_disposition(Disposition::Attachment, &name))
        .with("Cache-Control", "private, no-cache")
        .with("X-Content-Type-Options", "nosniff");
    http.add_common(request.request, &mut response);
    let spool = match format {
        ArchiveFormat::Tar => None,
        ArchiveFormat::Zip => Some(http.session.scratch_file()?),
    };
    let mut keepalive = http.keepalive();
    let (session, replicas) = (&http.session, &http.context.replicas);
    let mut spool = spool;
    let mut write = |writer: &mut BodyWriter<'_>| {
        let archive: &mut dyn ArchiveWriter = match spool.take() {
            Some(spool) => &mut ZipWriter::new(writer, spool),
            None => &mut TarWriter::new(writer),
        };
        Archiver { session, replicas, top: &request.path, archive, keepalive: &mut keepalive }.run()
    };
    let body = ResponseBody::Stream { length: None, write: &mut write };
    // After an error the connection cannot be used, whatever the reason.
    let sent = http.connection.respond(&response, body);
    sent.map_err(|e| HttpError::Connection(io::Error::other(e)))
}

fn top_name(path: &TreePath) -> &str {
    path.last().unwrap_or(ROOT)
}

/// Writes a folder into an archive.
struct Archiver<'a> {
    session: &'a Session,
    replicas: &'a Arc<ReplicaDialer>,
    top: &'a TreePath,
    archive: &'a mut dyn ArchiveWriter,
    keepalive: &'a mut HttpKeepAlive,
}

impl Archiver<'_> {
    fn run(mut self) -> io::Result<()> {
        let mut walk = FolderWalk::new(self.session, self.top.clone());
        while let Some((path, entry)) = walk.next(self.keepalive).map_err(io::Error::other)? {
            match entry.kind {
                Kind::Folder => self.write_folder(&path, &entry)?,
                Kind::File => self.write_file(&path, &entry)?,
            }
        }
        self.archive.finish()
    }

    fn write_folder(&mut self, path: &TreePath, entry: &Entry) -> io::Result<()> {
        let name = self.name_of(path);
        self.archive.begin_entry(&ArchiveEntry {
            path: &name,
            kind: EntryKind::Folder,
            modified: entry.mtime,
            mode: FOLDER_MODE,
        })
    }

    fn write_file(&mut self, path: &TreePath, entry: &Entry) -> io::Result<()> {
        let all = (0, u64::MAX);
        let source =
            match ContentSource::open(self.session, self.replicas, path, all, self.keepalive) {
                Ok(source) => source,
                // It was removed since its folder was listed.
                Err(e) if matches!(e.code, ErrorCode::NotFound | ErrorCode::IsFolder) => {
                    return Ok(());
                }
                Err(e) => return Err(io::Error::other(e)),
            };
        let (mode, modified) = content::attributes(&source, entry);
        let (name, kind) = (self.name_of(path), EntryKind::File(source.size()));
        self.archive.begin_entry(&ArchiveEntry { path: &name, kind, modified, mode })?;
        content::copy(source, self.replicas, self.archive, self.keepalive)
    }

    /// Returns the path in the archive, which begins with the name of the folder.
    fn name_of(&self, path: &TreePath) -> String {
        let below = path.relative_to(self.top);
        let below = below.as_ref().map_or(path.as_str(), TreePath::as_str);
        format!("{}/{below}", top_name(self.top))
    }
}
