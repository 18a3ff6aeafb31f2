//! Paths in git's quotes. The server passes them on with their escapes; up to 1.58 it replaces
//! their backslashes by slashes.

/// Unquotes a path. Returns `None` if git has not quoted it. Git quotes any name that begins with a
/// quote, so text that is not validly quoted is a plain name.
///
/// When the backslashes were replaced, an escape looks like a directory. An escape of a non-ASCII
/// character or of a quote is decoded; one of a tab or a line break is not.
pub(super) fn read(path: &str) -> Option<String> {
    let inner = path.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    let mut name = Vec::with_capacity(inner.len());
    let mut at = 0;
    while let Some(&byte) = inner.get(at) {
        let rest = &inner[at + 1..];
        if byte == b'"' {
            return None;
        }
        if !matches!(byte, b'/' | b'\\') {
            name.push(byte);
            at += 1;
            continue;
        }
        if let Some((character, length)) = character(&inner[at..]) {
            name.extend_from_slice(&character[..length]);
            at += 4 * length;
            continue;
        }
        // A slash, followed by an escaped quote.
        let then_quote = rest.starts_with(b"/\"");
        let (plain, length) = match (byte, rest.first()) {
            (_, Some(b'"')) => (b'"', 2),
            (_, Some(same)) if *same == byte && !then_quote => (b'\\', 2),
            (b'/', _) => (b'/', 1),
            (_, Some(b't')) => (b'\t', 2),
            (_, Some(b'n')) => (b'\n', 2),
            (_, Some(b'r')) => (b'\r', 2),
            _ => return None,
        };
        name.push(plain);
        at += length;
    }
    // A name that is not UTF-8 stays quoted, so that it remains unique.
    String::from_utf8(name).ok()
}

/// Removes the quotes and escapes from a path as git prints it. A name that is not UTF-8 stays
/// quoted, so that it remains unique.
pub(super) fn unquoted(path: &str) -> String {
    let inner = |path: &str| {
        let inner = path.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
        let mut name = Vec::with_capacity(inner.len());
        let mut rest = inner.iter();
        while let Some(&byte) = rest.next() {
            if byte != b'\\' {
                name.push(byte);
                continue;
            }
            name.push(match rest.next()? {
                b'a' => 7,
                b'b' => 8,
                b't' => b'\t',
                b'n' => b'\n',
                b'v' => 11,
                b'f' => 12,
                b'r' => b'\r',
                first @ b'0'..=b'3' => {
                    let octal = |digit: &u8| (b'0'..=b'7').contains(digit).then(|| digit - b'0');
                    let (second, third) = (octal(rest.next()?)?, octal(rest.next()?)?);
                    (first - b'0') << 6 | second << 3 | third
                }
                other => *other,
            });
        }
        String::from_utf8(name).ok()
    };
    inner(path).unwrap_or_else(|| path.to_owned())
}

/// Decodes an escaped non-ASCII character. Returns its bytes and their number.
fn character(text: &[u8]) -> Option<([u8; 4], usize)> {
    let octal = |digit: u8| (b'0'..=b'7').contains(&digit).then(|| digit - b'0');
    let byte = |place: usize| {
        let group = text.get(4 * place..4 * place + 4)?;
        let digits = (octal(group[1])?, octal(group[2])?, octal(group[3])?);
        let escaped = group[0] == text[0] && (2..=3).contains(&digits.0);
        escaped.then_some(digits.0 << 6 | digits.1 << 3 | digits.2)
    };
    let length = match byte(0)? {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let mut bytes = [0; 4];
    for (place, slot) in bytes.iter_mut().enumerate().take(length) {
        *slot = byte(place)?;
    }
    std::str::from_utf8(&bytes[..length]).ok()?;
    Some((bytes, length))
}

#[cfg(test)]
mod tests {
    use super::{read, unquoted};

    #[test]
    fn output_of_git_is_parsed_exactly() {
        for (path, name) in [
            ("plain", "plain"),
            (" a b ", " a b "),
            (r#""gr\303\266\303\237e""#, "größe"),
            (r#""a\tb\nc\r\a\b\v\f""#, "a\tb\nc\r\u{7}\u{8}\u{b}\u{c}"),
            (r#""say \"x\" \\ y\001""#, "say \"x\" \\ y\u{1}"),
            (r#""\377""#, r#""\377""#),
            (r#"""#, r#"""#),
            (r#""open\""#, r#""open\""#),
        ] {
            assert_eq!(unquoted(path), name, "{path}");
        }
    }

    #[test]
    fn quoted_names_of_git_are_parsed() {
        for (path, name) in [
            (r#""gr\303\266\303\237e""#, Some("größe")),
            (r#""a\tb\nc""#, Some("a\tb\nc")),
            (r#""say \"x\" \\ y""#, Some(r#"say "x" \ y"#)),
            (r#""""#, Some("")),
            // With the backslashes replaced.
            (r#""gr/303/266/303/237e.txt""#, Some("größe.txt")),
            (r#""/346/227/245/346/234/254""#, Some("日本")),
            (r#""/360/237/230/200/x""#, Some("😀/x")),
            (r#""say/"it/"""#, Some(r#"say"it""#)),
            (r#""d//"x/"""#, Some(r#"d/"x""#)),
            (r#""back//slash/303/266""#, Some(r"back\slashö")),
            // Directories whose names only look like escaped bytes.
            (r#""/303/266/303/x""#, Some("ö/303/x")),
            (r#""/303/266/test/new/377""#, Some("ö/test/new/377")),
            // Unchanged: not quoted, no closing quote, an invalid escape, invalid UTF-8.
            ("plain", None),
            ("a/303/266", None),
            (r#"""#, None),
            (r#""open"#, None),
            (r#""a"b""#, None),
            (r#""\x41""#, None),
            (r#""end\""#, None),
            (r#""\377""#, None),
        ] {
            assert_eq!(read(path).as_deref(), name, "{path}");
        }
    }
}
