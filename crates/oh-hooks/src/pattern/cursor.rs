//! A position in the text of a pattern.

use super::{Refusal, invalid};

pub(super) struct Cursor {
    text: Vec<char>,
    pub(super) at: usize,
}

/// A character, or the character after a backslash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Plain(char),
    Escape(char),
}

impl Cursor {
    pub(super) fn new(text: &str) -> Self {
        Self {
            text: text.chars().collect(),
            at: 0,
        }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    pub(super) fn peek(&self) -> Option<Token> {
        match *self.text.get(self.at)? {
            '\\' => self.text.get(self.at + 1).copied().map(Token::Escape),
            c => Some(Token::Plain(c)),
        }
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        let token = self.peek()?;
        self.at += if matches!(token, Token::Escape(_)) {
            2
        } else {
            1
        };
        Some(token)
    }

    pub(super) fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(Token::Plain(c));
        self.at += usize::from(found);
        found
    }

    pub(super) fn complete_escapes(&mut self) -> Result<(), Refusal> {
        while self.next().is_some() {}
        if self.at < self.text.len() {
            return invalid("backslash at the end");
        }
        self.at = 0;
        Ok(())
    }

    pub(super) fn digits(&mut self, radix: u32, most: usize) -> String {
        let mut digits = String::new();
        while let Some(Token::Plain(c)) = self.peek() {
            if digits.len() == most || !c.is_digit(radix) {
                break;
            }
            digits.push(c);
            self.at += 1;
        }
        digits
    }

    pub(super) fn here<T>(&self, why: &str) -> Result<T, Refusal> {
        invalid(format!("{why} at position {}", self.at))
    }
}
