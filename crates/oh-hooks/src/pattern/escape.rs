//! Parsing of characters: escapes, sets and literals.

use super::{
    Refusal,
    class::{Class, Item},
    cursor::{Cursor, Token},
    flags::Flags,
    tree::Node,
    undecided,
};

impl Cursor {
    /// Parses an escape that has the same meaning inside and outside of a set.
    pub(super) fn in_set(&mut self, c: char) -> Result<Item, Refusal> {
        let hex = |parser: &mut Self, count: usize| {
            let digits = parser.digits(16, count);
            match u32::from_str_radix(&digits, 16) {
                Ok(code) if digits.len() == count && code <= 0x10_ffff => {
                    Ok(Item::Range(code, code))
                }
                _ => parser.here("incomplete escape"),
            }
        };
        Ok(match c {
            'd' | 'D' => Item::Digit(c == 'D'),
            's' | 'S' => Item::Space(c == 'S'),
            'w' | 'W' => Item::Word(c == 'W'),
            'a' => one('\u{7}'),
            'f' => one('\u{c}'),
            'n' => one('\n'),
            'r' => one('\r'),
            't' => one('\t'),
            'v' => one('\u{b}'),
            'x' => return hex(self, 2),
            'u' => return hex(self, 4),
            'U' => return hex(self, 8),
            'N' if self.peek() == Some(Token::Plain('{')) => {
                return undecided("named characters are not supported");
            }
            _ if c.is_ascii_alphanumeric() => return self.here("invalid escape"),
            _ => one(c),
        })
    }

    pub(super) fn set(&mut self, flags: Flags) -> Result<Node, Refusal> {
        let negated = self.eat('^');
        let mut items: Vec<Item> = Vec::new();
        loop {
            let item = match self.next() {
                None => return self.here("unterminated set"),
                Some(Token::Plain(']')) if !items.is_empty() => break,
                Some(token) => self.member(token)?,
            };
            if !self.eat('-') {
                items.push(item);
                continue;
            }
            let last = match self.next() {
                None => return self.here("unterminated set"),
                Some(Token::Plain(']')) => {
                    items.extend([item, one('-')]);
                    break;
                }
                Some(token) => self.member(token)?,
            };
            match (item, last) {
                (Item::Range(first, _), Item::Range(last, _)) if first <= last => {
                    items.push(Item::Range(first, last));
                }
                _ => return self.here("invalid range"),
            }
        }
        take(items, negated, flags)
    }

    fn member(&mut self, token: Token) -> Result<Item, Refusal> {
        let c = match token {
            Token::Plain(c) => return Ok(one(c)),
            Token::Escape(c) => c,
        };
        match c {
            'b' => Ok(one('\u{8}')),
            '0'..='7' => {
                let digits = format!("{c}{}", self.digits(8, 2));
                match u32::from_str_radix(&digits, 8) {
                    Ok(code) if code <= 0o377 => Ok(Item::Range(code, code)),
                    _ => self.here("octal escape too large"),
                }
            }
            _ => self.in_set(c),
        }
    }
}

pub(super) fn one(c: char) -> Item {
    Item::Range(u32::from(c), u32::from(c))
}

pub(super) fn literal(code: u32, flags: Flags) -> Result<Node, Refusal> {
    take(vec![Item::Range(code, code)], false, flags)
}

pub(super) fn take(items: Vec<Item>, negated: bool, flags: Flags) -> Result<Node, Refusal> {
    let class = Class {
        negated,
        items,
        fold: flags.fold,
        ascii: flags.ascii,
    };
    match class.folds() {
        true => Ok(Node::Take(class)),
        false => undecided("case folding of non-ASCII letters is not supported"),
    }
}
