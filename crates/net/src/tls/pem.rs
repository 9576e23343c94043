//! Reads files of certificates and keys.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use relais_proto::{quote, sanitize};
use rustix::fs::OFlags;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject};

/// Cap on a file of certificates: ten times the size of a system's list of public authorities.
const MAX_FILE: u64 = 4 << 20;

/// Reads a file up to the cap; its content may come from another user.
pub(super) fn read_bounded(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        Err(io::Error::other("it has more than 4 MiB"))
    } else {
        Ok(bytes)
    }
}

/// Describes an error in a PEM text for users.
pub(super) fn describe(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("a section has no line {}", sanitize(&String::from_utf8_lossy(end_marker)))
        }
        pem::Error::IllegalSectionStart { line } => {
            format!("a section begins with {}", quote(&String::from_utf8_lossy(line)))
        }
        other => other.to_string(),
    }
}

/// Reads PEM files and concatenates them, each with a line end.
///
/// # Errors
/// Names the file and the reason. A file must be a regular file of at most 4 MiB, and a file with a
/// private key must have no permissions for others.
pub fn read_pem(files: &[PathBuf]) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    for path in files {
        let at = |e: io::Error| format!("{}: {e}", path.display());
        // Without NONBLOCK a pipe at this path would block the server.
        let file = File::options()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .map_err(at)?;
        let meta = file.metadata().map_err(at)?;
        if !meta.is_file() {
            return Err(format!("{} is not a regular file", path.display()));
        }
        let pem = read_bounded(file).map_err(at)?;
        let mode = meta.mode() & 0o7777;
        if mode & 0o007 != 0 && PrivateKeyDer::from_pem_slice(&pem).is_ok() {
            return Err(format!(
                "the private key in {} is accessible to all users (mode {mode:04o}); \
                 change the mode to 0600",
                path.display()
            ));
        }
        all.extend(pem);
        all.push(b'\n');
    }
    Ok(all)
}
