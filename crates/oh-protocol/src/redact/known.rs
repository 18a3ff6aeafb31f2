//! Redaction of known secret values, wherever they occur.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::{mark::HIDDEN, written};

/// Values with fewer bytes than this are hidden only as separate words, because they often occur as
/// parts of longer words.
const SHORT: usize = 6;
/// In a multi-line secret, each line of at least this many bytes is also hidden by itself.
const LINE: usize = 12;

/// Values to hide. Clones share the values.
#[derive(Clone, Default)]
pub(super) struct Known(Arc<Values>);

#[derive(Clone, Default)]
struct Values {
    /// The values, longest first.
    all: Vec<SecretString>,
    /// A bit set of the first bytes of all values.
    begins: [u64; 4],
}

/// The result of matching at one position of a text.
enum Found {
    Nothing,
    /// A value of this length in bytes.
    Value(usize),
    /// Undecided: the text may end within a value.
    Open,
}

impl Known {
    pub(super) fn add(&mut self, secret: &SecretString) {
        let secret = secret.expose_secret();
        let trimmed = secret.trim();
        let lines = trimmed
            .lines()
            .map(str::trim)
            .filter(|line| line.len() >= LINE);
        let values = Arc::make_mut(&mut self.0);
        for value in [secret, trimmed].into_iter().chain(lines) {
            for form in written::forms(value) {
                values.add(form);
            }
        }
        let length = |value: &SecretString| value.expose_secret().len();
        values
            .all
            .sort_by_key(|value| std::cmp::Reverse(length(value)));
    }

    /// Appends `text` without the known values to `shown` and returns the number of processed
    /// bytes. All of the text is processed if it is `finished`; otherwise the rest may be the
    /// beginning of a value.
    ///
    /// `before` is the character that precedes `text`.
    pub(super) fn hide(
        &self,
        text: &str,
        mut before: Option<char>,
        finished: bool,
        shown: &mut String,
    ) -> usize {
        let mut at = 0;
        while at < text.len() {
            // Values start at character boundaries, so the text before a value is valid UTF-8.
            let plain = text[at..].bytes().position(|byte| self.0.begins(byte));
            let plain = plain.unwrap_or(text.len() - at);
            if plain > 0 {
                shown.push_str(&text[at..at + plain]);
                at += plain;
                before = text[..at].chars().next_back();
            }
            let Some(next) = text[at..].chars().next() else {
                break;
            };
            match self.at(&text[at..], before, finished) {
                Found::Open => return at,
                Found::Value(length) => {
                    shown.push_str(HIDDEN);
                    before = text[..at + length].chars().next_back();
                    at += length;
                }
                Found::Nothing => {
                    shown.push(next);
                    before = Some(next);
                    at += next.len_utf8();
                }
            }
        }
        at
    }

    /// Matches a value at the beginning of `text`, including further values that overlap with its
    /// end.
    fn at(&self, text: &str, before: Option<char>, finished: bool) -> Found {
        let mut end = 0;
        let mut from = 0;
        while from <= end {
            let before = match from {
                0 => before,
                _ => text[..from].chars().next_back(),
            };
            match self.one(&text[from..], before, finished) {
                // An overlapping value may follow when more text arrives.
                Found::Open => return Found::Open,
                Found::Value(length) => end = end.max(from + length),
                Found::Nothing if end == 0 => return Found::Nothing,
                Found::Nothing => {}
            }
            from += text[from..].chars().next().map_or(1, char::len_utf8);
            if from >= end {
                break;
            }
        }
        Found::Value(end)
    }

    fn one(&self, text: &str, before: Option<char>, finished: bool) -> Found {
        let mut found = Found::Nothing;
        for value in &self.0.all {
            let value = value.expose_secret();
            if !finished && text.len() <= value.len() && value.starts_with(text) {
                // A short value at the end of the text is undecided: the next character determines
                // whether it is a separate word.
                if text.len() < value.len() || value.len() < SHORT {
                    return Found::Open;
                }
            }
            if matches!(found, Found::Nothing)
                && text.starts_with(value)
                && (value.len() >= SHORT || stands_alone(before, &text[value.len()..]))
            {
                found = Found::Value(value.len());
            }
        }
        found
    }
}

