//! A JSON scanner that locates values in one pass, without allocation.
//!
//! All scanned text is guaranteed to be well-formed and of limited depth. An escape may be a lone
//! surrogate, because Python produces such strings and they must not make an event invalid.

mod block;
mod escape;
mod kind;

use std::borrow::Cow;

use block::next_special;
use escape::{escape, unit};

pub(crate) use escape::unescape;
pub(crate) use kind::{kind, written_last};

/// The maximum nesting depth of arrays and objects. The server's own parser has a far lower limit.
const DEPTH: usize = 512;

/// A range in the scanned text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Creates a range from `start` to `end`, exclusive.
    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self {
            start: short(start),
            end: short(end),
        }
    }

    /// Returns the start of the range.
    pub(crate) fn start(self) -> usize {
        self.start as usize
    }

    /// Returns the end of the range, exclusive.
    pub(crate) fn end(self) -> usize {
        self.end as usize
    }

    /// Returns the same range relative to `start`.
    pub(crate) fn from(self, start: usize) -> Self {
        Self::new(
            (self.start as usize).saturating_sub(start),
            (self.end as usize).saturating_sub(start),
        )
    }

    /// Returns the part of `text` in this range.
    pub(crate) fn of(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// Converts a position to 32 bits. A scanned text has at most 2 GiB. A larger position becomes
/// `u32::MAX`, which is outside of any text.
#[inline]
pub(crate) fn short(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// The content of a string, between its quotes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted {
    pub(crate) span: Span,
    /// Whether the content contains escapes.
    pub(crate) escaped: bool,
}

impl Quoted {
    /// Returns the decoded string. `text` is the scanned text.
    pub(crate) fn says(self, text: &str) -> Cow<'_, str> {
        let written = self.span.of(text);
        match self.escaped {
            true => unescape(written).into(),
            false => written.into(),
        }
    }
}

/// An error and its byte position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) what: &'static str,
    pub(crate) at: usize,
}

impl Flaw {
    pub(crate) fn new(what: &'static str, at: usize) -> Self {
        Self { what, at }
    }
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl std::error::Error for Flaw {}

/// Marker error; details are in `Scanner::flaw`. Keeps results small enough for registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop;

type Result<T = (), E = Stop> = std::result::Result<T, E>;

/// The maximum length of a text: positions have 32 bits, one of which is reserved.
const LONGEST: usize = 1 << 31;

/// A position in a JSON text.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    flaw: Flaw,
}

impl<'a> Scanner<'a> {
    /// Creates a scanner at the beginning of `text`, which must not exceed 2 GiB.
    pub(crate) fn new(text: &'a str) -> Result<Self, Flaw> {
        if text.len() > LONGEST {
            return Err(Flaw::new("input longer than 2 GiB", 0));
        }
        Ok(Self {
            text,
            at: 0,
            flaw: Flaw::new("no flaw", 0),
        })
    }

    /// Enters an object and returns whether it has members. For each member, call
    /// [`key`](Self::key), scan the value, and call [`more_members`](Self::more_members).
    #[inline]
    pub(crate) fn object(&mut self) -> Result<bool> {
        self.white();
        self.byte(b'{', "expected an object")?;
        self.white();
        Ok(!self.closes(b'}'))
    }

