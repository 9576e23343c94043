//! Sends answers.

use std::fs::File;
use std::io;

use relais_http::{Response, Status};

use crate::answer::{Framing, encode_head};
use crate::body_writer::BodyWriter;
use crate::connection::HttpConnection;
use crate::error::WebError;
use crate::file_ranges::FileRanges;
use crate::sender::Sender;

/// The content of an answer.
///
/// Its length is told also in the answer to a HEAD request, which does not have it.
pub enum ResponseBody<'a> {
    /// None.
    Empty,
    /// These bytes.
    Bytes(&'a [u8]),
    /// Ranges of a file, or all of it.
    File {
        /// The file.
        file: &'a File,
        /// The ranges.
        ranges: &'a FileRanges,
    },
    /// What `write` writes. Without a length it is sent in chunks, and to a client of HTTP/1.0
    /// until the connection is closed.
    Stream {
        /// The number of bytes, if it is known.
        length: Option<u64>,
        /// Writes the content. An error ends the connection, so that the content does not look
        /// complete.
        write: &'a mut dyn FnMut(&mut BodyWriter<'_>) -> io::Result<()>,
    },
}

impl ResponseBody<'_> {
    fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::File { ranges, .. } => Some(ranges.content_length()),
            Self::Stream { length, .. } => *length,
        }
    }

    fn write(self, writer: &mut BodyWriter<'_>) -> io::Result<()> {
        match self {
            Self::Empty => Ok(()),
            Self::Bytes(bytes) => writer.write(bytes),
            Self::File { file, ranges } => {
                ranges.write(writer, &mut |writer, range| writer.write_file(file, range))
            }
            Self::Stream { write, .. } => write(writer),
        }
    }
}

impl HttpConnection {
    /// Sends the answer to the current request.
    ///
    /// It adds date, length and the field `Connection`. Then [`Self::is_kept`] tells whether
    /// another request can follow.
    ///
    /// # Errors
    /// Errors of the socket; [`io::ErrorKind::TimedOut`] if the client reads too slowly; those of
    /// the content. The connection must be dropped after an error.
    pub fn respond(&mut self, response: &Response, body: ResponseBody<'_>) -> Result<(), WebError> {
        let framing = self.rules.framing(body.length());
        let closes = response.headers.list("connection").any(|o| o.eq_ignore_ascii_case("close"));
        let is_kept = self.rules.keep
            && !closes
            && framing != Framing::UntilClose
            && self.body.can_be_dropped();
        self.rules.keep = is_kept;
        let head = encode_head(response, framing, self.rules)?;
        let has_content = !self.rules.is_head && !response.status.is_without_content();
        let stream = self.stream.clone();
        let framing = if has_content { framing } else { Framing::Sized(0) };
        let mut writer = BodyWriter::new(Sender::new(&stream), head, framing);
        let written = if has_content { body.write(&mut writer) } else { Ok(()) };
        match written.and_then(|()| writer.finish()) {
            Ok(()) => {
                self.is_kept = is_kept;
                Ok(())
            }
            Err(e) => {
                self.abort();
                Err(e.into())
            }
        }
    }

    /// Sends an interim answer, which precedes that to the request (RFC 9110, section 15.2).
    ///
    /// A client of HTTP/1.0 gets none.
    ///
    /// # Errors
    /// Errors of the socket; a malformed header field.
    pub fn inform(&mut self, interim: &Response) -> Result<(), WebError> {
        if self.rules.version == relais_http::Version::Http11 {
            Sender::new(&self.stream).send(&interim.encode()?, false)?;
        }
        Ok(())
    }

    pub(crate) fn send_continue(&mut self) -> Result<(), WebError> {
        self.inform(&Response::new(Status::CONTINUE))
    }
}
