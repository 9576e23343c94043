//! HASH, XSHA256, XMD5 and XCRC. They can take long, and ABOR cancels them.

use relais_engine::{Checksum, ChecksumAlgorithm, ChecksumHasher, KeepAlive, Located};
use relais_ftp::{ByteRange, HashAlgorithm, Reply, hash_text, hex};
use relais_proto::{ErrorCode, Refusal, TreePath};

use crate::front::ftp::control::ControlKeepAlive;
use crate::front::ftp::session::{CommandError, CommandResult, FtpSession};
use crate::front::ftp::state::TransferStart;
use crate::front::replica_stream::{ContentSource, ReplicaStream};

/// How often content is looked for that comes to this slave meanwhile.
const MAX_TRIES: u32 = 4;

/// HASH: draft-bryan-ftpext-hash section 3.1, for the range of REST or RANG if there is one.
pub fn hash(ftp: &mut FtpSession, argument: &str) -> CommandResult {
    let path = ftp.path(argument)?;
    let algorithm = ftp.state.settings.hash;
    let range = match ftp.state.start.take() {
        None => ByteRange::default(),
        Some(TransferStart::Offset(start)) => ByteRange { start, end: None },
        Some(TransferStart::Range(range)) => range,
    };
    let Checksum { range, value } = compute(ftp, &path, algorithm, range)?;
    Ok(Reply::new(213, hash_text(algorithm, &range, &value, argument)))
}

/// XSHA256, XMD5 and XCRC (de facto: Serv-U, ProFTPD, FileZilla Server).
pub fn checksum(
    ftp: &mut FtpSession,
    algorithm: HashAlgorithm,
    argument: &str,
    range: ByteRange,
) -> CommandResult {
    let path = ftp.path(argument)?;
    let checksum = compute(ftp, &path, algorithm, range)?;
    Ok(Reply::new(250, hex(&checksum.value)))
}

fn compute(
    ftp: &mut FtpSession,
    path: &TreePath,
    algorithm: HashAlgorithm,
    range: ByteRange,
) -> Result<Checksum, CommandError> {
    let algorithm = match algorithm {
        HashAlgorithm::Sha256 => ChecksumAlgorithm::Sha256,
        HashAlgorithm::Blake3 => ChecksumAlgorithm::Blake3,
        HashAlgorithm::Md5 => ChecksumAlgorithm::Md5,
        HashAlgorithm::Crc32 => ChecksumAlgorithm::Crc32,
    };
    let end = range.end.unwrap_or(u64::MAX);
    let is_whole = range == ByteRange::default();
    let wanted = (!is_whole).then_some(range.start..end);
    for _ in 0..MAX_TRIES {
        let keepalive = &mut ControlKeepAlive(&mut ftp.control);
        let here = ftp.session.checksum(path, algorithm, wanted.clone(), keepalive)?;
        if let Located::Here(checksum) = here {
            return Ok(checksum);
        }
        let bytes = (range.start, end.saturating_sub(range.start));
        let replicas = &ftp.context.replicas;
        match ContentSource::open(&ftp.session, replicas, path, bytes, keepalive)? {
            ContentSource::Replica(stream) => {
                return Ok(of_stream(*stream, algorithm, range, keepalive)?);
            }
            // The content has come meanwhile.
            ContentSource::Local(content) => content.finish()?,
        }
    }
    Err(Refusal::new(ErrorCode::Changed, "the content is being replaced; try again").into())
}

/// Computes the checksum of content that other slaves have, while it is received and verified.
fn of_stream(
    mut stream: ReplicaStream,
    algorithm: ChecksumAlgorithm,
    range: ByteRange,
    keepalive: &mut dyn KeepAlive,
) -> Result<Checksum, Refusal> {
    let mut hasher = ChecksumHasher::new(algorithm);
    while let Some(piece) = stream.next_piece(keepalive)? {
        hasher.update(piece);
    }
    let end = range.end.map_or(stream.size(), |end| end.min(stream.size()));
    stream.finish();
    Ok(Checksum { range: range.start..end, value: hasher.finish() })
}