    /// Scans a key and the colon after it.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<Quoted> {
        let key = self.string()?;
        self.colon()?;
        Ok(key)
    }

    #[inline(always)]
    fn skip_key(&mut self) -> Result {
        self.byte(b'"', "expected a string")?;
        self.rest_of_string()?;
        self.colon()
    }

    #[inline]
    fn colon(&mut self) -> Result {
        if !self.closes(b':') {
            self.white();
            self.byte(b':', "expected a colon")?;
        }
        self.white();
        Ok(())
    }

    /// Consumes `written` if it comes next. Usually this is a key with quotes and colon, without
    /// spaces, as the server sends it.
    #[inline(always)]
    pub(crate) fn takes(&mut self, written: &str) -> bool {
        let takes = self.rest().starts_with(written.as_bytes());
        if takes {
            self.at += written.len();
            self.white();
        }
        takes
    }

    /// Returns whether another member follows. Called after a value.
    #[inline]
    pub(crate) fn more_members(&mut self) -> Result<bool> {
        self.more(b'}')
    }

    /// Enters an array and returns whether it has items. For each item, scan the item and call
    /// [`more_items`](Self::more_items).
    #[inline]
    pub(crate) fn array(&mut self) -> Result<bool> {
        self.byte(b'[', "expected an array")?;
        self.white();
        Ok(!self.closes(b']'))
    }

    /// Returns whether another item follows. Called after an item.
    #[inline]
    pub(crate) fn more_items(&mut self) -> Result<bool> {
        self.more(b']')
    }

    #[inline]
    fn more(&mut self, closing: u8) -> Result<bool> {
        loop {
            let byte = self.peek();
            if byte == Some(b',') {
                self.at += 1;
                self.white();
                return Ok(true);
            }
            if byte == Some(closing) {
                self.at += 1;
                return Ok(false);
            }
            if !self.rest_of_white() {
                return self.stop("expected a comma or the end");
            }
        }
    }

    /// Consumes this byte if it comes next.
    #[inline]
    fn closes(&mut self, byte: u8) -> bool {
        if self.peek() == Some(byte) {
            self.at += 1;
            return true;
        }
        false
    }

    /// Checks that nothing follows the outermost value.
    pub(crate) fn end(&mut self) -> Result {
        self.white();
        if self.at == self.text.len() {
            Ok(())
        } else {
            self.stop("expected the end of the input")
        }
    }

    /// Returns the scanned text.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// Returns the current position in bytes.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Moves to a position that was already scanned, or back from there.
    pub(crate) fn go(&mut self, at: usize) {
        self.at = at;
    }

    /// Returns the next byte without consuming it.
    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Scans any value and returns its range.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<Span> {
        let start = self.at;
        self.skip()?;
        Ok(Span::new(start, self.at))
    }

    /// Scans a string and returns its content, including escapes.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Quoted> {
        self.byte(b'"', "expected a string")?;
        let start = self.at;
        let escaped = self.rest_of_string()?;
        let span = Span::new(start, self.at - 1);
        Ok(Quoted { span, escaped })
    }

    /// Scans a string. Returns the range of the content if it has no escapes. Otherwise replaces
    /// `says` with the decoded string and returns `None`.
    #[inline]
    pub(crate) fn plain_string(&mut self, says: &mut String) -> Result<Option<Span>> {
        self.byte(b'"', "expected a string")?;
        let start = self.at;
        self.go_to_special();
        if self.closes(b'"') {
            return Ok(Some(Span::new(start, self.at - 1)));
        }
        self.unescape(start, says).map(|()| None)
    }

    /// Scans any value. Returns the content if it is a string, otherwise `None`.
    pub(crate) fn string_or_other(&mut self) -> Result<Option<Quoted>> {
        if self.peek() == Some(b'"') {
            self.string().map(Some)
        } else {
            self.skip().map(|()| None)
        }
    }

    /// Consumes a literal if it comes next.
    #[inline]
    pub(crate) fn word(&mut self, word: &str) -> bool {
        let comes = self.rest().starts_with(word.as_bytes());
        self.at += if comes { word.len() } else { 0 };
        comes
    }

    /// Scans a number and returns its text.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<&'a str> {
        let start = self.at;
        self.skip_number()?;
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    #[inline(always)]
    fn skip_number(&mut self) -> Result {
        self.closes(b'-');
        if !self.closes(b'0') {
            self.digits()?;
        }
        if let Some(b'.' | b'e' | b'E') = self.peek() {
            self.fraction()?;
        }
        Ok(())
    }

    fn fraction(&mut self) -> Result {
        if self.closes(b'.') {
            self.digits()?;
        }
        if self.closes(b'e') || self.closes(b'E') {
            _ = self.closes(b'+') || self.closes(b'-');
            self.digits()?;
        }
        Ok(())
    }

    #[inline]
    fn digits(&mut self) -> Result {
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit());
        match digits.count() {
            0 => self.stop("expected a digit"),
            count => {
                self.at += count;
                Ok(())
            }
        }
    }

    /// Scans an integer without sign, fraction and exponent. Returns `None` if something else comes
    /// next or the integer is too large.
    #[inline]
    pub(crate) fn whole(&mut self) -> Option<u64> {
        let mut digits = self.rest().iter().map_while(|digit| match digit {
            b'0'..=b'9' => Some(u64::from(digit - b'0')),
            _ => None,
        });
        let first = digits.next()?;
        let (number, length) = digits.try_fold((first, 1), |(number, length), digit| {
            // A JSON number does not start with a zero, except for zero itself.
            let number = if number == 0 {
                None
            } else {
                number.checked_mul(10)
            };
            Some((number?.checked_add(digit)?, length + 1))
        })?;
        self.at += length;
        let ends = !matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        ends.then_some(number)
    }

    /// Skips any value.
    #[inline]
    fn skip(&mut self) -> Result {
        match self.peek() {
            Some(b'{' | b'[') => self.nested(),
            _ => self.scalar(),
        }
    }

    #[inline(always)]
    fn scalar(&mut self) -> Result {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.rest_of_string().map(drop)
            }
            Some(b'-' | b'0'..=b'9') => self.skip_number(),
            _ if self.word("true") || self.word("false") || self.word("null") => Ok(()),
            _ => self.stop("expected a value"),
        }
    }

    /// Skips an object or array. Not recursive, so that hostile nesting cannot overflow the stack.
    #[inline(never)]
    fn nested(&mut self) -> Result {
        // One bit per level: whether the level is an object. `object` is the bit of the innermost
        // level.
        let mut levels = [0_u64; DEPTH / 64];
        let (mut depth, mut object) = (0, false);
        loop {
            if object {
                self.skip_key()?;
            }
            if let Some(open @ (b'{' | b'[')) = self.peek() {
                let Some(level) = levels.get_mut(depth / 64) else {
                    return self.stop("nested more than 512 deep");
                };
                object = open == b'{';
                let bit = 1 << (depth % 64);
                *level = if object { *level | bit } else { *level & !bit };
                depth += 1;
                self.at += 1;
                self.white();
                if !self.closes(if object { b'}' } else { b']' }) {
                    continue;
                }
            } else {
                self.scalar()?;
                if self.more(if object { b'}' } else { b']' })? {
                    continue;
                }
            }
            // A level has ended, and possibly also the levels that contain it.
            loop {
                depth -= 1;
                if depth == 0 {
                    return Ok(());
                }
                let level = levels.get((depth - 1) / 64).copied().unwrap_or_default();
                object = level & (1 << ((depth - 1) % 64)) != 0;
                if self.more(if object { b'}' } else { b']' })? {
                    break;
                }
            }
        }
    }

    /// Skips to the position after the closing quote of a string. Returns whether the string has
    /// escapes.
    #[inline]
    fn rest_of_string(&mut self) -> Result<bool> {
        self.go_to_special();
        if self.closes(b'"') {
            return Ok(false);
        }
        self.rest_of_escaped().map(|()| true)
    }

    /// Skips the rest of a string, starting at its first special byte, which is not a quote.
    #[inline(never)]
    fn rest_of_escaped(&mut self) -> Result {
        loop {
            self.byte(b'\\', "control character in a string")?;
            match self.peek() {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
                Some(b'u') if unit(self.rest()).is_some() => self.at += 5,
                _ => return self.stop("invalid escape sequence"),
            }
            self.go_to_special();
            if self.closes(b'"') {
                return Ok(());
            }
        }
    }

    /// Skips the rest of a string that began at `start`, and stores the decoded string in `says`.
    #[inline(never)]
    fn unescape(&mut self, start: usize, says: &mut String) -> Result {
        let text = self.text.as_bytes();
        let (mut from, mut at) = (start, self.at);
        says.clear();
        // The decoded string is shorter than its encoding, so no further allocation is needed.
        says.reserve(self.text.len() - from);
        loop {
            says.push_str(self.text.get(from..at).unwrap_or_default());
            let length = match text.get(at..).unwrap_or_default() {
                [b'"', ..] => {
                    self.at = at + 1;
                    return Ok(());
                }
                // The escaped character is copied with the text that follows.
                [b'\\', b'"' | b'\\' | b'/', ..] => {
                    from = at + 1;
                    at = next_special(text, at + 2);
                    continue;
                }
                [b'\\', b'n', ..] => {
                    says.push('\n');
                    2
                }
                [b'\\', escaped @ ..] => {
                    let Some((said, length)) = escape(escaped) else {
                        self.at = at + 1;
                        return self.stop("invalid escape sequence");
                    };
                    says.push(said);
                    1 + length
                }
                _ => {
                    self.at = at;
                    return self.stop("control character in a string");
                }
            };
            from = at + length;
            at = next_special(text, from);
        }
    }

    /// Moves to the next quote, backslash or control character, or to the end of the text.
    #[inline]
    fn go_to_special(&mut self) {
        self.at = next_special(self.text.as_bytes(), self.at);
    }

    #[inline]
    fn white(&mut self) {
        // The server does not send whitespace.
        if self.peek().is_some_and(|byte| byte <= b' ') {
            self.rest_of_white();
        }
    }

    /// Skips whitespace and returns whether there was any.
    #[inline(never)]
    fn rest_of_white(&mut self) -> bool {
        let start = self.at;
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
        self.at > start
    }

    #[inline]
    fn byte(&mut self, byte: u8, what: &'static str) -> Result {
        if self.closes(byte) {
            return Ok(());
        }
        self.stop(what)
    }

    /// Returns the error that stopped the scanner.
    pub(crate) fn flaw(&self) -> Flaw {
        self.flaw
    }

    /// Stops with an error about the next byte or the end of the text.
    #[cold]
    pub(crate) fn stop<T>(&mut self, what: &'static str) -> Result<T> {
        let ends = self.at >= self.text.len();
        self.stop_at(
            if ends {
                "unexpected end of input"
            } else {
                what
            },
            self.at,
        )
    }

    /// Stops with an error at a given position.
    #[cold]
    pub(crate) fn stop_at<T>(&mut self, what: &'static str, at: usize) -> Result<T> {
        self.flaw = Flaw::new(what, at);
        Err(Stop)
    }
}

#[cfg(test)]
mod tests;
