//! Finds values in JSON without building anything: one pass, no allocation.
//!
//! Checks what keeping bytes needs: that they are one JSON object, balanced and of bounded depth.
//! Whether numbers and escapes are well-formed is left to whoever decodes a value.

/// How deeply arrays and objects may nest. The server's own parser gives up far earlier.
const DEPTH: usize = 512;

/// Where something stands in the scanned text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// From one byte to before another. Texts that are scanned are at most 4 GiB long.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        let short = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self {
            start: short(start),
            end: short(end),
        }
    }

    /// Where it begins.
    pub(crate) fn start(self) -> usize {
        self.start as usize
    }

    /// The same place, counted from `start` of the text on.
    pub(crate) fn from(self, start: usize) -> Self {
        Self::new(
            (self.start as usize).saturating_sub(start),
            (self.end as usize).saturating_sub(start),
        )
    }

    /// The piece of `text` that this span was found in.
    pub(crate) fn of(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// A string between its quotes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted {
    pub(crate) span: Span,
    /// Whether it is written with escapes.
    pub(crate) escaped: bool,
}

/// What is wrong, and at which byte.
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

/// That a flaw was found; which one, the scanner knows. Results stay small enough for registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop;

type Result<T = (), E = Stop> = std::result::Result<T, E>;

/// A place in a JSON text.
pub(crate) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    /// Whether there are control characters at all: white space between values, or flaws. The
    /// server writes none.
    controls: bool,
    flaw: Flaw,
}

impl<'a> Scanner<'a> {
    /// Starts at the beginning of `text`, which must be at most 4 GiB long.
    pub(crate) fn new(text: &'a str) -> Result<Self, Flaw> {
        if u32::try_from(text.len()).is_err() {
            return Err(Flaw::new("longer than 4 GiB", 0));
        }
        let text = text.as_bytes();
        Ok(Self {
            text,
            at: 0,
            // Without a way out early: compilers make vector instructions of it.
            controls: text.iter().fold(false, |any, byte| any | (*byte < 0x20)),
            flaw: Flaw::new("no flaw", 0),
        })
    }

    /// Enters an object; whether it has members. Then, for each: [`key`](Self::key), the value,
    /// [`more_members`](Self::more_members).
    #[inline]
    pub(crate) fn object(&mut self) -> Result<bool> {
        self.white();
        self.byte(b'{', "expected an object")?;
        self.white();
        Ok(!self.closes(b'}'))
    }

