//! Parsing of pattern flags such as `(?i)` and `(?i-s:…)`.

use super::{
    Refusal,
    cursor::{Cursor, Token},
};

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flags {
    pub(super) fold: bool,
    pub(super) many_lines: bool,
    pub(super) dot_all: bool,
    pub(super) verbose: bool,
    pub(super) ascii: bool,
    pub(super) unicode: bool,
}

impl Cursor {
    /// Parses flags and returns whether they apply to the whole pattern.
    pub(super) fn flags(&mut self, first: char, flags: &mut Flags) -> Result<bool, Refusal> {
        let (mut on, mut off) = (String::new(), String::new());
        let mut sign = Some(Token::Plain(first));
        let mut negative = false;
        loop {
            let Some(Token::Plain(c)) = sign else {
                return self.here("unterminated flags");
            };
            match c {
                ')' if !negative => break,
                ':' if !negative || !off.is_empty() => break,
                '-' if !negative => negative = true,
                'a' | 'u' | 'L' if negative => {
                    return self.here("this flag cannot be turned off");
                }
                'L' => return self.here("flag `L` is only for bytes patterns"),
                'i' | 'm' | 's' | 'x' | 'a' | 'u' => {
                    if negative { &mut off } else { &mut on }.push(c);
                }
                _ => return self.here("unknown flag"),
            }
            sign = self.next();
        }
        if on.contains('a') && on.contains('u') {
            return self.here("incompatible flags");
        }
        if on.contains(|c| off.contains(c)) {
            return self.here("flag turned on and off");
        }
        let whole = sign == Some(Token::Plain(')'));
        for (letters, value) in [(on, true), (off, false)] {
            for letter in letters.chars() {
                match letter {
                    'i' => flags.fold = value,
                    'm' => flags.many_lines = value,
                    's' => flags.dot_all = value,
                    'x' => flags.verbose = value,
                    'a' => {
                        flags.ascii = true;
                        flags.unicode &= whole;
                    }
                    _ => {
                        flags.unicode = true;
                        flags.ascii &= whole;
                    }
                }
            }
        }
        Ok(whole)
    }
}
