//! Sizes as option values.

/// Reads a number of bytes, such as `4096`, `64K`, `1M`, `2G` or `1T`.
///
/// A letter stands for a power of 1,024, as in `dd`, `nginx` and `rsync`; `iB` or `B` may follow
/// it, and case does not matter.
///
/// # Errors
/// A message for the user if `text` is no size or does not fit into 64 bits.
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let power = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(format!("{text:?} is no size; use bytes, or a unit as in 64K, 1M or 2G")),
    };
    let number: u64 =
        number.parse().map_err(|_| format!("{text:?} is no size; use bytes, or 64K, 1M, 2G"))?;
    number.checked_mul(1024_u64.pow(power)).ok_or_else(|| format!("{text} is more than 16 EiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64K", 65_536),
            ("64kib", 65_536),
            ("1M", 1_048_576),
            ("1MB", 1_048_576),
            ("2g", 2_147_483_648),
            ("1T", 1_099_511_627_776),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for bad in ["", "M", "1X", "-1", "1.5M", "1 M", "99999999T", "18446744073709551616"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
