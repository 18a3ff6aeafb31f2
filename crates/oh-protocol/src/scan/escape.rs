//! What a JSON string says that is written with escapes.

/// What the escape says that `rest` begins with, after its backslash, and how long it is there.
/// Nothing where it is broken, or half of a pair without its other half.
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
            if (0xD800..0xDC00).contains(&first) {
                let rest = rest.get(5..)?.strip_prefix(b"\\")?;
                let second = unit(rest)?.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
                let code = 0x1_0000 + ((first - 0xD800) << 10) + second;
                (char::from_u32(code)?, 11)
            } else {
                (char::from_u32(first)?, 5)
            }
        }
        _ => return None,
    })
}

/// The number of four digits after a `u`.
pub(super) fn unit(rest: &[u8]) -> Option<u32> {
    let digits = rest.strip_prefix(b"u")?.first_chunk::<4>()?;
    digits.iter().try_fold(0, |unit, digit| {
        Some(unit * 16 + char::from(*digit).to_digit(16)?)
    })
}

/// What a string says, of which this is written between its quotes.
pub(crate) fn unescape(written: &str) -> Option<String> {
    let mut plain = String::with_capacity(written.len());
    let mut rest = written;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let (says, length) = escape(after.as_bytes())?;
        plain.push(says);
        rest = after.get(length..)?;
    }
    plain.push_str(rest);
    Some(plain)
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
            r"\ud83d",
            r"\ud83dx",
            r"\ud83d\n",
            r"\ud83d\u0041",
            r"\ud83d\ud83d",
            r"\ude00",
            r"\u12",
            r"\u12g4",
            r"\u+123",
            r"\u12é",
            r"\x",
            r"\",
        ] {
            let theirs = serde_json::from_str::<String>(&format!("\"{written}\"")).ok();
            assert_eq!(unescape(written), theirs, "{written}");
        }
    }
}
