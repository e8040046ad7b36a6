//! Durations and sizes as people write them: `30d`, `500ms`, `64KiB`.

/// A text is no duration or size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not a duration.
    #[error("{0:?} is no duration: use a number of milliseconds, or one with ms, s, m, h or d, such as 30d")]
    Duration(String),
    /// Not a size.
    #[error(
        "{0:?} is no size: use a number of bytes, or one with KiB, MiB, GiB, TiB, kB, MB, GB or TB, such as 64KiB"
    )]
    Size(String),
}

fn parse(text: &str, units: &[(&str, i64)]) -> Option<i64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)?;
    number.parse::<i64>().ok()?.checked_mul(factor)
}

/// A duration in milliseconds: `30d`, `12h`, `5m`, `30s`, `500ms`, `500`.
pub fn duration_ms(text: &str) -> Result<i64, FormatError> {
    let units = [("", 1), ("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    parse(text, &units).ok_or_else(|| FormatError::Duration(text.chars().take(80).collect()))
}

/// A size in bytes: `64KiB`, `1MiB`, `2GB`, `1024`.
pub fn size_bytes(text: &str) -> Result<i64, FormatError> {
    let units = [
        ("", 1),
        ("B", 1),
        ("kB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    parse(text, &units).ok_or_else(|| FormatError::Size(text.chars().take(80).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_count() {
        assert_eq!(duration_ms("30d"), Ok(2_592_000_000));
        assert_eq!(duration_ms("500"), Ok(500));
        assert_eq!(duration_ms("5 m"), Ok(300_000));
        assert_eq!(size_bytes("64KiB"), Ok(65_536));
        assert_eq!(size_bytes("1MB"), Ok(1_000_000));
        for bad in ["", "d", "-1", "1.5h", "1w", "99999999999999999999", "9223372036854775807d"] {
            assert!(duration_ms(bad).is_err(), "{bad}");
            assert!(size_bytes(bad).is_err(), "{bad}");
        }
    }
}
