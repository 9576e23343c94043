//! A pipe through which bytes go from a socket to a file without a copy to this process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use log::debug;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Bytes that the pipe can hold. The system allows a user without privileges 64 MiB of pipes.
const CAPACITY: usize = 1024 * 1024;

/// A pipe that is filled from one descriptor and emptied into another.
#[derive(Debug)]
pub struct SplicePipe {
    reader: OwnedFd,
    writer: OwnedFd,
    held: usize,
}

impl SplicePipe {
    /// Makes an empty pipe.
    ///
    /// # Errors
    /// The user has too many pipes or descriptors.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setpipe_size(&writer, CAPACITY)?;
        Ok(Self { reader, writer, held: 0 })
    }

    /// Makes an empty pipe; none if it cannot be made, so that the bytes have to be copied.
    #[must_use]
    pub fn if_possible() -> Option<Self> {
        Self::new().inspect_err(|e| debug!("bytes are copied for lack of a pipe: {e}")).ok()
    }

    /// Returns the number of bytes in the pipe.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Has `fill` move bytes, at most as many as there is room for; returns their number.
    ///
    /// # Errors
    /// Those of `fill`, which moves nothing then.
    pub fn fill(
        &mut self,
        fill: impl FnOnce(BorrowedFd<'_>, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let filled = fill(self.writer.as_fd(), CAPACITY - self.held)?;
        self.held += filled;
        Ok(filled)
    }

    /// Moves all bytes of the pipe to `file` at `at`; without a file they are dropped.
    ///
    /// # Errors
    /// The file's. The bytes that were not moved stay in the pipe.
    pub fn empty_into(&mut self, file: Option<(&File, u64)>) -> io::Result<()> {
        let mut sink = [0; 16 * 1024];
        let mut at = file.map(|(_, at)| at);
        while self.held > 0 {
            let moved = match file {
                Some((file, _)) => {
                    let flags = SpliceFlags::empty();
                    splice(&self.reader, None, file, at.as_mut(), self.held, flags)
                }
                None => rustix::io::read(&self.reader, &mut sink[..]),
            };
            match moved {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(moved) => self.held -= moved,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn fill(pipe: &mut SplicePipe, bytes: &[u8]) {
        let filled = pipe.fill(|writer, _| Ok(rustix::io::write(writer, bytes)?)).unwrap();
        assert_eq!((filled, pipe.held()), (bytes.len(), bytes.len()));
    }

    #[test]
    fn bytes_arrive_at_their_offset() {
        let (mut pipe, file) = (SplicePipe::new().unwrap(), tempfile::tempfile().unwrap());
        let bytes: Vec<u8> = (0..CAPACITY).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let mut at = 3;
        for length in [1, 100_000, CAPACITY] {
            fill(&mut pipe, &bytes[..length]);
            pipe.empty_into(Some((&file, at))).unwrap();
            assert_eq!(pipe.held(), 0);
            let mut there = vec![0; length];
            file.read_exact_at(&mut there, at).unwrap();
            assert_eq!(there, bytes[..length]);
            at += length as u64;
        }
        assert_eq!(file.metadata().unwrap().len(), at);
    }

    #[test]
    fn bytes_are_dropped_without_a_file() {
        let (mut pipe, file) = (SplicePipe::new().unwrap(), tempfile::tempfile().unwrap());
        fill(&mut pipe, &[1; 40_000]);
        pipe.empty_into(None).unwrap();
        fill(&mut pipe, b"next");
        pipe.empty_into(Some((&file, 0))).unwrap();
        let mut there = [0; 4];
        file.read_exact_at(&mut there, 0).unwrap();
        assert_eq!(&there, b"next");
    }

    #[test]
    fn an_error_of_the_file_keeps_the_bytes() {
        let mut pipe = SplicePipe::new().unwrap();
        fill(&mut pipe, b"bytes");
        let full = File::options().write(true).open("/dev/full").unwrap();
        assert!(pipe.empty_into(Some((&full, 0))).is_err());
        assert_eq!(pipe.held(), 5);
    }
}
