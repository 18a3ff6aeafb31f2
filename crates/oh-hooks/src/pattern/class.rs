//! Character classes with Python's categories and case folding.

use std::sync::LazyLock;

use regex::Regex;

use super::{Refusal, undecided};

/// A set of characters.
#[derive(Debug, Clone)]
pub(super) struct Class {
    pub(super) negated: bool,
    pub(super) items: Vec<Item>,
    /// Whether matching ignores case.
    pub(super) fold: bool,
    /// Whether categories contain only ASCII characters.
    pub(super) ascii: bool,
}

/// An element of a set. The `bool` of a category is true if the category is negated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// An inclusive range of code points. Python allows surrogates here, which no Rust text
    /// contains.
    Range(u32, u32),
    Digit(bool),
    Space(bool),
    Word(bool),
}

/// Non-ASCII letters that fold to an ASCII letter.
const FOLD_TO_ASCII: [char; 4] = ['\u{130}', '\u{131}', '\u{17f}', '\u{212a}'];

impl Class {
    /// Returns whether case folding is supported for the set. Only ASCII characters are.
    pub(super) fn folds(&self) -> bool {
        let ascii = |item: &Item| !matches!(item, Item::Range(_, last) if *last > 0x7f);
        !self.fold || self.items.iter().all(ascii)
    }

    pub(super) fn takes(&self, c: char) -> Result<bool, Refusal> {
        if self.fold && FOLD_TO_ASCII.contains(&c) {
            return undecided(format!("case folding of `{c}` is not supported"));
        }
        let mut found = false;
        for item in &self.items {
            found |= match *item {
                Item::Range(first, last) => {
                    let within = |c: char| (first..=last).contains(&u32::from(c));
                    within(c)
                        || self.fold
                            && (within(c.to_ascii_lowercase()) || within(c.to_ascii_uppercase()))
                }
                Item::Digit(not) => digit(c, self.ascii) != not,
                Item::Space(not) => space(c, self.ascii) != not,
                Item::Word(not) => word(c, self.ascii) != not,
            };
        }
        Ok(found != self.negated)
    }
}

fn digit(c: char, ascii: bool) -> bool {
    c.is_ascii_digit() || !c.is_ascii() && !ascii && is(c, &DIGIT)
}

fn space(c: char, ascii: bool) -> bool {
    match c {
        ' ' | '\t'..='\r' => true,
        '\u{1c}'..='\u{1f}' => !ascii,
        _ => !c.is_ascii() && !ascii && c.is_whitespace(),
    }
}

pub(super) fn word(c: char, ascii: bool) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii() && !ascii && is(c, &LETTER)
}

// `char::is_alphanumeric` also accepts marks and circled letters.
static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\p{L}\p{N}]$").ok());
static DIGIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{Nd}$").ok());

fn is(c: char, table: &LazyLock<Option<Regex>>) -> bool {
    let mut buffer = [0; 4];
    let text = c.encode_utf8(&mut buffer);
    table.as_ref().is_some_and(|table| table.is_match(text))
}
