//! The format of one line of the `.log`.
//!
//! `1 COMMAND REMOTE LOCAL HOST AUTHORITY CLUSTER SINCE ... CHECK`, one space between fields. The
//! dots stand for
//!
//! - for `get`: `VERSION SIZE DIGEST IDENTITY MTIME RANGES`, all of the remote file;
//! - for `put`: `ID SLAVE SIZE IDENTITY EXPECT SENT`, with size and identity of the local file;
//! - for `get-r` and `put-r`: nothing.
//!
//! In names, each byte other than printable ASCII is written as `%XX`, and so are space and `%`.
//! The root of the tree is `/`. An unknown value is `-`. EXPECT is a version, `any`, `absent` or
//! `unnumbered`.
//!
//! The check is the start of the BLAKE3 hash of all that precedes it, including the last space.
//! Every later format has another number or command in front and ends with the same check. This
//! version therefore recognises complete lines of later versions, and keeps them.

use std::str::{FromStr, Split};

use relais_net::Host;
use relais_proto::{Expect, FileTime, TreePath, limits};
use relais_transfer::{MOST_RANGES, Ranges, Resume};
use thiserror::Error;

use super::entry::{TransferEntry, TransferTask, UploadRecord};
use super::names::short_hash;
use crate::origin::{Origin, host_key};

/// Longest line in bytes: two names of 4,095 bytes, tripled by the escaping, and 256 ranges.
pub const MAX_LINE: usize = 40 * 1024;
/// Longest local name in bytes: `PATH_MAX` without its NUL.
const MAX_LOCAL_NAME: usize = 4095;
/// Number of the line format.
const TAG: &str = "1";
/// The commands of this format.
const COMMANDS: [&str; 4] = ["get", "put", "get-r", "put-r"];
/// Placeholder for an unknown value.
const NONE: &str = "-";
/// The root of the remote tree.
const TOP: &str = "/";
const ANY: &str = "any";
const ABSENT: &str = "absent";
const UNNUMBERED: &str = "unnumbered";

/// Why a line is ignored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LineError {
    /// The line is longer than any valid line.
    #[error("it is too long")]
    TooLong,
    /// The line is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// The line has the wrong number of fields.
    #[error("it has not the right number of fields")]
    Fields,
    /// The checksum does not match the line.
    #[error("its checksum does not fit")]
    Checksum,
    /// Another version of this program wrote the line, which is kept as it is.
    #[error("another version of ftpclient wrote it; it stays")]
    Unknown(String),
    /// A field has no valid value.
    #[error("its {0} cannot be read")]
    Field(&'static str),
    /// A range lies beyond the end of the content.
    #[error("its ranges go beyond the size")]
    BeyondSize,
    /// An earlier line has the same key.
    #[error("another line is about the same files")]
    Twice,
    /// The file has too many lines or bytes; the rest was not read.
    #[error("the file is too long; from here on it was not read")]
    FileTooLong,
}

/// Formats an entry as a line without the newline.
pub fn format(entry: &TransferEntry) -> String {
    let remote =
        if entry.remote.is_root() { TOP.to_owned() } else { escape(entry.remote.as_str()) };
    let mut line = format!(
        "{TAG} {} {remote} {} {} {} {} {} ",
        entry.task.command(),
        escape(&entry.local),
        escape(&entry.origin.host),
        or_none(entry.origin.authority),
        entry.origin.cluster,
        entry.since
    );
    match &entry.task {
        TransferTask::Get(None) => line.push_str("- - - - - - "),
        TransferTask::Get(Some(state)) => line.push_str(&format_get(state)),
        TransferTask::Put(UploadRecord { id, slave, size, identity, expect, sent }) => {
            line.push_str(&format!(
                "{id} {} {size} {identity} {} {sent} ",
                or_none(*slave),
                format_expect(*expect)
            ));
        }
        TransferTask::GetTree | TransferTask::PutTree => {}
    }
    let check = short_hash(line.as_bytes());
    line + &check
}

fn format_get(state: &Resume) -> String {
    let mut good = state.good.clone();
    // The line may claim fewer bytes than there are, never more.
    good.keep_first(MOST_RANGES);
    let FileTime { seconds, nanos } = state.mtime;
    let (version, digest, identity) =
        (or_none(state.version), or_none(state.digest), or_none(state.identity));
    format!("{version} {} {digest} {identity} {seconds}.{nanos:09} {good} ", state.size)
}

fn format_expect(expect: Expect) -> String {
    match expect {
        Expect::Any => ANY.to_owned(),
        Expect::Absent => ABSENT.to_owned(),
        Expect::Unnumbered => UNNUMBERED.to_owned(),
        Expect::Lsn(version) => version.to_string(),
    }
}

fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