    /// Reads a key and the colon after it; its inside as written.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<&'a [u8]> {
        let key = self.string()?;
        self.white();
        self.byte(b':', "expected a colon")?;
        self.white();
        let (start, end) = (key.span.start as usize, key.span.end as usize);
        Ok(self.text.get(start..end).unwrap_or_default())
    }

    /// Reads this very key and the colon after it, if that is what comes, written without spaces
    /// as the server does. `key` has its quotes and its colon.
    #[inline]
    pub(crate) fn takes(&mut self, key: &str) -> bool {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let takes = rest.starts_with(key.as_bytes());
        if takes {
            self.at += key.len();
            self.white();
        }
        takes
    }

    /// Finds the end of a value by its brackets and strings alone: for what is read again, or has
    /// been read.
    pub(crate) fn pass_over(&mut self) -> Result<Span> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.next() {
                Some(b'"') => drop(self.rest_of_string()?),
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') if depth > 0 => depth -= 1,
                Some(b',' | b'}' | b']') if depth == 0 => {
                    // It was a number or a word, and this is what follows it.
                    self.at -= 1;
                    return Ok(Span::new(start, self.at));
                }
                Some(_) => continue,
                None => return self.stop("expected a value"),
            }
            if depth == 0 {
                return Ok(Span::new(start, self.at));
            }
        }
    }

    /// After a value: whether another member follows.
    pub(crate) fn more_members(&mut self) -> Result<bool> {
        self.more(b'}')
    }

    /// Enters an array; whether it has items. Then, for each: the item,
    /// [`more_items`](Self::more_items).
    pub(crate) fn array(&mut self) -> Result<bool> {
        self.byte(b'[', "expected an array")?;
        self.white();
        Ok(!self.closes(b']'))
    }

    /// After an item: whether another follows.
    pub(crate) fn more_items(&mut self) -> Result<bool> {
        self.more(b']')
    }

    #[inline]
    fn more(&mut self, closing: u8) -> Result<bool> {
        self.white();
        match self.next() {
            Some(b',') => {
                self.white();
                Ok(true)
            }
            Some(byte) if byte == closing => Ok(false),
            _ => self.stop_before("expected a comma or the end"),
        }
    }

    #[inline]
    fn closes(&mut self, closing: u8) -> bool {
        let closes = self.peek() == Some(closing);
        self.at += usize::from(closes);
        closes
    }

    /// After the outermost value: that nothing follows.
    pub(crate) fn end(&mut self) -> Result {
        self.white();
        if self.at == self.text.len() {
            Ok(())
        } else {
            self.stop("expected the end")
        }
    }

    /// How many bytes have been read.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Goes to a place that has been read, or back again from there; tells where it was.
    pub(crate) fn rewind(&mut self, at: usize) -> usize {
        std::mem::replace(&mut self.at, at)
    }

    /// The next byte, left where it is.
    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Reads any value and tells where it stands.
    pub(crate) fn value(&mut self) -> Result<Span> {
        let start = self.at;
        self.skip()?;
        Ok(Span::new(start, self.at))
    }

    /// Reads a string and tells where its inside stands, escapes and all.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Quoted> {
        self.byte(b'"', "expected text")?;
        let start = self.at;
        let escaped = self.rest_of_string()?;
        let span = Span::new(start, self.at - 1);
        Ok(Quoted { span, escaped })
    }

    /// Whether a value is a string, and its inside. Anything else is read and gives nothing.
    pub(crate) fn string_or_other(&mut self) -> Result<Option<Quoted>> {
        if self.peek() == Some(b'"') {
            self.string().map(Some)
        } else {
            self.skip().map(|()| None)
        }
    }

    /// Whether the value is `null`; it is read, then.
    pub(crate) fn null(&mut self) -> bool {
        let null = self
            .text
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(b"null"));
        self.at += if null { 4 } else { 0 };
        null
    }

    /// Reads any value. Not recursive: hostile depth must not reach the stack.
    fn skip(&mut self) -> Result {
        // One bit a level: whether it is an object.
        let mut levels = [0_u64; DEPTH / 64];
        let mut depth = 0;
        loop {
            match self.next() {
                Some(b'"') => drop(self.rest_of_string()?),
                Some(open @ (b'{' | b'[')) => {
                    let Some(level) = levels.get_mut(depth / 64) else {
                        return self.stop_before("nested more than 512 deep");
                    };
                    let bit = 1 << (depth % 64);
                    if open == b'{' {
                        *level |= bit;
                    } else {
                        *level &= !bit;
                    }
                    depth += 1;
                    self.white();
                    if self.closes(if open == b'{' { b'}' } else { b']' }) {
                        depth -= 1;
                    } else {
                        if open == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                Some(b't') => self.word(b"rue")?,
                Some(b'f') => self.word(b"alse")?,
                Some(b'n') => self.word(b"ull")?,
                Some(b'-' | b'0'..=b'9') => self.number(),
                _ => return self.stop_before("expected a value"),
            }
            // A value has ended: so may have what it stands in.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                self.white();
                let level = levels.get((depth - 1) / 64).copied().unwrap_or_default();
                let object = level & (1 << ((depth - 1) % 64)) != 0;
                match self.next() {
                    Some(b',') => {
                        self.white();
                        if object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if object => depth -= 1,
                    Some(b']') if !object => depth -= 1,
                    _ => return self.stop_before("expected a comma or the end"),
                }
            }
        }
    }

    /// Goes on to just after the quote that ends a string; whether it has escapes.
    #[inline]
    fn rest_of_string(&mut self) -> Result<bool> {
        let mut escaped = false;
        loop {
            self.at += self.plain();
            match self.next() {
                Some(b'"') => return Ok(escaped),
                Some(b'\\') => match self.next() {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'u') => {
                        escaped = true;
                    }
                    _ => return self.stop_before("an escape that is none"),
                },
                Some(_) => return self.stop_before("a control character in a string"),
                None => return self.stop("a string that does not end"),
            }
        }
    }

    /// How many bytes stand before the next quote or backslash, or control character.
    #[inline]
    fn plain(&self) -> usize {
        const ONES: u64 = u64::from_ne_bytes([1; 8]);
        const HIGHS: u64 = ONES << 7;
        let rest = self.text.get(self.at..).unwrap_or_default();
        if self.controls {
            let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
            return rest.iter().position(special).unwrap_or(rest.len());
        }
        // Most strings are short: eight bytes at a time, without a branch for each.
        let mut at = 0;
        while at < 32
            && let Some(chunk) = rest.get(at..).and_then(<[u8]>::first_chunk::<8>)
        {
            let chunk = u64::from_le_bytes(*chunk);
            let zero = |x: u64| x.wrapping_sub(ONES) & !x & HIGHS;
            let found =
                zero(chunk ^ (ONES * u64::from(b'"'))) | zero(chunk ^ (ONES * u64::from(b'\\')));
            if found != 0 {
                // A borrow can only mark bytes after the first true one.
                return at + (found.trailing_zeros() / 8) as usize;
            }
            at += 8;
        }
        let rest = rest.get(at..).unwrap_or_default();
        at + memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len())
    }

    fn number(&mut self) {
        while let Some(b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') = self.peek() {
            self.at += 1;
        }
    }

    fn word(&mut self, rest: &'static [u8]) -> Result {
        let end = self.at + rest.len();
        if self.text.get(self.at..end) == Some(rest) {
            self.at = end;
            return Ok(());
        }
        self.stop_before("expected a value")
    }

    #[inline]
    fn white(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += 1;
        byte
    }

    #[inline]
    fn byte(&mut self, byte: u8, what: &'static str) -> Result {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        self.stop(what)
    }

    /// The flaw that stopped it.
    pub(crate) fn flaw(&self) -> Flaw {
        self.flaw
    }

    /// Stops because of something that is here.
    pub(crate) fn stop<T>(&mut self, what: &'static str) -> Result<T> {
        self.stop_at(what, self.at)
    }

    fn stop_before<T>(&mut self, what: &'static str) -> Result<T> {
        self.stop_at(what, self.at.saturating_sub(1))
    }

    /// Stops because of something that has been read.
    #[cold]
    pub(crate) fn stop_at<T>(&mut self, what: &'static str, at: usize) -> Result<T> {
        self.flaw = Flaw::new(what, at);
        Err(Stop)
    }
}

