//! Decoding of escapes in JSON strings.

/// Decodes the escape at the beginning of `rest`, after its backslash, and returns its length.
/// Returns `None` for an invalid escape. A lone surrogate is valid JSON, which Python can produce,
/// but not a valid character; it is decoded as U+FFFD.
pub(super) fn escape(rest: &[u8]) -> Option<(char, usize)> {
    Some(match rest.first()? {
        b'n' => ('\n', 1),
        b't' => ('\t', 1),
        b'r' => ('\r', 1),
        b'b' => ('\u{8}', 1),
        b'f' => ('\u{c}', 1),
        same @ (b'"' | b'\\' | b'/') => (char::from(*same), 1),
        b'u' => {
            let first = unit(rest)?;
            match pair(first, rest) {
                Some(whole) => (whole, 11),
                None => (
                    char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER),
                    5,
                ),
            }
        }
        _ => return None,
    })
}

/// Combines a high surrogate with the escape after it, if that is a low surrogate.
fn pair(first: u32, rest: &[u8]) -> Option<char> {
    let high = first.checked_sub(0xD800).filter(|high| *high < 0x400)?;
    let second = unit(rest.get(5..)?.strip_prefix(b"\\")?)?;
    let low = second.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
    char::from_u32(0x1_0000 + (high << 10) + low)
}

/// Returns the value of four hexadecimal digits after a `u`.
pub(super) fn unit(rest: &[u8]) -> Option<u32> {
    let digits = rest.strip_prefix(b"u")?.first_chunk::<4>()?;
    digits.iter().try_fold(0, |unit, digit| {
        Some(unit * 16 + char::from(*digit).to_digit(16)?)
    })
}

/// Decodes the content of a string. An invalid escape, which a scanned string cannot contain, is
/// kept unchanged.
pub(crate) fn unescape(written: &str) -> String {
    let mut plain = String::with_capacity(written.len());
    let mut rest = written;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        match escape(after.as_bytes()) {
            Some((says, length)) => {
                plain.push(says);
                rest = after.get(length..).unwrap_or_default();
            }
            None => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_as_serde_json_does() {
        for written in [
            r"plain",
            r#"a\nb\t\r\b\f\/\\\""#,
            r"\u00e9\u20ac",
            r"\ud83d\ude00!",
            r"\u0000",
        ] {
            let theirs: String = serde_json::from_str(&format!("\"{written}\"")).unwrap();
            assert_eq!(unescape(written), theirs, "{written}");
        }
    }

    #[test]
    fn half_of_a_pair_is_a_replacement_character() {
        for (written, says) in [
            (r"\ud83d", "\u{fffd}"),
            (r"\ud83dx", "\u{fffd}x"),
            (r"\ud83d\n", "\u{fffd}\n"),
            (r"\ud83d\u0041", "\u{fffd}A"),
            (r"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
            (r"\ude00", "\u{fffd}"),
        ] {
            assert_eq!(unescape(written), says, "{written}");
        }
        for broken in [r"\u12", r"\u12g4", r"\u+123", r"\u12é", r"\x", r"\"] {
            assert_eq!(unescape(broken), broken);
        }
    }
}
