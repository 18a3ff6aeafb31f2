//! The reason in an error's message: the texts of its causes, without repetitions and secrets.

use std::error::Error;

use crate::{printable, redact::Redactor};

/// The maximum length of a reason, in characters. A longer reason is truncated and ends with `…`.
const LONGEST: usize = 2000;
/// The maximum number of bytes of a cause's text that are examined.
const EXAMINED: usize = 4 * LONGEST;

/// Returns the reason that an error gives: its text and the texts of its sources, joined by `: `.
///
/// A source is skipped if the text before it already contains the source's text. Errors whose
/// `Display` includes their source can therefore be mixed with errors whose `Display` does not. The
/// reason is one line of at most 2,000 characters. [`redact`](crate::redact) hides secrets, and
/// [`printable`] replaces control characters.
///
/// ```
/// let error = std::io::Error::other("connection\nlost");
/// assert_eq!(oh_protocol::reason::of(&error), "connection lost");
/// ```
pub fn of(error: &dyn Error) -> String {
    let root = clean(&root(error).to_string());
    let mut reason = clean(&error.to_string());
    let mut next = error.source();
    while let Some(cause) = next {
        if contains(&reason, &root) {
            break;
        }
        append(&mut reason, &clean(&cause.to_string()));
        next = cause.source();
    }
    shorten(&mut reason);
    reason
}

/// Appends a reason to a message: `message: reason`.
///
/// Appends nothing if the reason is empty or the message already contains it. The reason is
/// truncated to 2,000 characters.
///
/// ```
/// let mut message = "cannot attach".to_owned();
/// oh_protocol::reason::append(&mut message, "connection refused");
/// oh_protocol::reason::append(&mut message, "connection refused");
/// assert_eq!(message, "cannot attach: connection refused");
/// ```
pub fn append(message: &mut String, reason: &str) {
    let known = match reason.strip_suffix('…') {
        Some(start) => clean(message).contains(start),
        None => contains(message, reason) || contains(&clean(message), reason),
    };
    if known {
        return;
    }
    if !message.is_empty() {
        message.push_str(": ");
    }
    let mut reason = reason.to_owned();
    shorten(&mut reason);
    message.push_str(&reason);
}

/// Returns the last error in the chain of sources.
fn root<'a>(error: &'a (dyn Error + 'a)) -> &'a (dyn Error + 'a) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// Returns a text on one line, without secrets and control characters.
fn clean(text: &str) -> String {
    let all = text.len() <= EXAMINED;
    let end = match all {
        true => text.len(),
        false => (0..=EXAMINED)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0),
    };
    // Remove styles before redaction: a colour sequence inside a name must not prevent its
    // detection.
    let text = printable(&text[..end]);
    let mut stream = Redactor::new().stream();
    let mut shown = stream.push(&text);
    // If the text was truncated, its end may be the beginning of a secret.
    if all {
        shown.push_str(&stream.finish());
    }
    let lines = shown.split(['\n', '\t']).map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn shorten(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(at);
        text.push('…');
    }
}

/// Returns whether a text contains a phrase, as whole words. Every text contains the empty phrase.
fn contains(text: &str, phrase: &str) -> bool {
    let word = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
    let split = |letter: Option<char>, other: Option<char>| !(word(letter) && word(other));
    phrase.is_empty()
        || text.match_indices(phrase).any(|(at, _)| {
            let (before, after) = (&text[..at], &text[at + phrase.len()..]);
            split(before.chars().next_back(), phrase.chars().next())
                && split(phrase.chars().next_back(), after.chars().next())
        })
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    struct Failure(String, Option<Box<Failure>>);

    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl Error for Failure {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|source| source as _)
        }
    }

    fn chain(texts: &[&str]) -> Failure {
        let mut source = None;
        for text in texts.iter().rev() {
            source = Some(Box::new(Failure((*text).to_owned(), source)));
        }
        *source.unwrap()
    }

    #[test]
    fn the_reason_has_each_text_of_the_chain_once() {
        for (texts, reason) in [
            (&["refused"][..], "refused"),
            (
                &["no key", "the vault is shut"],
                "no key: the vault is shut",
            ),
            (&["a: b: c", "b: c", "c"], "a: b: c"),
            // Like an error of an HTTP client whose causes contain less detail than its own text.
            (
                &["request failed: refused", "connect error", "refused"],
                "request failed: refused",
            ),
            (&["failed", "failed", "refused"], "failed: refused"),
            (&["an ion beam", "io"], "an ion beam: io"),
            (&["", "lost"], "lost"),
            (&["lost", ""], "lost"),
        ] {
            assert_eq!(of(&chain(texts)), reason);
        }
    }

    #[test]
    fn a_reason_that_the_message_has_is_not_repeated() {
        for (message, reason, shown) in [
            ("cannot attach", "refused", "cannot attach: refused"),
            (
                "cannot attach: refused",
                "refused",
                "cannot attach: refused",
            ),
            (
                "cannot attach (refused)",
                "refused",
                "cannot attach (refused)",
            ),
            ("cannot attach", "", "cannot attach"),
            ("", "refused", "refused"),
            ("no at\nall", "at all", "no at\nall"),
            ("failed: a long story", "a long st…", "failed: a long story"),
        ] {
            let mut text = message.to_owned();
            append(&mut text, reason);
            assert_eq!(text, shown);
        }
    }

    #[test]
    fn a_secret_is_hidden_even_where_a_long_text_is_cut() {
        let url = "GET https://me:canary-1@host/x?token=canary-2 failed";
        assert_eq!(
            of(&chain(&[url])),
            "GET https://<redacted>@host/x?<redacted> failed"
        );
        for length in EXAMINED - 60..=EXAMINED {
            let reason = of(&chain(&[&format!("{}{url}", " ".repeat(length))]));
            assert!(!reason.contains("canary"), "{length}: {reason}");
        }
    }

    proptest! {
        #[test]
        fn a_reason_is_one_short_line_without_control_characters(
            texts in proptest::collection::vec(
                "\\PC{0,40}|[\\x00-\\x1f\\x7f-\\x9f]{1,9}|x{3000}", 1..5,
            )
        ) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let reason = of(&chain(&texts));
            prop_assert!(!reason.contains(char::is_control), "{:?}", reason);
            prop_assert!(reason.chars().count() <= LONGEST + 1);
        }
    }
}
