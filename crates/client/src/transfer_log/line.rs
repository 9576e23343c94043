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

use relais_proto::{Expect, FileTime, Lsn, NameError, TreePath, limits};
use relais_transfer::download::Resume;
use relais_transfer::{MOST_RANGES, Ranges, RangesError};
use thiserror::Error;

use super::names::short_hash;
use super::{TransferEntry, TransferTask, UploadRecord};
use crate::origin::{Origin, host_key};
use crate::session::Host;

/// Longest line in bytes: two names of 4,095 bytes, tripled by the escaping, and 256 ranges.
pub(super) const MAX_LINE: usize = 40 * 1024;
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
    /// The remote name breaks the rules for names.
    #[error("its remote name is not allowed: {0}")]
    Remote(NameError),
    /// The ranges cannot be parsed.
    #[error("its ranges cannot be read: {0}")]
    Ranges(RangesError),
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
pub(super) fn format(entry: &TransferEntry) -> String {
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

/// Parses a line.
pub(super) fn parse(line: &[u8]) -> Result<TransferEntry, LineError> {
    if line.len() > MAX_LINE {
        return Err(LineError::TooLong);
    }
    let line = std::str::from_utf8(line).map_err(|_| LineError::NotUtf8)?;
    let (front, check) = line.rsplit_once(' ').ok_or(LineError::Fields)?;
    if short_hash(&line.as_bytes()[..=front.len()]) != check {
        return Err(LineError::Checksum);
    }
    let fields: Vec<&str> = front.split(' ').collect();
    let (&[tag, command], rest) = fields.split_first_chunk().ok_or(LineError::Fields)?;
    if tag != TAG || !COMMANDS.contains(&command) {
        return Err(LineError::Unknown(line.to_owned()));
    }
    let (&[remote, local, host, authority, cluster, since], state) =
        rest.split_first_chunk().ok_or(LineError::Fields)?;
    let entry = TransferEntry {
        remote: parse_remote(remote)?,
        local: parse_local(local)?,
        origin: Origin {
            host: parse_host(host).ok_or(LineError::Field("host"))?,
            authority: optional(authority, |text| text.parse().ok())
                .ok_or(LineError::Field("authority"))?,
            cluster: cluster.parse().map_err(|_| LineError::Field("cluster"))?,
        },
        since: since.parse().map_err(|_| LineError::Field("time of its beginning"))?,
        task: parse_task(command, state)?,
    };
    if entry.remote.is_root()
        && !matches!(entry.task, TransferTask::GetTree | TransferTask::PutTree)
    {
        return Err(LineError::Field("remote name"));
    }
    // Each value has one valid spelling only.
    if format(&entry) == line { Ok(entry) } else { Err(LineError::Field("spelling")) }
}

fn parse_task(command: &str, state: &[&str]) -> Result<TransferTask, LineError> {
    match (command, state) {
        ("get", &[version, size, digest, identity, mtime, ranges]) => {
            parse_get([version, size, digest, identity, mtime, ranges]).map(TransferTask::Get)
        }
        ("put", &[id, slave, size, identity, expect, sent]) => {
            parse_put([id, slave, size, identity, expect, sent]).map(TransferTask::Put)
        }
        ("get-r", []) => Ok(TransferTask::GetTree),
        ("put-r", []) => Ok(TransferTask::PutTree),
        _ => Err(LineError::Fields),
    }
}

fn parse_put(
    [id, slave, size, identity, expect, sent]: [&str; 6],
) -> Result<UploadRecord, LineError> {
    let upload = UploadRecord {
        id: id.parse().map_err(|_| LineError::Field("id"))?,
        slave: optional(slave, |text| text.parse().ok()).ok_or(LineError::Field("slave"))?,
        size: size
            .parse()
            .ok()
            .filter(|size| *size <= limits::FILE_SIZE)
            .ok_or(LineError::Field("size"))?,
        identity: identity.parse().map_err(|_| LineError::Field("identity"))?,
        expect: parse_expect(expect).ok_or(LineError::Field("expectation"))?,
        sent: sent.parse().map_err(|_| LineError::Field("number of bytes"))?,
    };
    if upload.sent > upload.size { Err(LineError::BeyondSize) } else { Ok(upload) }
}

/// Parses a host in its canonical spelling, with its port.
fn parse_host(field: &str) -> Option<String> {
    let text = unescape(field)?;
    let host: Host = text.parse().ok()?;
    (host_key(&host) == text).then_some(text)
}

fn parse_expect(text: &str) -> Option<Expect> {
    Some(match text {
        ANY => Expect::Any,
        ABSENT => Expect::Absent,
        UNNUMBERED => Expect::Unnumbered,
        version => Expect::Lsn(parse_version(version)?),
    })
}

fn parse_remote(field: &str) -> Result<TreePath, LineError> {
    if field == TOP {
        return Ok(TreePath::root());
    }
    let path = TreePath::new(unescape(field).ok_or(LineError::Field("remote name"))?)
        .map_err(LineError::Remote)?;
    if path.is_root() { Err(LineError::Field("remote name")) } else { Ok(path) }
}

fn parse_local(field: &str) -> Result<String, LineError> {
    unescape(field)
        .filter(|name| !name.is_empty() && name.len() <= MAX_LOCAL_NAME && !name.contains('\0'))
        .ok_or(LineError::Field("local name"))
}

fn parse_get(fields: [&str; 6]) -> Result<Option<Resume>, LineError> {
    if fields.iter().all(|field| *field == NONE) {
        return Ok(None);
    }
    let [version, size, digest, identity, mtime, ranges] = fields;
    let state = Resume {
        size: size.parse().map_err(|_| LineError::Field("size"))?,
        mtime: parse_mtime(mtime).ok_or(LineError::Field("time"))?,
        digest: optional(digest, |text| text.parse().ok()).ok_or(LineError::Field("digest"))?,
        identity: optional(identity, |text| text.parse().ok())
            .ok_or(LineError::Field("identity"))?,
        version: optional(version, parse_version).ok_or(LineError::Field("version"))?,
        good: ranges.parse::<Ranges>().map_err(LineError::Ranges)?,
    };
    if state.good.end() > state.size { Err(LineError::BeyondSize) } else { Ok(Some(state)) }
}

/// Parses an optional field; the outer none means that it is invalid.
fn optional<T>(field: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if field == NONE { Some(None) } else { read(field).map(Some) }
}

fn parse_version(text: &str) -> Option<Lsn> {
    let (epoch, number) = text.split_once('-')?;
    Some(Lsn { epoch: epoch.parse().ok()?, number: number.parse().ok()? })
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
