//! Uploads by path: their clients name neither an id nor a size, and find a cut one by its path.
//!
//! A staged file has a name that is derived from user and path; that of users without an account
//! of their own also from the client's address. Each commit has a fresh id, so a repeated upload is
//! a new change. While a cut upload of a path is pending, sizes and offsets refer to it. It is
//! never joined to other content: what a client has been told about a path must still hold when it
//! continues there.

use std::sync::Arc;

use log::debug;
use relais_proto::{Change, ChangeId, ErrorCode, Expect, PutRequest, Refusal, TreePath};
use relais_storage::UploadBase;

use crate::change::{PreparedChange, bind_id};
use crate::context::SessionContext;
use crate::cut_upload::{CutUpload, ReportedSize, unseal};
use crate::engine::unreadable;
use crate::keep_alive::KeepAlive;
use crate::remote_content::RemoteContent;
use crate::session::Session;
use crate::staged::hash_staged;
use crate::staged_hasher::StagedHasher;
use crate::transfer_log::LoggedCommand;
use crate::upload::{Upload, check_target};
use crate::upload_prefix::{ExistingFile, PrefixUpload, find_existing};

/// Where an upload by path begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadStart {
    /// At the first byte; an older cut upload of this path is discarded.
    New,
    /// At this offset of the cut upload, or of the present content if none is pending.
    At(u64),
    /// At the end of the cut upload, or of the present content if none is pending.
    Append,
}

/// What a user's sessions have left of an upload by path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingUpload {
    /// Nothing.
    None,
    /// Some bytes.
    Here(u64),
    /// Some bytes on another slave.
    Elsewhere,
}

/// An upload by path that has begun.
pub enum PathUpload {
    /// The client's bytes can be written.
    Ready(Upload),
    /// The first bytes of `content`, which is on other slaves, have to be written before.
    NeedsPrefix {
        /// Takes these bytes.
        upload: PrefixUpload,
        /// The content that they are of.
        content: Box<RemoteContent>,
    },
}

impl Session {
    /// Returns what is left of an upload to `path`. A session that still receives it is ended,
    /// because its client has come back.
    ///
    /// An upload of this session that continues at `path` is refused if this no longer holds.
    ///
    /// # Errors
    /// Those of the folder and of [`Session::check_ready`].
    pub fn pending_upload(
        &self,
        path: &TreePath,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<PendingUpload, Refusal> {
        self.check_ready(keepalive)?;
        let context = &self.context;
        if path.is_root() || !context.principal.rights.can_write() {
            return Ok(PendingUpload::None);
        }
        context.visible(context.principal.resolve(path).and_then(|path| {
            let entry = context.with_catalogue(|store| store.version_at(&path))?;
            let cut = CutUpload::find(context, &path, keepalive)?;
            let pending = cut.map(|cut| cut.length);
            let is_elsewhere =
                pending.is_none() && CutUpload::is_elsewhere(context, &path, keepalive)?;
            let entry = Expect::exactly(entry);
            *self.reported_size.borrow_mut() = Some(ReportedSize { path, pending, entry });
            Ok(match pending {
                Some(bytes) => PendingUpload::Here(bytes),
                None if is_elsewhere => PendingUpload::Elsewhere,
                None => PendingUpload::None,
            })
        }))
    }

    /// Begins an upload by path. `announced` is the size of the whole file, if it is known.
    ///
    /// The upload stays pending if it is dropped after bytes of the client have come.
    ///
    /// # Errors
    /// [`ErrorCode::BadOffset`] if there is less than the client continues from;
    /// [`ErrorCode::Changed`] if the path has other content or another cut upload than
    /// [`Self::pending_upload`] has last reported; [`ErrorCode::NoSpace`]; those of
    /// [`Self::begin_upload`].
    pub fn begin_path_upload(
        &self,
        path: &TreePath,
        start: UploadStart,
        announced: Option<u64>,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<PathUpload, Refusal> {
        let mut record = self.begin(LoggedCommand::Put, path, None, keepalive)?;
        let reported = self.reported_size.take();
        let begun = begin(&self.context, path, start, (announced, reported), keepalive);
        let mut begun = self.context.recorded(&mut record, begun)?;
        match &mut begun {
            PathUpload::Ready(upload) => upload.activate(record),
            PathUpload::NeedsPrefix { upload, .. } => upload.activate(record),
        }
        Ok(begun)
    }

    /// Gives up a complete upload by path whose change was not handed in: it stays pending as if
    /// it had been cut.
    pub fn keep_upload(&self, change: PreparedChange) {
        let (Change::Put { path, size, .. }, Some(sealed)) =
            (&change.proposal.change, &change.proposal.staged)
        else {
            return;
        };
        let expect = change.proposal.expect;
        if let Err(e) = unseal(&self.context, (sealed, *size), path, expect) {
            debug!("a complete upload is not kept: {e}");
            self.context.discard_upload(sealed);
        }
    }
}

fn begin(
    context: &Arc<SessionContext>,
    path: &TreePath,
    start: UploadStart,
    (announced, reported): (Option<u64>, Option<ReportedSize>),
    keepalive: &mut dyn KeepAlive,
) -> Result<PathUpload, Refusal> {
    if path.is_root() {
        return Err(Refusal::at(path, ErrorCode::IsFolder, "a folder has that name"));
    }
    let path = context.principal.resolve(path)?;
    // The clients of uploads by path know no locks.
    check_target(context, &path, &[])?;
    let random = relais_os::random().map_err(|e| unreadable(&path, &e))?;
    let id = bind_id(&context.principal, ChangeId(random), b"put", &[&path], None);
    let reported = reported.filter(|reported| reported.path == path);
    let mut cut = CutUpload::claim(context, &path, keepalive)?;
    let begin = UploadBegin { context, path: &path, announced };
    let begun = match start {
        UploadStart::New | UploadStart::At(0) => begin.anew(&mut cut),
        UploadStart::At(offset) => begin.at(&mut cut, Some(offset), reported, keepalive),
        UploadStart::Append => begin.at(&mut cut, None, reported, keepalive),
    };
    let BegunUpload { hasher, missing } = begun.inspect_err(|_| cut.discard_if_empty(context))?;
    let base = cut.base.unwrap_or(UploadBase { expect: Expect::Any, length: 0 });
    let request =
        PutRequest { offset: cut.length, expect: base.expect, ..PutRequest::new(id, path) };
    let upload = Upload::by_path(context, request, (cut.name, cut.file), hasher, base.length);
    Ok(match missing {
        None => PathUpload::Ready(upload),
        Some(content) => PathUpload::NeedsPrefix {
            upload: PrefixUpload::new(upload, &content, base.length),
            content,
        },
    })
}

/// A staged file that is ready for the bytes of its client.
struct BegunUpload {
    /// Has hashed the bytes that are there.
    hasher: StagedHasher,
    /// The content whose first bytes have to come from another slave.
    missing: Option<Box<RemoteContent>>,
}

/// How an upload by path begins.
struct UploadBegin<'a> {
    context: &'a Arc<SessionContext>,
    path: &'a TreePath,
    announced: Option<u64>,
}

impl UploadBegin<'_> {
    fn anew(&self, cut: &mut CutUpload) -> Result<BegunUpload, Refusal> {
        self.make_room(cut, 0, 0)?;
        cut.clear(self.context, self.path)?;
        Ok(BegunUpload { hasher: self.context.staged_hasher(None), missing: None })
    }

