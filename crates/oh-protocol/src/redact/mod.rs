//! Redaction of names, text, URLs and JSON that may contain secrets.
//!
//! Errors, logs, `Debug`, `Display`, the view and the command line use only these rules. The rules
//! detect secrets by names and shapes, without a list of values. A [`Redactor`] also hides known
//! secret values.
//!
//! | Input | Rule |
//! |-|-|
//! | a field, variable, header or flag | hidden if its name is secret: [`is_secret_name`] |
//! | headers and environments | all values are hidden, names are shown: [`is_private_map`] |
//! | a URL | hides user, password, query, fragment: [`url()`]; or also the path: [`origin`] |
//! | text | URLs, `name=value`, `"name": "value"`, headers, flags, `Bearer` credentials: [`text`] |
//! | text in chunks | the same rules, across chunk boundaries: [`StreamRedactor`] |
//! | JSON | names at any depth, and each string as text: [`json`] |
//!
//! [`HIDDEN`] replaces hidden text. In doubt, the rules hide a value. However, a secret that has
//! neither a typical name nor a known value is not detected. For terminal control characters, see
//! [`printable`](crate::printable).

mod address;
mod known;
mod mark;
mod names;
mod shapes;
mod written;

use std::{borrow::Cow, fmt};

use secrecy::SecretString;
use serde_json::{Map, Value};

use known::Known;
use shapes::Shapes;

pub use address::{origin, public_url, url};
pub use mark::HIDDEN;
pub use names::{is_private_map, is_secret_name};

/// Returns a text without parts that look secret. See [`Redactor::text`].
///
/// ```
/// use oh_protocol::redact::text;
///
/// let shown = text("GET https://vault/key?token=abc failed");
/// assert_eq!(shown, "GET https://vault/key?<redacted> failed");
/// let plain = "max_input_tokens: must be an integer";
/// assert_eq!(text(plain), plain);
/// ```
pub fn text(text: &str) -> String {
    Redactor::new().text(text)
}

/// Hides secrets in a JSON value, in place. See [`Redactor::json`].
pub fn json(value: &mut Value) {
    Redactor::new().json(value);
}

/// Returns a header's value without secrets. If the header has a secret name, returns [`HIDDEN`].
pub fn header<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if is_secret_name(name) {
        return Cow::Borrowed(HIDDEN);
    }
    Cow::Owned(text(value))
}

/// A redactor that hides secrets by name, by shape, and by known values.
///
/// Cheap to create. `Debug` does not show the values.
///
/// ```
/// use oh_protocol::redact::Redactor;
///
/// let redactor = Redactor::new().with(&"hunter2!".into());
/// assert_eq!(redactor.text("logged in with hunter2!"), "logged in with <redacted>");
/// ```
#[derive(Clone, Default)]
pub struct Redactor {
    known: Known,
}

impl Redactor {
    /// Creates a redactor without known values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also hides this value, both in plain form and as encoded in JSON, Python, URLs, forms and
    /// base64. A multi-line value is also hidden line by line. A value shorter than 6 bytes is
    /// hidden only if it is not part of a longer word. An empty value is ignored.
    #[must_use]
    pub fn with(mut self, secret: &SecretString) -> Self {
        self.add(secret);
        self
    }

    /// Adds a value to hide, like [`with`](Self::with).
    pub fn add(&mut self, secret: &SecretString) {
        self.known.add(secret);
    }

    /// Returns a text without secrets: known values, the user, password, query and fragment of
    /// URLs, and values next to secret names.
    ///
    /// Names in a message such as `api_key: must not be empty` are kept.
    pub fn text(&self, text: &str) -> String {
        let mut stream = self.stream();
        let mut shown = stream.push(text);
        shown.push_str(&stream.finish());
        shown
    }

    /// Hides secrets in a JSON value at any depth, in place: whole values with secret names, all
    /// values in [private maps](is_private_map), and secrets within strings and keys. Counts,
    /// `null` and booleans are kept.
    pub fn json(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                let all = std::mem::take(fields);
                *fields = all
                    .into_iter()
                    .map(|(name, mut field)| {
                        if is_private_map(&name) {
                            self.hide_below(&mut field);
                        } else if is_secret_name(&name) {
                            hide(&mut field);
                        } else {
                            self.json(&mut field);
                        }
                        (self.text(&name), field)
                    })
                    .collect::<Map<_, _>>();
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Value::String(text) => *text = self.text(text),
            _ => {}
        }
    }

    /// Creates a redactor for one text that arrives in chunks.
    pub fn stream(&self) -> StreamRedactor {
        StreamRedactor {
            known: self.known.clone(),
            before: None,
            raw: String::new(),
            shapes: Shapes::default(),
            half: String::new(),
        }
    }

    /// Hides all values and keeps the names.
    fn hide_below(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                let all = std::mem::take(fields);
                for (name, mut field) in all {
                    self.hide_below(&mut field);
                    fields.insert(self.text(&name), field);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide_below(item)),
            other => hide(other),
        }
    }
}

/// Hides a value unless it is null or a boolean, because it is not secret whether a secret is set.
fn hide(value: &mut Value) {
    if !matches!(value, Value::Null | Value::Bool(_)) {
        *value = HIDDEN.into();
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

/// A redactor for one text that arrives in chunks, such as the output of a command.
///
/// Text is returned immediately, except for the last word while it may be the beginning of a secret
/// or of a secret's name. At most 8 KiB plus the length of the longest known value are buffered.
/// The result does not depend on how the text is split.
///
/// ```
/// use oh_protocol::redact::Redactor;
///
/// let mut stream = Redactor::new().stream();
/// let mut shown = stream.push("export API_K");
/// shown += &stream.push("EY=abc");
/// shown += &stream.push("def\nls\n");
/// shown += &stream.finish();
/// assert_eq!(shown, "export API_KEY=<redacted>\nls\n");
/// ```
pub struct StreamRedactor {
    known: Known,
    /// The character that precedes `raw`.
    before: Option<char>,
    /// Text that may be the beginning of a known value.
    raw: String,
    shapes: Shapes,
    /// Text without known values that may be the beginning of a name, a URL or a credential.
    half: String,
}

impl StreamRedactor {
    /// Adds a chunk and returns the redacted text that is ready.
    pub fn push(&mut self, piece: &str) -> String {
        self.raw.push_str(piece);
        self.step(false)
    }

    /// Ends the text, returns the rest, and resets the redactor for a new text.
    pub fn finish(&mut self) -> String {
        let shown = self.step(true);
        self.before = None;
        self.shapes = Shapes::default();
        shown
    }

    fn step(&mut self, finished: bool) -> String {
        let done = self
            .known
            .hide(&self.raw, self.before, finished, &mut self.half);
        self.before = self.raw[..done].chars().next_back().or(self.before);
        self.raw.drain(..done);
        let mut shown = String::new();
        let done = self.shapes.hide(&self.half, finished, &mut shown);
        self.half.drain(..done);
        shown
    }
}

impl fmt::Debug for StreamRedactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamRedactor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
