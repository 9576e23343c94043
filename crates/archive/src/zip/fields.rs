//! The fields of zip headers: numbers, times, extra fields.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use relais_proto::FileTime;

/// Little-endian fields of a header.
#[derive(Debug, Default)]
pub struct Fields(Vec<u8>);

impl Fields {
    /// Adds a byte.
    pub fn byte(&mut self, value: u8) -> &mut Self {
        self.bytes_of(&[value])
    }

    /// Adds a 16-bit number.
    pub fn short(&mut self, value: u16) -> &mut Self {
        self.bytes_of(&value.to_le_bytes())
    }

    /// Adds a 32-bit number.
    pub fn long(&mut self, value: u32) -> &mut Self {
        self.bytes_of(&value.to_le_bytes())
    }

    /// Adds a 64-bit number.
    pub fn long_long(&mut self, value: u64) -> &mut Self {
        self.bytes_of(&value.to_le_bytes())
    }

    /// Adds bytes.
    pub fn bytes_of(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds a number in 16 bits, or what says that it is in a field of zip64.
    pub fn capped_short(&mut self, value: u64) -> &mut Self {
        self.short(u16::try_from(value).unwrap_or(u16::MAX))
    }

    /// Adds a number in 32 bits, or what says that it is in a field of zip64.
    pub fn capped_long(&mut self, value: u64) -> &mut Self {
        self.long(u32::try_from(value).unwrap_or(u32::MAX))
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Returns time and date as MS-DOS has them (section 4.4.6), in UTC: 1980 to 2107.
pub fn dos_time(time: FileTime) -> (u16, u16) {
    const FIRST: i64 = 315_532_800;
    const LAST: i64 = 4_354_819_198;
    let seconds = time.seconds.clamp(FIRST, LAST);
    let Ok(at) = Timestamp::from_second(seconds) else { return (0, 0x21) };
    let at = at.to_zoned(TimeZone::UTC);
    let part = |value: i8| u16::from(value.unsigned_abs());
    let year = u16::try_from(at.year() - 1980).unwrap_or_default();
    let date = (year << 9) | (part(at.month()) << 5) | part(at.day());
    let time = (part(at.hour()) << 11) | (part(at.minute()) << 5) | (part(at.second()) / 2);
    (time, date)
}

/// Returns the extra field with the time in seconds, as Info-ZIP has it; empty outside of 32 bits.
pub fn extended_time(time: FileTime) -> Vec<u8> {
    let mut field = Fields::default();
    if let Ok(seconds) = i32::try_from(time.seconds) {
        // Only the time of modification follows.
        field.short(0x5455).short(5).byte(1).bytes_of(&seconds.to_le_bytes());
    }
    field.into_bytes()
}

/// Returns the extra field with 64-bit numbers (section 4.5.3); empty without numbers.
pub fn zip64_sizes(numbers: &[u64]) -> Vec<u8> {
    let mut field = Fields::default();
    if !numbers.is_empty() {
        field.short(1).short(u16::try_from(numbers.len() * 8).unwrap_or_default());
        for number in numbers {
            field.long_long(*number);
        }
    }
    field.into_bytes()
}
