//! Text that is safe to print to a terminal.

use std::borrow::Cow;

/// Returns a text that can neither control a terminal nor change the order of displayed text.
///
/// Control characters are replaced with visible symbols (`␛` for the escape that starts window
/// titles and cursor movements, `␇` for the bell, `␍` for a carriage return). The same applies to
/// C1 control characters, marks that change the text direction, and invisible format characters.
/// Colours, styles and the carriage return of a line ending are removed. Line feeds and tabs are
/// kept.
///
/// ```
/// assert_eq!(oh_protocol::printable("\x1b[2J\x1b[31mall\x1b[m\r\nfine\x07"), "␛[2Jall\nfine␇");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(acts) else {
        return Cow::Borrowed(text);
    };
    let mut shown = String::with_capacity(text.len() + 16);
    shown.push_str(&text[..first]);
    let mut rest = &text[first..];
    while let Some(letter) = rest.chars().next() {
        let after = &rest[letter.len_utf8()..];
        if let Some(after) = style(letter, after) {
            rest = after;
            continue;
        }
        rest = match letter {
            '\r' if after.starts_with('\n') => after,
            _ if acts(letter) => {
                shown.push_str(&symbol(letter));
                after
            }
            _ => {
                shown.push(letter);
                after
            }
        };
    }
    Cow::Owned(shown)
}

/// Returns the text after the colour or style sequence that starts here, if there is one.
fn style(begin: char, after: &str) -> Option<&str> {
    let after = match begin {
        '\u{9b}' => after,
        '\x1b' => after.strip_prefix('[')?,
        _ => return None,
    };
    let digits = |letter: char| letter.is_ascii_digit() || letter == ';' || letter == ':';
    after.trim_start_matches(digits).strip_prefix('m')
}

/// Returns whether a character has any effect other than being displayed.
fn acts(letter: char) -> bool {
    match letter {
        '\n' | '\t' => false,
        _ if letter.is_control() => true,
        // Text direction: marks, embeddings, overrides, isolates.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' => true,
        '\u{2066}'..='\u{206f}' => true,
        // Line and paragraph separators and invisible characters, except for the joiners that
        // scripts and emoji need.
        '\u{2028}' | '\u{2029}' | '\u{200b}' | '\u{2060}'..='\u{2065}' => true,
        '\u{ad}' | '\u{180e}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' => true,
        '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

fn symbol(letter: char) -> Cow<'static, str> {
    let picture = match u32::from(letter) {
        code @ 0..=0x1f => char::from_u32(0x2400 + code),
        0x7f => Some('\u{2421}'),
        _ => None,
    };
    match picture {
        Some(picture) => picture.to_string().into(),
        None => format!("<U+{:04X}>", u32::from(letter)).into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terminal_control_characters_become_visible() {
        for (text, shown) in [
            ("plain ü 日本 🦀\tline\nnext", "plain ü 日本 🦀\tline\nnext"),
            ("\x1b]0;title\x07\x1b[2J", "␛]0;title␇␛[2J"),
            (
                "\x1b[1;31mred\x1b[0m \x1b[38:2::1mx\x1b[m \u{9b}4my",
                "red x y",
            ),
            ("\x1b[31", "␛[31"),
            ("\u{9b}2J \u{90}q", "<U+009B>2J <U+0090>q"),
            ("a\rb\r\nc\x08\x7f\0", "a␍b\nc␈␡␀"),
            (
                "x\u{202e}gpj.exe \u{2066}y\u{2069}",
                "x<U+202E>gpj.exe <U+2066>y<U+2069>",
            ),
            (
                "\u{feff}\u{200b}\u{2028}\u{e0041}",
                "<U+FEFF><U+200B><U+2028><U+E0041>",
            ),
            ("👩\u{200d}🚀", "👩\u{200d}🚀"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    proptest! {
        #[test]
        fn printable_text_has_no_control_characters(text in any::<String>()) {
            let shown = printable(&text);
            let fine = |letter: char| !letter.is_control() || letter == '\n' || letter == '\t';
            prop_assert!(shown.chars().all(fine));
            prop_assert_eq!(printable(&shown), shown.as_ref());
        }
    }
}