/// The `kind` of a tagged object, which the server writes last.
pub(crate) fn kind(json: &str) -> Option<&str> {
    written_last(json).or_else(|| kind_anywhere(json))
}

// In valid JSON an unescaped `,"kind":"` is always a key, and a value right before the last
// brace belongs to the outermost object.
pub(crate) fn written_last(json: &str) -> Option<&str> {
    let body = json.strip_suffix("\"}")?;
    let quote = memchr::memrchr(b'"', body.as_bytes())?;
    let (before, name) = (body.get(..quote)?, body.get(quote + 1..)?);
    let key = before.strip_suffix("\"kind\":")?;
    (key.ends_with([',', '{']) && !name.ends_with('\\')).then_some(name)
}

fn kind_anywhere(json: &str) -> Option<&str> {
    let mut found = None;
    let mut scanner = Scanner::new(json).ok()?;
    let mut more = scanner.object().ok()?;
    while more {
        if scanner.key().ok()? == b"kind" {
            found = scanner.string_or_other().ok()?;
        } else {
            scanner.value().ok()?;
        }
        more = scanner.more_members().ok()?;
    }
    found.map(|kind| kind.span.of(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Result<Vec<(String, String)>, Flaw> {
        let mut scanner = Scanner::new(text)?;
        read(&mut scanner, text).map_err(|Stop| scanner.flaw())
    }

    fn read(scanner: &mut Scanner<'_>, text: &str) -> Result<Vec<(String, String)>> {
        let mut members = Vec::new();
        let mut more = scanner.object()?;
        while more {
            let key = String::from_utf8_lossy(scanner.key()?).into_owned();
            members.push((key, scanner.value()?.of(text).to_owned()));
            more = scanner.more_members()?;
        }
        scanner.end()?;
        Ok(members)
    }

    #[test]
    fn every_member_is_found_with_its_exact_text() {
        let text = r#" { "a" : [1, {"b": "]}\""}, []] ,"c":"\\" , "d":-1.5e+3,"e":{},"f":null } "#;
        let members = scan(text).unwrap();
        let values: Vec<_> = members
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            values,
            [
                ("a", r#"[1, {"b": "]}\""}, []]"#),
                ("c", r#""\\""#),
                ("d", "-1.5e+3"),
                ("e", "{}"),
                ("f", "null"),
            ]
        );
    }

    #[test]
    fn what_is_not_one_object_is_a_flaw_at_a_byte() {
        for (text, at) in [
            ("", 0),
            ("[]", 0),
            ("{", 1),
            (r#"{"a"}"#, 4),
            (r#"{"a":}"#, 5),
            (r#"{"a":1 "b"}"#, 7),
            (r#"{"a":[1}"#, 7),
            (r#"{"a":{"b":1]}"#, 11),
            (r#"{"a":tru}"#, 5),
            (r#"{"a":"x"#, 8),
            (r#"{"a":"\x"}"#, 7),
            ("{\"a\":\"\n\"}", 6),
            ("{} {}", 3),
        ] {
            assert_eq!(scan(text).unwrap_err().at, at, "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n| format!(r#"{{"a":{}{}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(scan(&nested(512)).is_ok());
        assert!(scan(&nested(513)).is_err());
    }

    #[test]
    fn the_kind_is_found_first_last_and_between_but_not_inside() {
        for json in [
            r#"{"kind":"K"}"#,
            r#"{"kind":"K","a":"{\"kind\":\"X\"}"}"#,
            r#"{"a":{"kind":"X"},"kind":"K"}"#,
            r#"{"a":1, "kind" : "K" , "b":{"kind":"X"}}"#,
        ] {
            assert_eq!(kind(json), Some("K"), "{json}");
        }
        for json in [
            r#"{"a":",\"kind\":\"X"}"#,
            r#"{"a":{"kind":"X"}}"#,
            r#"{"kind":7}"#,
            "[]",
        ] {
            assert_eq!(kind(json), None, "{json}");
        }
    }
}
