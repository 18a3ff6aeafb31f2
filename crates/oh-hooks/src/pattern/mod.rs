//! An engine for Python regular expressions that tests whether a pattern matches a whole name.
//!
//! The server matches with Python's `re`, and no Rust engine supports its syntax: it has
//! look-around and back-references, but not `\p{…}`, `a**` or set operations. If client and server
//! interpreted a pattern differently, a guard would guard on one side only. This module therefore
//! implements Python's grammar and rules. A pattern that it cannot evaluate with certainty is
//! refused, never guessed. Letters are those of this build's Unicode version; an older Python may
//! not support the newest ones.

mod class;
mod cursor;
mod escape;
mod flags;
mod parse;
mod program;
mod tree;

pub(crate) use program::Pattern;

/// Why a pattern cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Python rejects the pattern too.
    Invalid(String),
    /// Python accepts the pattern, but only Python can evaluate it.
    Undecided(String),
}

fn invalid<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid(why.into()))
}

fn undecided<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Undecided(why.into()))
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn full(pattern: &str, text: &str) -> Result<bool, Refusal> {
        Pattern::new(pattern)?.full_match(text)
    }

    #[test]
    fn features_of_python_patterns_match_as_in_python() {
        for (pattern, yes, no) in [
            ("(?!terminal$).*", "browser", "terminal"),
            (".*(?<!_read)", "file_edit", "file_read"),
            (r"(\w)\1", "aa", "ab"),
            ("(?P<q>['\"]).(?P=q)", "'x'", "'x\""),
            ("(a)?(?(1)b|c)", "ab", "b"),
            ("(?>a|ab)c?", "ac", "abc"),
            ("a{1,2}+", "aa", "aaa"),
            (
                "(?i:TERM)inal",
                "termInal".to_lowercase().as_str(),
                "TERMINAL",
            ),
            (r"\**", "***", "a"),
            ("x{,3}", "xxx", "xxxx"),
            ("{a}", "{a}", "a"),
            ("[a&&b]+", "a&b", "c"),
            ("[--/]", ".", "0"),
            ("a(?#not said)b", "ab", "a"),
            (r"(?x) a \  b # c", "a b", "ab"),
            (r"\é", "é", "e"),
            ("^^a$$", "a", "b"),
        ] {
            assert_eq!(full(pattern, yes), Ok(true), "{pattern} {yes}");
            assert_eq!(full(pattern, no), Ok(false), "{pattern} {no}");
        }
    }

    #[test]
    fn invalid_python_patterns_are_rejected_with_their_place() {
        for (pattern, word) in [
            ("a**", "position 3"),
            ("a{2}{3}", "repeat"),
            ("^*", "nothing to repeat"),
            (r"\pL", "escape"),
            (r"\x{41}", "escape"),
            ("(?<n>a)", "unknown"),
            ("a(?i)b", "start"),
            ("(?<=a+)b", "fixed width"),
            ("(a", "unterminated"),
            ("a)", "parenthesis"),
            (r"(\1)", "open group"),
            (r"\2(a)", "group reference"),
            ("(?P<a>x)(?P<a>y)", "twice"),
            ("[z-a]", "range"),
            ("(?i-i:a)", "on and off"),
            ("\\", "end"),
        ] {
            let Err(Refusal::Invalid(why)) = full(pattern, "a") else {
                panic!("{pattern}: {:?}", full(pattern, "a"));
            };
            assert!(why.contains(word), "{pattern}: {why}");
        }
    }

    #[test]
    fn undecidable_matches_are_not_guessed() {
        for (pattern, text) in [
            (r"\N{DIGIT ONE}", "1"),
            // `\z` exists only since Python 3.14, where `\B` also matches an empty text.
            (r"a\z", "a"),
            (r"\B", ""),
            (r"a\Bb", "ab"),
            ("(?i)é", "é"),
            ("(?i)k", "\u{212a}"),
            ("(a{1000}){1000}", "a"),
            ("((a*)*)*b", &"a".repeat(200)),
            (&"(".repeat(200), "a"),
        ] {
            let answer = full(pattern, text);
            assert!(matches!(answer, Err(Refusal::Undecided(_))), "{answer:?}");
        }
    }
}