/// Parses a line without the newline; accepts only the spelling of [`format`].
///
/// # Errors
/// Why the line is ignored.
pub fn parse(line: &[u8]) -> Result<TransferEntry, LineError> {
    if line.len() > MAX_LINE {
        return Err(LineError::TooLong);
    }
    let line = std::str::from_utf8(line).map_err(|_| LineError::NotUtf8)?;
    let (front, check) = line.rsplit_once(' ').ok_or(LineError::Fields)?;
    if short_hash(&line.as_bytes()[..=front.len()]) != check {
        return Err(LineError::Checksum);
    }
    let mut fields = Fields(front.split(' '));
    let (tag, command) = (fields.next()?, fields.next()?);
    if tag != TAG || !COMMANDS.contains(&command) {
        return Err(LineError::Unknown(line.to_owned()));
    }
    let entry = TransferEntry {
        remote: fields.remote()?,
        local: fields.name("local name", |name| {
            (!name.is_empty() && name.len() <= MAX_LOCAL_NAME && !name.contains('\0'))
                .then_some(name)
        })?,
        origin: Origin {
            host: fields.name("host", |text| {
                (host_key(&text.parse::<Host>().ok()?) == text).then_some(text)
            })?,
            authority: fields.optional("authority")?,
            cluster: fields.read("cluster")?,
        },
        since: fields.read("time of its beginning")?,
        task: match command {
            "get" => TransferTask::Get(parse_get(&mut fields)?),
            "put" => TransferTask::Put(parse_put(&mut fields)?),
            "get-r" => TransferTask::GetTree,
            _ => TransferTask::PutTree,
        },
    };
    if fields.next().is_ok() {
        return Err(LineError::Fields);
    }
    if entry.remote.is_root() && !entry.task.is_tree() {
        return Err(LineError::Field("remote name"));
    }
    if format(&entry) == line { Ok(entry) } else { Err(LineError::Field("spelling")) }
}

/// The fields of a line that are not parsed yet.
struct Fields<'a>(Split<'a, char>);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<&'a str, LineError> {
        self.0.next().ok_or(LineError::Fields)
    }

    fn read<T: FromStr>(&mut self, what: &'static str) -> Result<T, LineError> {
        self.next()?.parse().map_err(|_| LineError::Field(what))
    }

    fn optional<T: FromStr>(&mut self, what: &'static str) -> Result<Option<T>, LineError> {
        match self.next()? {
            NONE => Ok(None),
            field => field.parse().map(Some).map_err(|_| LineError::Field(what)),
        }
    }

    fn name(
        &mut self,
        what: &'static str,
        check: impl FnOnce(String) -> Option<String>,
    ) -> Result<String, LineError> {
        unescape(self.next()?).and_then(check).ok_or(LineError::Field(what))
    }

    fn remote(&mut self) -> Result<TreePath, LineError> {
        let path = match self.next()? {
            TOP => Some(TreePath::root()),
            field => unescape(field).and_then(|name| TreePath::new(name).ok()),
        };
        path.ok_or(LineError::Field("remote name"))
    }
}

fn parse_put(fields: &mut Fields<'_>) -> Result<UploadRecord, LineError> {
    let upload = UploadRecord {
        id: fields.read("id")?,
        slave: fields.optional("slave")?,
        size: fields.read("size")?,
        identity: fields.read("identity")?,
        expect: match fields.next()? {
            ANY => Expect::Any,
            ABSENT => Expect::Absent,
            UNNUMBERED => Expect::Unnumbered,
            version => Expect::Lsn(version.parse().map_err(|_| LineError::Field("expectation"))?),
        },
        sent: fields.read("number of bytes")?,
    };
    match upload {
        UploadRecord { size, .. } if size > limits::FILE_SIZE => Err(LineError::Field("size")),
        UploadRecord { size, sent, .. } if sent > size => Err(LineError::BeyondSize),
        _ => Ok(upload),
    }
}

/// Parses the state of a download; none before a server has sent anything.
fn parse_get(fields: &mut Fields<'_>) -> Result<Option<Resume>, LineError> {
    let version = fields.optional("version")?;
    let size: Option<u64> = fields.optional("size")?;
    let (digest, identity) = (fields.optional("digest")?, fields.optional("identity")?);
    let (mtime, good) = (fields.next()?, fields.read::<Ranges>("ranges")?);
    let Some(size) = size else { return Ok(None) };
    let mtime = parse_mtime(mtime).ok_or(LineError::Field("time"))?;
    let state = Resume { size, mtime, digest, identity, version, good };
    if state.good.end() > state.size { Err(LineError::BeyondSize) } else { Ok(Some(state)) }
}

fn parse_mtime(text: &str) -> Option<FileTime> {
    let (seconds, nanos) = text.split_once('.')?;
    let time = FileTime { seconds: seconds.parse().ok()?, nanos: nanos.parse().ok()? };
    (time.nanos <= 999_999_999).then_some(time)
}

/// Escapes space, `%` and all bytes other than printable ASCII as `%XX`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..=b' ' | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

/// Reverses [`escape`].
fn unescape(field: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (rest.next()?, rest.next()?);
                hex(high)? << 4 | hex(low)?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
