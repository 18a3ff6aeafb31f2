//! Python's regular expressions, as far as a matcher needs them: does one match a whole name?
//!
//! The server matches with Python's `re`, whose flavour no engine here shares: look-around and
//! back-references, but no `\p{…}`, no `a**`, no set operations. Two readings of one pattern would
//! be a guard that guards on one side only, so its grammar and its rules are kept here. Knows
//! nothing of hooks or tools. What it cannot decide it refuses; it never guesses. (Letters are those
//! of this build's Unicode; an older Python may not know the newest.)

mod class;
mod escape;
mod flags;
mod parse;
mod program;

pub(crate) use program::Pattern;

/// Why a pattern has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Python refuses it, too.
    Invalid(String),
    /// Python would take it, and only Python can tell what it matches.
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
    fn what_only_python_has_matches_as_there() {
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
    fn what_python_refuses_is_refused_with_its_place() {
        for (pattern, word) in [
            ("a**", "at 3"),
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
    fn what_cannot_be_decided_is_not_guessed() {
        for (pattern, text) in [
            (r"\N{DIGIT ONE}", "1"),
            // Python 3.14 has the one, and the other matches an empty text there.
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
