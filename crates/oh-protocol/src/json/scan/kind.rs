//! Finds the kind of a tagged object without decoding its other members.

use std::borrow::Cow;

use super::{Scanner, block::next_special};

/// Returns the `kind` of a tagged object, which the server sends last.
pub(crate) fn kind(json: &str) -> Option<Cow<'_, str>> {
    let written = written_last(json).map(Cow::Borrowed);
    written.or_else(|| kind_anywhere(json))
}

// In valid JSON, an unescaped `,"kind":"` is always a key, and a value right before the last brace
// belongs to the outermost object.
pub(crate) fn written_last(json: &str) -> Option<&str> {
    let body = json.strip_suffix("\"}")?;
    let quote = memchr::memrchr(b'"', body.as_bytes())?;
    let (before, name) = (body.get(..quote)?, body.get(quote + 1..)?);
    let key = before.strip_suffix("\"kind\":")?;
    let plain = next_special(name.as_bytes(), 0) == name.len();
    (plain && key.ends_with([',', '{'])).then_some(name)
}

fn kind_anywhere(json: &str) -> Option<Cow<'_, str>> {
    let mut found = None;
    let mut scanner = Scanner::new(json).ok()?;
    let mut more = scanner.object().ok()?;
    while more {
        let key = scanner.key().ok()?;
        if key.says(json) == "kind" {
            found = scanner.string_or_other().ok()?;
        } else {
            scanner.value().ok()?;
        }
        more = scanner.more_members().ok()?;
    }
    found.map(|kind| kind.says(json))
}
