//! HASH, XSHA256, XMD5 and XCRC. They can take long, and ABOR cancels them.

use std::ops::Range;
use std::sync::Arc;

use relais_engine::{
    Checksum, ChecksumAlgorithm, ChecksumHasher, KeepAlive, Located, RemoteContent,
};
use relais_ftp::{ByteRange, HashAlgorithm, Reply, hash_text, hex};
use relais_proto::{ErrorCode, Refusal, TreePath};

use crate::front::ftp::control::ControlKeepAlive;
use crate::front::ftp::session::{CommandError, CommandResult, FtpSession};
use crate::front::ftp::state::TransferStart;
use crate::front::replica_stream::{ReplicaDialer, ReplicaStream};

/// HASH: draft-bryan-ftpext-hash section 3, for the range of REST or RANG (section 3.3).
///
/// The hash of a folder is not defined, for which section 3.5 has 553.
pub fn hash(ftp: &mut FtpSession, argument: &str) -> CommandResult {
    let path = ftp.path(argument)?;
    let algorithm = ftp.state.settings.hash;
    let range = match ftp.state.start.take() {
        None => ByteRange::default(),
        Some(TransferStart::Offset(start)) => ByteRange { start, end: None },
        Some(TransferStart::Range(range)) => range,
    };
    let computed = compute(ftp, &path, algorithm, range).map_err(|error| match error {
        CommandError::Refused(refusal) if refusal.code == ErrorCode::IsFolder => {
            Reply::new(553, refusal.message).into()
        }
        error => error,
    });
    let Checksum { range, value } = computed?;
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
    let is_whole = range == ByteRange::default();
    let range: Option<Range<u64>> = (!is_whole).then(|| range.start..range.end.unwrap_or(u64::MAX));
    let keepalive = &mut ControlKeepAlive(&mut ftp.control);
    match ftp.session.checksum(path, algorithm, range.clone(), keepalive)? {
        Located::Here(checksum) => Ok(checksum),
        Located::Elsewhere(holders) => {
            let content = ftp.session.describe_remote(path, holders)?;
            Ok(compute_remote(&ftp.context.replicas, content, algorithm, range, keepalive)?)
        }
    }
}

/// Computes the checksum of content that comes from other slaves.
fn compute_remote(
    replicas: &Arc<ReplicaDialer>,
    mut content: RemoteContent,
    algorithm: ChecksumAlgorithm,
    range: Option<Range<u64>>,
    keepalive: &mut dyn KeepAlive,
) -> Result<Checksum, Refusal> {
    let range = content.checksum_range(range)?;
    if algorithm == ChecksumAlgorithm::Blake3 && range == (0..content.size()) {
        return Ok(Checksum { range, value: content.digest().0.to_vec() });
    }
    let part = (range.start, range.end - range.start);
    let mut stream = ReplicaStream::open(replicas, content, part, keepalive)?;
    let mut hasher = ChecksumHasher::new(algorithm);
    while let Some(piece) = stream.next_piece(keepalive)? {
        hasher.update(piece);
    }
    stream.finish();
    Ok(Checksum { range, value: hasher.finish() })
}
