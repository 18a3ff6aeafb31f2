//! The encodings of a value in other text: JSON, Python, URLs, forms and base64.

use std::fmt::Write as _;

/// The minimum length of a base64 fragment that is hidden. Shorter fragments are too common.
const BASE64: usize = 8;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Returns all forms in which a value can occur in a text, the value itself first.
pub(super) fn forms(value: &str) -> Vec<String> {
    let mut forms = vec![value.to_owned()];
    for once in [json(value), ascii(&json(value))] {
        // Also JSON within JSON, for example a log line that quotes a request.
        forms.push(json(&once));
        forms.push(once);
    }
    // The quotes of Python, for a value that contains both kinds.
    forms.push(json(value).replace("\\\"", "\"").replace('\'', "\\'"));
    for unescaped in ["-._~", "-._~/"] {
        for lower in [false, true] {
            let encoded = percent_encoded(value, unescaped, lower);
            forms.push(encoded.replace("%20", "+"));
            forms.push(encoded);
        }
    }
    for before in 0..3 {
        let encoded = base64(value.as_bytes(), before);
        if encoded.len() >= BASE64 {
            forms.push(encoded.replace('+', "-").replace('/', "_"));
            forms.push(encoded);
        }
    }
    forms
}

/// Returns the value as the content of a JSON string.
fn json(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Escapes non-ASCII characters as in ASCII-only JSON.
fn ascii(json: &str) -> String {
    let mut text = String::new();
    for letter in json.chars() {
        if letter.is_ascii() {
            text.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut [0; 2]) {
            let _infallible = write!(text, "\\u{unit:04x}");
        }
    }
    text
}

fn percent_encoded(value: &str, unescaped: &str, lower: bool) -> String {
    let mut encoded = String::new();
    for byte in value.bytes() {
        let _infallible = match lower {
            _ if byte.is_ascii_alphanumeric() || unescaped.as_bytes().contains(&byte) => {
                encoded.write_char(byte.into())
            }
            true => write!(encoded, "%{byte:02x}"),
            false => write!(encoded, "%{byte:02X}"),
        };
    }
    encoded
}

/// Returns the part of a text's base64 that depends only on this value. `before` is the number of
/// preceding bytes, modulo 3.
fn base64(value: &[u8], before: usize) -> String {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(value);
    // Each character encodes six bits; the first characters also depend on the preceding bytes.
    let (first, whole) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
    let bit = |at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    let letter = |at: usize| (at * 6..at * 6 + 6).fold(0, |bits, at| bits << 1 | bit(at));
    (first..whole)
        .map(|at| char::from(ALPHABET[usize::from(letter(at))]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_forms_are_in_every_text_with_the_value() {
        assert_eq!(base64(b"key:value", 0), "a2V5OnZhbHVl");
        // "x" + "key" is "eGtleQ==", "xy" + "key" is "eHlrZXk=".
        assert_eq!(base64(b"key", 1), "tle");
        assert_eq!(base64(b"key", 2), "rZX");
        assert_eq!(base64(b"", 0), "");
        assert_eq!(base64(b"\xff\xfe\xfd", 0), "//79");
    }

    #[test]
    fn a_value_has_the_forms_that_programs_write() {
        let forms = forms("pä/ \"'\n");
        for form in [
            "pä/ \"'\n",
            "pä/ \\\"'\\n",
            "p\\u00e4/ \\\"'\\n",
            "pä/ \\\\\\\"'\\\\n",
            "p\\\\u00e4/ \\\\\\\"'\\\\n",
            "pä/ \"\\'\\n",
            "p%C3%A4%2F%20%22%27%0A",
            "p%c3%a4/+%22%27%0a",
        ] {
            assert!(forms.iter().any(|known| known == form), "{form} {forms:?}");
        }
    }
}
