//! Removes Telnet commands from the control connection (RFC 854).

/// "Interpret as command": begins each Telnet command.
const IAC: u8 = 255;
/// Data mark, the end of a Telnet synch. Clients send it before ABOR, as urgent data.
const DATA_MARK: u8 = 242;
/// First of the command codes (SE).
const FIRST_COMMAND: u8 = 240;
/// WILL, WON'T, DO and DON'T, which an option follows.
const NEGOTIATION: std::ops::RangeInclusive<u8> = 251..=254;

/// What a byte of the connection is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TelnetByte {
    /// A character of a line.
    Character(u8),
    /// Part of a Telnet command.
    Nothing,
    /// A character that follows an IAC and is no command.
    Broken(u8),
}

/// State between two bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) enum TelnetFilter {
    #[default]
    Text,
    AfterIac,
    AfterNegotiation,
}

impl TelnetFilter {
    /// Classifies the next byte; `at_start` says whether the current line has no character yet.
    ///
    /// A kernel may take the byte that was sent as urgent data out of the stream: the data mark or
    /// the IAC before it. So both are also accepted alone at the start of a line. Inside a line
    /// they are not, because a name must not lose a byte silently.
    pub(super) fn filter(&mut self, byte: u8, at_start: bool) -> TelnetByte {
        let (next, result) = match (*self, byte) {
            (Self::Text, IAC) => (Self::AfterIac, TelnetByte::Nothing),
            (Self::Text, DATA_MARK) if at_start => (Self::Text, TelnetByte::Nothing),
            (Self::Text, _) => (Self::Text, TelnetByte::Character(byte)),
            (Self::AfterIac, IAC) => (Self::Text, TelnetByte::Character(IAC)),
            (Self::AfterIac, _) if NEGOTIATION.contains(&byte) => {
                (Self::AfterNegotiation, TelnetByte::Nothing)
            }
            (Self::AfterIac, FIRST_COMMAND..) => (Self::Text, TelnetByte::Nothing),
            (Self::AfterIac, _) if at_start => (Self::Text, TelnetByte::Character(byte)),
            (Self::AfterIac, _) => (Self::Text, TelnetByte::Broken(byte)),
            (Self::AfterNegotiation, _) => (Self::Text, TelnetByte::Nothing),
        };
        *self = next;
        result
    }
}
