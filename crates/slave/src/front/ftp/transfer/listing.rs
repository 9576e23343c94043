//! Sends listings over the data connection, in large parts.

use relais_engine::KeepAlive;
use relais_ftp::Reply;
use relais_net::tls::DataDirection;
use relais_proto::Refusal;

use super::opening::open_data;
use crate::front::ftp::control::ControlKeepAlive;
use crate::front::ftp::session::{CommandResult, FtpSession};

/// Bytes of text that are collected before they are sent.
const PART: usize = 64 * 1024;

/// The text of a listing.
pub trait ListingText {
    /// Appends the next lines; false after the last.
    ///
    /// # Errors
    /// The reason why the rest cannot be listed.
    fn next_lines(
        &mut self,
        to: &mut Vec<u8>,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<bool, Refusal>;
}

/// Sends a listing, whose lines end with CRLF in each TYPE.
pub fn send_listing(ftp: &mut FtpSession, text: &mut dyn ListingText) -> CommandResult {
    let opening = "Opening data connection for the listing.".to_owned();
    let mut data = open_data(ftp, DataDirection::Sending, opening)?;
    let mut part = Vec::with_capacity(PART);
    let mut has_more = true;
    while has_more {
        has_more = text.next_lines(&mut part, &mut ControlKeepAlive(&mut ftp.control))?;
        if part.len() >= PART && has_more {
            data.send(&part, &mut ftp.control)?;
            part.clear();
        }
    }
    data.send_last(&part, &mut ftp.control)?;
    data.finish(&mut ftp.control)?;
    Ok(Reply::new(226, "Listing complete."))
}
