//! The ranges of a file that an answer has.

use std::io;
use std::ops::Range;

use relais_http::byteranges::Multipart;
use relais_http::range::{Ranges, content_range, unsatisfied_range};
use relais_http::{Response, Status};

use crate::body_writer::BodyWriter;

/// Sends a range of the content.
pub type RangeSender<'a> = &'a mut dyn FnMut(&mut BodyWriter<'_>, Range<u64>) -> io::Result<()>;

/// The ranges of a file that an answer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileRanges {
    /// One range, or the whole file. It is empty if no range is in the file.
    One(Range<u64>),
    /// Several ranges.
    Several(Multipart),
}

impl FileRanges {
    /// Chooses the ranges of a file of `size` bytes, and completes the head of the answer.
    ///
    /// The head has status 200 and the `Content-Type` of the file. It gets status 206 or 416, and
    /// the fields for ranges (RFC 9110, sections 14.4, 14.6, 15.3.7 and 15.5.17).
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn choose(ranges: Ranges, size: u64, response: &mut Response) -> io::Result<Self> {
        response.headers.insert("Accept-Ranges", "bytes");
        Ok(match ranges {
            Ranges::Whole => Self::One(0..size),
            Ranges::Unsatisfiable => {
                response.status = Status::RANGE_NOT_SATISFIABLE;
                response.headers.insert("Content-Range", unsatisfied_range(size));
                Self::One(0..0)
            }
            Ranges::Partial(ranges) => {
                response.status = Status::PARTIAL_CONTENT;
                if let [range] = &ranges[..] {
                    response.headers.insert("Content-Range", content_range(range, size));
                    return Ok(Self::One(range.clone()));
                }
                let content_type = response.headers.get("content-type");
                let content_type = content_type.unwrap_or("application/octet-stream");
                let multipart = Multipart::new(&boundary()?, content_type, size, &ranges);
                response.headers.insert("Content-Type", multipart.content_type());
                Self::Several(multipart)
            }
        })
    }

    /// Returns the length of the content.
    #[must_use]
    pub fn content_length(&self) -> u64 {
        match self {
            Self::One(range) => range.end.saturating_sub(range.start),
            Self::Several(multipart) => multipart.content_length(),
        }
    }

    /// Writes the content; `send` sends each range.
    ///
    /// # Errors
    /// Those of `send` and of the socket.
    pub fn write(&self, writer: &mut BodyWriter<'_>, send: RangeSender<'_>) -> io::Result<()> {
        match self {
            Self::One(range) if range.is_empty() => Ok(()),
            Self::One(range) => send(writer, range.clone()),
            Self::Several(multipart) => {
                for (head, range) in multipart.parts() {
                    writer.write(head)?;
                    send(writer, range.clone())?;
                }
                writer.write(multipart.end())
            }
        }
    }
}

/// Returns a boundary that no content can have by chance.
fn boundary() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| io::Error::other("the system has no random bytes"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