impl Values {
    fn add(&mut self, value: String) {
        let known = |other: &SecretString| other.expose_secret() == value;
        if let Some(first) = value.bytes().next()
            && !self.all.iter().any(known)
        {
            self.begins[usize::from(first >> 6)] |= 1 << (first & 63);
            self.all.push(value.into());
        }
    }

    fn begins(&self, byte: u8) -> bool {
        self.begins[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
    }
}

fn stands_alone(before: Option<char>, after: &str) -> bool {
    let part = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
    !part(before) && !part(after.chars().next())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(values: &[&str]) -> Known {
        let mut known = Known::default();
        for value in values {
            known.add(&SecretString::from(*value));
        }
        known
    }

    fn shown(values: &[&str], text: &str) -> String {
        let mut shown = String::new();
        known(values).hide(text, None, true, &mut shown);
        shown
    }

    #[test]
    fn overlapping_and_nested_values_are_hidden() {
        let long = ["secret-1", "my-secret-1-long"];
        assert_eq!(
            shown(&long, "a my-secret-1-long b secret-1"),
            "a <redacted> b <redacted>"
        );
        assert_eq!(
            shown(&["abcdef", "defghijk"], "xabcdefghijkx"),
            "x<redacted>x"
        );
        assert_eq!(shown(&["abcdef"], "abcdefabcdef"), "<redacted><redacted>");
    }

    #[test]
    fn a_value_is_hidden_within_base64() {
        let value = "canary-0123456789";
        // `canary-…`, `u:canary-…`, `user:canary-…x`, `acanary-…xy`.
        for encoded in [
            "Y2FuYXJ5LTAxMjM0NTY3ODk=",
            "dTpjYW5hcnktMDEyMzQ1Njc4OQ==",
            "dXNlcjpjYW5hcnktMDEyMzQ1Njc4OXg=",
            "YWNhbmFyeS0wMTIzNDU2Nzg5eHk=",
        ] {
            let shown = shown(&[value], &format!("Basic {encoded} end"));
            assert!(shown.contains(HIDDEN) && shown.ends_with("end"), "{shown}");
            assert!(shown.len() < 32, "{shown}");
        }
    }

    #[test]
    fn a_short_value_is_hidden_as_a_whole_word() {
        assert_eq!(
            shown(&["key"], "key monkey keys =key"),
            "<redacted> monkey keys =<redacted>"
        );
        assert_eq!(shown(&[""], "a"), "a");
    }

    #[test]
    fn a_value_is_hidden_in_json_and_url_form_and_line_by_line() {
        let key = "first line of it\nsecond \"line\" of it\n";
        for text in [
            key,
            "first line of it",
            r#"second \"line\" of it"#,
            "second%20%22line%22%20of%20it",
            "second+%22line%22+of+it",
        ] {
            assert_eq!(shown(&[key], text).trim(), HIDDEN, "{text}");
        }
    }

    proptest! {
        #[test]
        fn redacted_pieces_equal_the_redacted_whole(
            text in "[abc]{0,40}",
            cuts in proptest::collection::vec(0usize..40, 0..6),
        ) {
            let known = known(&["abcabca", "cab", "bbbbbb", "aabbcca"]);
            let mut whole = String::new();
            known.hide(&text, None, true, &mut whole);
            let mut cuts = cuts;
            cuts.sort_unstable();
            let (mut pending, mut pieces, mut from) = (String::new(), String::new(), 0);
            let mut before = None;
            for cut in cuts.into_iter().map(|cut| cut.min(text.len())).chain([text.len()]) {
                pending.push_str(&text[from..cut]);
                from = cut;
                let done = known.hide(&pending, before, false, &mut pieces);
                before = pending[..done].chars().next_back().or(before);
                pending.drain(..done);
            }
            known.hide(&pending, before, true, &mut pieces);
            prop_assert_eq!(pieces, whole);
        }
    }
}