    /// Begins at an offset, or at the end.
    fn at(
        &self,
        cut: &mut CutUpload,
        offset: Option<u64>,
        reported: Option<ReportedSize>,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<BegunUpload, Refusal> {
        if cut.length == 0 {
            cut.check_nowhere_else(self.context, self.path, keepalive)?;
            let existing = find_existing(self.context, self.path, keepalive)?;
            self.check_reported(reported, None, |reported| reported.entry == existing.expect())?;
            return self.after_existing(cut, existing, offset, keepalive);
        }
        self.check_reported(reported, Some(cut.length), |_| true)?;
        let offset = self.check_offset(offset, cut.length, "the cut upload has only")?;
        self.make_room(cut, offset, 0)?;
        cut.truncate(self.context, self.path, offset)?;
        let hasher = hash_staged(self.context, &cut.file, (offset, None), self.path, keepalive)?;
        Ok(BegunUpload { hasher, missing: None })
    }

    /// Begins after the first bytes of the present content.
    fn after_existing(
        &self,
        cut: &mut CutUpload,
        existing: ExistingFile,
        offset: Option<u64>,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<BegunUpload, Refusal> {
        let (context, path) = (self.context, self.path);
        let length = self.check_offset(offset, existing.size(), "the file has only")?;
        self.make_room(cut, 0, length)?;
        cut.set_base(context, path, UploadBase { expect: existing.expect(), length })?;
        let mut hasher = self.context.staged_hasher(None);
        let missing = match existing {
            _ if length == 0 => None,
            ExistingFile::Absent => None,
            ExistingFile::Here(file) => {
                hasher = file.copy_prefix(context, path, (&cut.file, length), keepalive)?;
                cut.length = length;
                None
            }
            ExistingFile::Elsewhere(file) => Some(file.content),
        };
        Ok(BegunUpload { hasher, missing })
    }

    /// Checks that what the user was told about the path still holds.
    fn check_reported(
        &self,
        reported: Option<ReportedSize>,
        pending: Option<u64>,
        is_current: impl FnOnce(&ReportedSize) -> bool,
    ) -> Result<(), Refusal> {
        if reported.is_none_or(|reported| reported.pending == pending && is_current(&reported)) {
            return Ok(());
        }
        let message = "the file or its cut upload has changed since its size was asked for; \
            ask again";
        Err(Refusal::at(self.path, ErrorCode::Changed, message))
    }

    fn check_offset(&self, offset: Option<u64>, end: u64, what: &str) -> Result<u64, Refusal> {
        match offset {
            Some(offset) if offset > end => {
                let message = format!("{what} {end} bytes");
                Err(Refusal::at(self.path, ErrorCode::BadOffset, message))
            }
            offset => Ok(offset.unwrap_or(end)),
        }
    }

    /// Checks the disk and the limits of uploads, with `there` bytes staged and `copied` to come.
    fn make_room(&self, cut: &CutUpload, there: u64, copied: u64) -> Result<(), Refusal> {
        let announced = self.announced.unwrap_or(0).saturating_sub(there + copied);
        let more = copied.saturating_add(announced);
        self.context.check_disk_space(self.path, more)?;
        let uploads = self.context.host().uploads();
        uploads.begin(&cut.name, there, more, &self.context.staging)?;
        self.context.host().path_upload_began(&cut.name);
        Ok(())
    }
}
