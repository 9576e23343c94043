//! Replies as bytes (RFC 959, section 4.2).

use std::fmt::Write;

/// A reply to a command: a code and one or more lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl Reply {
    /// Makes a reply of one line. `code` has three digits.
    #[must_use]
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        debug_assert!((100..600).contains(&code), "{code}");
        Self { code, lines: vec![text.into()] }
    }

    /// Adds a line. The first and the last line carry the code, those between do not.
    ///
    /// MLST and FEAT begin the lines between with a space (RFC 3659, section 7.2; RFC 2389, 3.2).
    #[must_use]
    pub fn line(mut self, text: impl Into<String>) -> Self {
        self.lines.push(text.into());
        self
    }

    /// Adds several lines, as [`Self::line`].
    #[must_use]
    pub fn lines<T: Into<String>>(mut self, texts: impl IntoIterator<Item = T>) -> Self {
        self.lines.extend(texts.into_iter().map(Into::into));
        self
    }

    /// Returns the code.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Returns the text of the first line.
    #[must_use]
    pub fn text(&self) -> &str {
        self.lines.first().map_or("", String::as_str)
    }

    /// Appends the reply as it is sent.
    ///
    /// Control characters become `?`, so that a text neither ends the line nor drives a terminal.
    /// A line between that begins with a digit gets a leading space, because a client could take it
    /// for the last one. A Telnet IAC needs no care: UTF-8 never contains the byte 255.
    pub fn encode(&self, to: &mut Vec<u8>) {
        let last = self.lines.len() - 1;
        for (number, text) in self.lines.iter().enumerate() {
            let mut line = String::with_capacity(text.len() + 6);
            // Writing to a `String` cannot fail.
            let _ = match number {
                _ if number == last => write!(line, "{} ", self.code),
                0 => write!(line, "{}-", self.code),
                _ if text.starts_with(|c: char| c.is_ascii_digit()) => write!(line, " "),
                _ => Ok(()),
            };
            line.extend(text.chars().map(|c| if c.is_control() { '?' } else { c }));
            line.push_str("\r\n");
            to.extend_from_slice(line.as_bytes());
        }
    }

    /// Returns the reply as it is sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(reply: &Reply) -> String {
        String::from_utf8(reply.to_bytes()).unwrap()
    }

    #[test]
    fn one_line_has_code_and_space() {
        assert_eq!(sent(&Reply::new(200, "Done.")), "200 Done.\r\n");
    }

    #[test]
    fn several_lines_are_marked() {
        // The example of RFC 959, section 4.2; a line that begins with digits is protected.
        let reply = Reply::new(123, "First line").lines(["Second line", "234 A line", "The last"]);
        assert_eq!(
            sent(&reply),
            "123-First line\r\nSecond line\r\n 234 A line\r\n123 The last\r\n"
        );
        let two = Reply::new(211, "Features:").line("End");
        assert_eq!(sent(&two), "211-Features:\r\n211 End\r\n");
    }

    #[test]
    fn text_cannot_end_the_line() {
        let reply = Reply::new(550, "a\r\n226 b\u{1b}[2J\u{85}\0").line("x\n221 y").line("end");
        assert_eq!(sent(&reply), "550-a??226 b?[2J??\r\nx?221 y\r\n550 end\r\n");
    }

    #[test]
    fn names_stay_as_they_are() {
        let family = "👩\u{200d}👧 naïve 日本";
        assert_eq!(sent(&Reply::new(257, family)), format!("257 {family}\r\n"));
    }
}
