//! Files that hold a secret: mode 0600, checked on each read, and created atomically.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use relais_os::{create_atomically, display_path};
use rustix::fs::OFlags;
use thiserror::Error;

/// The defect of a secret file.
#[derive(Debug, Error)]
pub enum SecretFileFault {
    /// The group or others have permissions: the mode.
    #[error("has mode {0:04o}: other users can access it; change the mode to 0600")]
    Exposed(u32),
    /// The owner is neither the user of this process nor the owner of the folder: the user id.
    #[error(
        "belongs to user id {0}, which is neither the owner of its folder nor the user of this \
         process"
    )]
    ForeignOwner(u32),
    /// The path is a folder, a pipe or the like.
    #[error("is not a regular file")]
    NotRegular,
    /// The content is not what belongs there: what it is instead.
    #[error("{0}")]
    Malformed(String),
    /// A system call failed.
    #[error("cannot be used: {}", relais_proto::system_error_text(.0))]
    Io(io::Error),
}

/// The reason why a secret file cannot be used.
#[derive(Debug, Error)]
pub struct SecretFileError {
    what: &'static str,
    path: PathBuf,
    /// The defect.
    pub fault: SecretFileFault,
}

impl fmt::Display for SecretFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} {} {}", self.what, display_path(&self.path).display(), self.fault)
    }
}

/// The path of a secret file, its purpose for error texts, and the cap on its size in bytes.
#[derive(Debug, Clone)]
pub(crate) struct SecretFile {
    pub what: &'static str,
    pub path: PathBuf,
    pub cap: u64,
}

impl SecretFile {
    pub fn error(&self, fault: SecretFileFault) -> SecretFileError {
        SecretFileError { what: self.what, path: self.path.clone(), fault }
    }

    pub fn io(&self, cause: io::Error) -> SecretFileError {
        self.error(SecretFileFault::Io(cause))
    }

    pub fn malformed(&self, why: impl Into<String>) -> SecretFileError {
        self.error(SecretFileFault::Malformed(why.into()))
    }

    /// Reads the text and the metadata; none if there is no file.
    pub fn read(&self) -> Result<Option<(String, Metadata)>, SecretFileError> {
        let io = |cause| self.io(cause);
        // Without NONBLOCK a pipe at this path would block the process.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = match File::options().read(true).custom_flags(flags).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() {
            return Err(self.error(SecretFileFault::NotRegular));
        }
        let mode = meta.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(self.error(SecretFileFault::Exposed(mode)));
        }
        // The owner of a file can read and replace it.
        let may =
            [0, rustix::process::geteuid().as_raw(), self.folder().metadata().map_err(io)?.uid()];
        if !may.contains(&meta.uid()) {
            return Err(self.error(SecretFileFault::ForeignOwner(meta.uid())));
        }
        let mut bytes = Vec::new();
        (&file).take(self.cap + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > self.cap {
            return Err(self.malformed(format!("is larger than {} bytes", self.cap)));
        }
        let text = String::from_utf8(bytes).map_err(|_| self.malformed("is not text in UTF-8"))?;
        Ok(Some((text, meta)))
    }

    /// Reads the text. If there is no file, creates one with mode 0600 from the text of `make`.
    ///
    /// The file gets its name after its content is complete, so no reader sees half a secret. Two
    /// processes that do this at the same time get the same text.
    pub fn read_or_create<E: From<SecretFileError>>(
        &self,
        make: impl FnOnce() -> Result<String, E>,
    ) -> Result<String, E> {
        if let Some((text, _)) = self.read()? {
            return Ok(text);
        }
        create_atomically(&self.path, make()?.as_bytes()).map_err(|cause| self.io(cause))?;
        match self.read()? {
            Some((text, _)) => Ok(text),
            None => Err(self.io(io::ErrorKind::NotFound.into()).into()),
        }
    }

    /// The folder of the file.
    pub fn folder(&self) -> &Path {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new("."))
    }
}
