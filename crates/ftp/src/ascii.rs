//! Line ends of TYPE A (RFC 959, section 3.1.1.1): LF in files, CR LF on the wire.
//!
//! A CR LF in a file is sent as it is, because it is a line end already (vsftpd does so too). So a
//! file with such line ends comes back with LF; only TYPE I keeps every byte.

/// Converts a file's bytes to those on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encoder {
    after_return: bool,
    transferred: u64,
}

impl Encoder {
    /// Appends the next bytes as they are sent: at most twice as many.
    pub fn encode(&mut self, bytes: &[u8], to: &mut Vec<u8>) {
        let before = to.len();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if let Some(text) = piece.strip_suffix(b"\n") {
                to.extend_from_slice(text);
                if !text.last().map_or(self.after_return, |last| *last == b'\r') {
                    to.push(b'\r');
                }
                to.push(b'\n');
            } else {
                to.extend_from_slice(piece);
            }
            self.after_return = piece.ends_with(b"\r");
        }
        self.transferred += as_u64(to.len() - before);
    }

    /// Returns how many bytes were appended, and skipped by [`RestartScan`].
    #[must_use]
    pub fn transferred(&self) -> u64 {
        self.transferred
    }
}

/// Converts bytes on the wire to those of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decoder {
    /// Whether a CR is held back until the next byte shows what it is.
    after_return: bool,
    transferred: u64,
}

impl Decoder {
    /// Appends the file's bytes. A CR at the end is held back until the next byte.
    pub fn decode(&mut self, bytes: &[u8], to: &mut Vec<u8>) {
        self.transferred += as_u64(bytes.len());
        for piece in bytes.split_inclusive(|byte| *byte == b'\r') {
            if self.after_return && piece.first() != Some(&b'\n') {
                to.push(b'\r');
            }
            self.after_return = piece.ends_with(b"\r");
            to.extend_from_slice(piece.strip_suffix(b"\r").unwrap_or(piece));
        }
    }

    /// Appends the CR that was held back, at the end of the data.
    pub fn finish(self, to: &mut Vec<u8>) {
        if self.after_return {
            to.push(b'\r');
        }
    }

    /// Returns how many bytes were read from the wire.
    #[must_use]
    pub fn transferred(&self) -> u64 {
        self.transferred
    }
}

/// Finds the place in a file that belongs to a restart point in TYPE A.
///
/// The restart point counts transferred bytes (RFC 3659, section 5.3), so the file must be read up
/// to it. The caller gives pieces and can stop between them.
#[derive(Debug, Clone)]
pub struct RestartScan {
    /// Transferred bytes up to the restart point.
    left: u64,
    stored: u64,
    encoder: Encoder,
}

impl RestartScan {
    /// Begins at the start of the file.
    #[must_use]
    pub fn new(restart_point: u64) -> Self {
        Self { left: restart_point, stored: 0, encoder: Encoder::default() }
    }

    /// Takes the next bytes of the file; returns whether the restart point is reached.
    pub fn scan(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            let is_line_end = *byte == b'\n' && !self.encoder.after_return;
            match (self.left, is_line_end) {
                (0, _) => break,
                // Between the CR and the LF of a line end: the LF follows without another CR.
                (1, true) => {
                    self.left = 0;
                    self.encoder.transferred += 1;
                    self.encoder.after_return = true;
                    break;
                }
                _ => {}
            }
            let length = if is_line_end { 2 } else { 1 };
            self.left -= length;
            self.stored += 1;
            self.encoder.transferred += length;
            self.encoder.after_return = *byte == b'\r';
        }
        self.left == 0
    }

    /// Returns the offset in the file and the encoder that continues there.
    ///
    /// `None` if the restart point is not reached: it lies behind the end of the file.
    #[must_use]
    pub fn finish(self) -> Option<(u64, Encoder)> {
        (self.left == 0).then_some((self.stored, self.encoder))
    }
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut encoder, mut to) = (Encoder::default(), Vec::new());
        pieces.iter().for_each(|piece| encoder.encode(piece, &mut to));
        assert_eq!(encoder.transferred(), as_u64(to.len()));
        to
    }

    fn decoded(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut decoder, mut to) = (Decoder::default(), Vec::new());
        pieces.iter().for_each(|piece| decoder.decode(piece, &mut to));
        assert_eq!(decoder.transferred(), as_u64(pieces.concat().len()));
        decoder.finish(&mut to);
        to
    }

    /// All texts of up to six of these bytes.
    fn texts() -> Vec<Vec<u8>> {
        let mut all = vec![Vec::new()];
        let mut last = all.clone();
        for _ in 0..6 {
            last = last
                .iter()
                .flat_map(|text| b"\r\na".map(|byte| [text.as_slice(), &[byte]].concat()))
                .collect();
            all.extend(last.clone());
        }
        all
    }

    #[test]
    fn line_ends_are_converted() {
        for (stored, sent) in [
            (&b""[..], &b""[..]),
            (b"a\nb", b"a\r\nb"),
            (b"\n\n", b"\r\n\r\n"),
            (b"a\r\nb\r", b"a\r\nb\r"),
            (b"a\r\r\n\n", b"a\r\r\n\r\n"),
        ] {
            assert_eq!(encoded(&[stored]), sent, "{stored:?}");
        }
        for (sent, stored) in [
            (&b"a\r\nb\r\n"[..], &b"a\nb\n"[..]),
            (b"a\nb", b"a\nb"),
            (b"a\rb\r", b"a\rb\r"),
            (b"\r\r\n", b"\r\n"),
            (b"\r\r\r", b"\r\r\r"),
        ] {
            assert_eq!(decoded(&[sent]), stored, "{sent:?}");
        }
    }

    #[test]
    fn pieces_make_no_difference() {
        for text in texts() {
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(encoded(&bytes), encoded(&[&text]), "{text:?}");
            assert_eq!(decoded(&bytes), decoded(&[&text]), "{text:?}");
            for cut in 0..text.len() {
                let (a, b) = text.split_at(cut);
                assert_eq!(encoded(&[a, b]), encoded(&[&text]), "{text:?} {cut}");
                assert_eq!(decoded(&[a, b]), decoded(&[&text]), "{text:?} {cut}");
            }
        }
    }

    #[test]
    fn texts_without_returns_come_back() {
        for text in texts().into_iter().filter(|text| !text.contains(&b'\r')) {
            assert_eq!(decoded(&[&encoded(&[&text])]), text);
        }
    }

    #[test]
    fn restart_continues_exactly_there() {
        for text in texts() {
            let whole = encoded(&[&text]);
            for point in 0..=whole.len() {
                for size in [1, 2, 10] {
                    let mut scan = RestartScan::new(as_u64(point));
                    let _ = text.chunks(size).any(|piece| scan.scan(piece));
                    let (stored, mut encoder) = scan.finish().unwrap();
                    assert_eq!(encoder.transferred(), as_u64(point));
                    let mut rest = Vec::new();
                    encoder.encode(&text[usize::try_from(stored).unwrap()..], &mut rest);
                    assert_eq!(rest, whole[point..], "{text:?} {point}");
                }
            }
            let mut behind = RestartScan::new(as_u64(whole.len()) + 1);
            assert!(!behind.scan(&text));
            assert_eq!(behind.finish(), None);
        }
    }
}
