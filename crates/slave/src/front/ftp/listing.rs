//! The lines of LIST, NLST, MLSD and of STAT with a path, page by page.
//!
//! It holds one page, however many names a folder has. It does not send.

use std::time::{SystemTime, UNIX_EPOCH};

use relais_engine::{KeepAlive, Listing};
use relais_ftp::listing::{write_list_line, write_nlst_line};
use relais_ftp::pattern::Pattern;
use relais_ftp::{ListOptions, MlsxWriter, Reply};
use relais_proto::{Entry, ErrorCode, FileTime, Kind, Refusal, TreePath};

use super::control::ControlKeepAlive;
use super::session::{CommandError, FtpSession};
use super::transfer::listing::ListingText;

/// Bytes of lines that are made before they are sent.
const PAGE: usize = 64 * 1024;

/// The form of a line.
enum LineFormat {
    /// LIST: as of `ls -l`, with the time of the listing.
    Long(FileTime),
    /// NLST: the name behind the folder that the client wrote.
    Name(String),
    /// MLSD.
    Facts(Box<MlsxWriter>),
}

impl LineFormat {
    fn write(&self, to: &mut Vec<u8>, entry: &Entry) {
        match self {
            Self::Long(now) => write_list_line(to, entry, *now),
            Self::Name(folder) => write_nlst_line(to, folder, &entry.name),
            Self::Facts(writer) => writer.entry(to, entry),
        }
    }
}

/// A listing that has begun: its folder exists.
pub struct ListingLines<'a> {
    /// Lines before those of the folder.
    first: Vec<u8>,
    folder: Option<Listing>,
    format: LineFormat,
    /// Whether names that begin with a dot are shown.
    all: bool,
    pattern: Option<Pattern<'a>>,
}

impl ListingText for ListingLines<'_> {
    /// It does not wait, so it needs no keep-alive.
    fn next_lines(&mut self, to: &mut Vec<u8>, _: &mut dyn KeepAlive) -> Result<bool, Refusal> {
        let end = to.len() + PAGE;
        let has_first = !self.first.is_empty();
        to.append(&mut self.first);
        let Some(folder) = &mut self.folder else { return Ok(has_first) };
        let (format, all, pattern) = (&self.format, self.all, &self.pattern);
        let has_entries = folder.next_page(&mut |entry| {
            if to.len() >= end {
                return false;
            }
            let is_shown = match pattern {
                Some(pattern) => pattern.matches(&entry.name),
                None => all || !entry.name.starts_with('.'),
            };
            if is_shown {
                format.write(to, entry);
            }
            true
        })?;
        Ok(has_first || has_entries)
    }
}

impl FtpSession {
    /// Begins LIST, or STAT with a path: RFC 959 section 4.1.3.
    ///
    /// Names that begin with a dot are shown with `-a`, as by `ls` and vsftpd.
    ///
    /// # Errors
    /// The reply if there is no such folder or file.
    pub fn list_long<'a>(
        &mut self,
        options: &'a ListOptions,
    ) -> Result<ListingLines<'a>, CommandError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let now = FileTime { seconds, nanos: since.subsec_nanos() };
        self.list(options, |_| LineFormat::Long(now))
    }

    /// Begins NLST: RFC 959 section 4.1.3. A name is a path that the client can use as it is.
    ///
    /// # Errors
    /// As [`Self::list_long`].
    pub fn list_names<'a>(
        &mut self,
        options: &'a ListOptions,
    ) -> Result<ListingLines<'a>, CommandError> {
        self.list(options, |folder| {
            let has_end = folder.is_empty() || folder.ends_with('/');
            LineFormat::Name(format!("{folder}{}", if has_end { "" } else { "/" }))
        })
    }

    /// Begins MLSD: RFC 3659 section 7. It shows all names, and neither itself nor its parent.
    ///
    /// # Errors
    /// 501 for a file (RFC 3659 section 7.2.1); as [`Self::list_long`].
    pub fn list_facts(
        &mut self,
        argument: Option<&str>,
    ) -> Result<ListingLines<'static>, CommandError> {
        let path = self.path(argument.unwrap_or_default())?;
        if self.entry(&path)?.kind == Kind::File {
            return Err(Reply::new(501, format!("{path}: a file; MLST shows it")).into());
        }
        let is_writable = self.session.principal().rights.can_write();
        let writer = MlsxWriter::new(self.state.settings.facts, is_writable, &path);
        let folder = Some(self.open_folder(&path)?);
        let format = LineFormat::Facts(Box::new(writer));
        Ok(ListingLines { first: Vec::new(), folder, format, all: true, pattern: None })
    }

    /// Begins a listing of a folder, a file, or of the names that match a pattern.
    fn list<'a>(
        &mut self,
        options: &'a ListOptions,
        format: impl FnOnce(&str) -> LineFormat,
    ) -> Result<ListingLines<'a>, CommandError> {
        let argument = options.path.as_deref().unwrap_or_default();
        let (all, first) = (options.all, Vec::new());
        let missing = match self.path(argument).map(|path| (self.entry(&path), path)) {
            Ok((Ok(entry), path)) if entry.kind == Kind::Folder => {
                let (folder, format) = (Some(self.open_folder(&path)?), format(argument));
                return Ok(ListingLines { first, folder, format, all, pattern: None });
            }
            Ok((Ok(entry), _)) => return Ok(one_line(argument, &entry, format)),
            Ok((Err(refusal), _)) if refusal.code == ErrorCode::NotFound => refusal.into(),
            Ok((Err(refusal), _)) => return Err(refusal.into()),
            Err(reply) => reply.into(),
        };
        // A name may contain the characters of patterns, so the name is looked for first.
        let Some(pattern) = Pattern::parse(argument) else { return Err(missing) };
        let path = self.path(pattern.folder)?;
        let (folder, format) = (Some(self.open_folder(&path)?), format(pattern.folder));
        Ok(ListingLines { first, folder, format, all, pattern: Some(pattern) })
    }

    fn open_folder(&mut self, path: &TreePath) -> Result<Listing, Refusal> {
        self.session.list(path, "", None, &mut ControlKeepAlive(&mut self.control))
    }
}

/// Makes the listing of one file.
fn one_line<'a>(
    argument: &str,
    entry: &Entry,
    format: impl FnOnce(&str) -> LineFormat,
) -> ListingLines<'a> {
    let end = argument.rfind('/').map_or(0, |slash| slash + 1);
    let (mut first, format) = (Vec::new(), format(&argument[..end]));
    format.write(&mut first, entry);
    ListingLines { first, folder: None, format, all: true, pattern: None }
}
