//! The header of an event: kind, id, timestamp, source, parent. Knows no bodies.

use super::Source;
use crate::{
    escape::unescape,
    scan::{Flaw, Quoted, Scanner, Span, Stop, written_last},
};

/// Where the header's values stand in the event's bytes.
pub(crate) struct Header {
    kind: Span,
    id: Span,
    timestamp: Span,
    parent_id: Span,
    source: Source,
    /// Where the header ends, if it stands before everything else; 0 if it does not.
    body: u32,
    /// Values written with escapes, decoded, for the spans to stand in instead. The server never
    /// writes them so.
    decoded: Option<Box<str>>,
}

/// What has been seen of a header.
#[derive(Default)]
pub(crate) struct Seen {
    kind: Option<Quoted>,
    id: Option<Quoted>,
    timestamp: Option<Quoted>,
    parent_id: Option<Quoted>,
    source: Option<Quoted>,
}

impl Seen {
    /// Reads an event.
    pub(crate) fn members(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Stop> {
        let mut more = scanner.object()?;
        while more {
            let key = scanner.key()?;
            self.member(scanner, key)?;
            more = scanner.more_members()?;
        }
        Ok(())
    }

    fn member(&mut self, scanner: &mut Scanner<'_>, key: &[u8]) -> Result<(), Stop> {
        let slot = match key {
            b"kind" => &mut self.kind,
            b"id" => &mut self.id,
            b"timestamp" => &mut self.timestamp,
            b"parent_id" => &mut self.parent_id,
            b"source" => &mut self.source,
            _ => return scanner.value().map(drop),
        };
        if slot.is_some() {
            return scanner.stop("a member of the header for the second time");
        }
        // Only `kind` and `id` make an event: a null in the rest must not lose it.
        *slot = scanner.string_or_other()?;
        Ok(())
    }

    /// The header, if what was seen makes one. `text` is what was scanned, `start` where in it
    /// the event begins.
    pub(crate) fn header(self, text: &str, start: usize) -> Result<Header, Flaw> {
        let missing = |what| Flaw::new(what, start);
        let kind = self.kind.ok_or(missing("an event without a `kind`"))?;
        let id = self.id.ok_or(missing("an event without an `id`"))?;
        let all = [
            Some(kind),
            Some(id),
            self.timestamp,
            self.parent_id,
            self.source,
        ];
        let escaped = all.iter().flatten().any(|value| value.escaped);
        let [kind, id, timestamp, parent_id, source] =
            all.map(|value| value.map(|value| value.span).unwrap_or_default());
        let mut header = Header {
            kind,
            id,
            timestamp,
            parent_id,
            source: source.of(text).into(),
            body: 0,
            decoded: None,
        };
        if escaped {
            header.decode(text, start)?;
        } else {
            for span in header.spans() {
                *span = span.from(start);
            }
        }
        Ok(header)
    }
}

impl Header {
    /// Reads a whole text that is one event. Where it is written in the server's way, what stands
    /// between the header's two ends is not looked at.
    pub(crate) fn read(text: &str) -> Result<Self, Flaw> {
        if let Some(header) = Self::at_both_ends(text) {
            return Ok(header);
        }
        let mut seen = Seen::default();
        let mut scanner = Scanner::new(text)?;
        let read = seen.members(&mut scanner).and_then(|()| scanner.end());
        read.map_err(|Stop| scanner.flaw())?;
        seen.header(text, 0)
    }

    /// The server writes id, timestamp, source and parent first, and the kind last.
    fn at_both_ends(text: &str) -> Option<Self> {
        u32::try_from(text.len()).ok()?;
        let within = |part: &str| {
            let start = part.as_ptr().addr() - text.as_ptr().addr();
            Span::new(start, start + part.len())
        };
        let (id, rest) = plain(text.strip_prefix(r#"{"id":""#)?)?;
        let (timestamp, rest) = plain(rest.strip_prefix(r#","timestamp":""#)?)?;
        let (source, rest) = plain(rest.strip_prefix(r#","source":""#)?)?;
        let (parent_id, rest) = match rest.strip_prefix(r#","parent_id":""#) {
            Some(rest) => plain(rest)?,
            // It may be elsewhere, then.
            None if memchr::memmem::find(rest.as_bytes(), br#""parent_id":"#).is_some() => {
                return None;
            }
            None => (text.get(..0)?, rest),
        };
        Some(Self {
            kind: within(written_last(rest)?),
            id: within(id),
            timestamp: within(timestamp),
            parent_id: within(parent_id),
            source: source.into(),
            body: u32::try_from(text.len() - rest.len()).ok()?,
            decoded: None,
        })
    }

    pub(super) fn kind<'a>(&'a self, raw: &'a str) -> &'a str {
        self.kind.of(self.text(raw))
    }

    pub(super) fn id<'a>(&'a self, raw: &'a str) -> &'a str {
        self.id.of(self.text(raw))
    }

    pub(super) fn timestamp<'a>(&'a self, raw: &'a str) -> &'a str {
        self.timestamp.of(self.text(raw))
    }

    pub(super) fn parent_id<'a>(&'a self, raw: &'a str) -> Option<&'a str> {
        let id = self.parent_id.of(self.text(raw));
        (!id.is_empty()).then_some(id)
    }

    /// Where the body's members begin, if nothing of the body stands before.
    pub(super) fn body(&self) -> Option<usize> {
        (self.body > 0).then_some(self.body as usize)
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    fn text<'a>(&'a self, raw: &'a str) -> &'a str {
        self.decoded.as_deref().unwrap_or(raw)
    }

    fn spans(&mut self) -> [&mut Span; 4] {
        [
            &mut self.kind,
            &mut self.id,
            &mut self.timestamp,
            &mut self.parent_id,
        ]
    }

    fn decode(&mut self, text: &str, start: usize) -> Result<(), Flaw> {
        let plain = |written: &str| {
            unescape(written).ok_or(Flaw::new("an escape in the header that is none", start))
        };
        self.source = plain(self.source.as_str())?.as_str().into();
        let mut decoded = String::new();
        for span in self.spans() {
            let begin = decoded.len();
            decoded.push_str(&plain(span.of(text))?);
            *span = Span::new(begin, decoded.len());
        }
        self.decoded = Some(decoded.into());
        Ok(())
    }
}

/// What stands before the next quote, and what after it; nothing where there are escapes.
fn plain(text: &str) -> Option<(&str, &str)> {
    let quote = memchr::memchr(b'"', text.as_bytes())?;
    let (before, after) = (text.get(..quote)?, text.get(quote + 1..)?);
    let odd = |byte: u8| byte == b'\\' || byte < 0x20;
    (!before.bytes().any(odd)).then_some((before, after))
}
