//! What a JSON string says that is written with escapes.

/// What a string says that is written with escapes; nothing where they are broken.
pub(crate) fn unescape(written: &str) -> Option<String> {
    let mut plain = String::with_capacity(written.len());
    let mut rest = written;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        plain.push_str(rest.get(..at)?);
        let mut after = rest.get(at + 1..)?.chars();
        match after.next()? {
            'n' => plain.push('\n'),
            't' => plain.push('\t'),
            'r' => plain.push('\r'),
            'b' => plain.push('\u{8}'),
            'f' => plain.push('\u{c}'),
            'u' => {
                let high = hex(&mut after)?;
                // Half of a pair must be followed by the other half.
                let code = if (0xD800..0xDC00).contains(&high) {
                    after = after.as_str().strip_prefix("\\u")?.chars();
                    let low = hex(&mut after)?
                        .checked_sub(0xDC00)
                        .filter(|low| *low < 0x400)?;
                    0x1_0000 + ((high - 0xD800) << 10) + low
                } else {
                    high
                };
                plain.push(char::from_u32(code)?);
            }
            same @ ('"' | '\\' | '/') => plain.push(same),
            _ => return None,
        }
        rest = after.as_str();
    }
    plain.push_str(rest);
    Some(plain)
}

/// Four digits.
fn hex(from: &mut std::str::Chars<'_>) -> Option<u32> {
    let mut code = 0;
    for _ in 0..4 {
        code = code * 16 + from.next()?.to_digit(16)?;
    }
    Some(code)
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
            r"\ud83d\u0041",
            r"\ude00",
            r"\u12",
            r"\u12g4",
            r"\x",
            r"\",
        ] {
            let theirs = serde_json::from_str::<String>(&format!("\"{written}\"")).ok();
            assert_eq!(unescape(written), theirs, "{written}");
        }
    }
}
