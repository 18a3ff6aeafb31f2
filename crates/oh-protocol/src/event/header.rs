//! The header of an event: kind, id, timestamp, source and parent.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

use memchr::memmem::Finder;

use super::Source;
use crate::json::scan::{Flaw, Quoted, Scanner, Span, Stop, short, unescape, written_last};

/// The positions of the header's values in the event's bytes.
pub(crate) struct Header {
    kind: Span,
    id: Span,
    timestamp: Span,
    parent_id: Span,
    source: Source,
    /// The position of the body's fields if all of them follow the header; otherwise 0.
    body: u32,
    /// The decoded values, if any value contains escapes. In that case the spans refer to this
    /// string. The server never sends such values.
    decoded: Option<Box<str>>,
}

/// The header fields found so far. If a name occurs twice, the first value is used. For `kind`, the
/// last value is used.
#[derive(Default, Clone, Copy)]
pub(crate) struct Seen {
    kind: Option<Quoted>,
    id: Option<Quoted>,
    timestamp: Option<Quoted>,
    parent_id: Option<Quoted>,
    source: Option<Quoted>,
}

impl Seen {
    /// Scans the fields of an event.
    pub(crate) fn members(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Stop> {
        let mut more = scanner.object()?;
        while more {
            let key = scanner.key()?;
            let written = key.span.of(scanner.text());
            if key.escaped {
                self.member(scanner, &unescape(written))?;
            } else {
                self.member(scanner, written)?;
            }
            more = scanner.more_members()?;
        }
        Ok(())
    }

    fn member(&mut self, scanner: &mut Scanner<'_>, key: &str) -> Result<(), Stop> {
        let slot = match key {
            "kind" => &mut self.kind,
            "id" => &mut self.id,
            "timestamp" => &mut self.timestamp,
            "parent_id" => &mut self.parent_id,
            "source" => &mut self.source,
            _ => return scanner.value().map(drop),
        };
        // Only `kind` and `id` are required: a null in another field must not make the event
        // invalid.
        let value = scanner.string_or_other()?;
        if slot.is_none() || key == "kind" {
            *slot = value;
        }
        Ok(())
    }

    /// Returns the header if all required fields were found. `text` is the scanned text, and
    /// `start` is the position of the event in it.
    pub(crate) fn header(self, text: &str, start: usize) -> Result<Header, Flaw> {
        let missing = |what| Flaw::new(what, start);
        let kind = self.kind.ok_or(missing("missing field `kind`"))?;
        let id = self.id.ok_or(missing("missing field `id`"))?;
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
            header.decode(text);
        } else {
            for span in header.spans() {
                *span = span.from(start);
            }
        }
        Ok(header)
    }
}

impl Header {
    /// Decodes the header of an event. If the event has the server's usual layout, scans only its
    /// beginning and its end, which contain the header.
    pub(crate) fn read(text: &str) -> Result<Self, Flaw> {
        let mut scanner = Scanner::new(text)?;
        if let Some(header) = Self::at_both_ends(&mut scanner) {
            return Ok(header);
        }
        scanner.go(0);
        let mut seen = Seen::default();
        let read = seen.members(&mut scanner).and_then(|()| scanner.end());
        read.map_err(|Stop| scanner.flaw())?;
        seen.header(text, 0)
    }

    /// Returns a header for data that is not a valid event, with all fields that can be found. A
    /// missing id is derived from the bytes, so that the same bytes always have the same id.
    pub(crate) fn of_unreadable(text: &str) -> Self {
        let mut seen = Seen::default();
        if let Ok(mut scanner) = Scanner::new(text) {
            // Use the fields before the flaw.
            let _ = seen.members(&mut scanner);
        }
        let says = |value: Option<Quoted>| {
            value.map_or_else(String::new, |value| unescape(value.span.of(text)))
        };
        let mut id = says(seen.id);
        if id.is_empty() {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            id = format!("unreadable-{:016x}", hasher.finish());
        }
        let mut decoded = String::new();
        let mut put = |text: &str| {
            let begin = decoded.len();
            decoded.push_str(text);
            Span::new(begin, decoded.len())
        };
        Self {
            kind: put(&says(seen.kind)),
            id: put(&id),
            timestamp: put(&says(seen.timestamp)),
            parent_id: put(&says(seen.parent_id)),
            source: says(seen.source).as_str().into(),
            body: 0,
            decoded: Some(decoded.into()),
        }
    }

    /// Decodes the server's usual layout: id, timestamp, source and parent first, and the kind
    /// last.
    fn at_both_ends(scanner: &mut Scanner<'_>) -> Option<Self> {
        static PARENT: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(r#""parent_id":"#));
        let id = written(scanner, r#"{"id":"#)?;
        let timestamp = written(scanner, r#","timestamp":"#)?;
        let source = written(scanner, r#","source":"#)?;
        let text = scanner.text();
        let mut rest = text.get(scanner.at()..)?;
        let parent_id = if rest.starts_with(r#","parent_id":"#) {
            let parent_id = written(scanner, r#","parent_id":"#)?;
            rest = text.get(scanner.at()..)?;
            parent_id
        } else if PARENT.find(rest.as_bytes()).is_some() {
            return None;
        } else {
            Span::default()
        };
        let kind = written_last(rest)?;
        // Skip the last quote and brace.
        let end = text.len() - 2;
        Some(Self {
            kind: Span::new(end - kind.len(), end),
            id,
            timestamp,
            parent_id,
            source: source.of(text).into(),
            body: short(text.len() - rest.len()),
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

    /// Returns the position of the body's fields, if all of them follow the header.
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

    fn decode(&mut self, text: &str) {
        self.source = unescape(self.source.as_str()).as_str().into();
        let mut decoded = String::new();
        for span in self.spans() {
            let begin = decoded.len();
            decoded.push_str(&unescape(span.of(text)));
            *span = Span::new(begin, decoded.len());
        }
        self.decoded = Some(decoded.into());
    }
}

/// Scans a string without escapes, if it is preceded by `before`.
#[inline(always)]
fn written(scanner: &mut Scanner<'_>, before: &str) -> Option<Span> {
    if !scanner.takes(before) {
        return None;
    }
    let text = scanner.string().ok()?;
    (!text.escaped).then_some(text.span)
}
