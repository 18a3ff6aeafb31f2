//! What may be shown of names, text, URLs and JSON that may hold secrets.
//!
//! Errors, logs, `Debug`, `Display`, the view and the command line use these rules and no others.
//! They work without a list of secrets, by names and shapes; a [`Redactor`] also hides values that
//! are known to be secret.
//!
//! | what | rule |
//! |-|-|
//! | a field, variable, header or flag | hidden if a word of its name says so: [`is_secret_name`] |
//! | headers and environments | every value is hidden, names are shown: [`is_private_map`] |
//! | a URL | user, password, query and fragment are hidden: [`url()`]; of some the path too: [`origin`] |
//! | text | URLs, `name=value`, `"name": "value"`, headers, flags, `Bearer` credentials: [`text`] |
//! | text in pieces | the same, across the borders of the pieces: [`StreamRedactor`] |
//! | JSON | names at any depth, and each text as text: [`json`] |
//!
//! [`HIDDEN`] stands for what was hidden. The rules hide too much rather than too little, but a
//! secret that has neither a telling name nor a known value is not found. For what a terminal
//! must not be sent see [`printable`](crate::printable).

mod address;
mod known;
mod names;
mod shapes;
mod written;

use std::{borrow::Cow, fmt};

use secrecy::SecretString;
use serde_json::{Map, Value};

use known::Known;
use shapes::Shapes;

pub use address::{origin, public_url, url};
pub use names::{is_private_map, is_secret_name};

/// Stands where something was hidden.
pub const HIDDEN: &str = "<redacted>";

/// Returns a text without what is secret by its shape. See [`Redactor::text`].
///
/// ```
/// use oh_protocol::redact::text;
///
/// assert_eq!(text("GET https://vault/key?token=abc failed"), "GET https://vault/key?<redacted> failed");
/// assert_eq!(text("max_input_tokens: must be an integer"), "max_input_tokens: must be an integer");
/// ```
pub fn text(text: &str) -> String {
    Redactor::new().text(text)
}

/// Hides in place what is secret in a JSON value. See [`Redactor::json`].
pub fn json(value: &mut Value) {
    Redactor::new().json(value);
}

/// Returns what may be shown of a header's value: a mark if its name is that of a secret,
/// otherwise its text without secrets.
pub fn header<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if is_secret_name(name) {
        return Cow::Borrowed(HIDDEN);
    }
    Cow::Owned(text(value))
}

/// Hides secrets by name, by shape, and by value where the value is known.
///
/// Cheap to make. `Debug` shows nothing of the values.
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
    /// Creates a redactor that knows no values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also hides this value, as it is and as JSON, Python, URLs, forms and base64 write it. A value
    /// of several lines is hidden line by line as well. One shorter than 6 bytes is hidden only where it is not a part
    /// of a longer word; an empty one is ignored.
    #[must_use]
    pub fn with(mut self, secret: &SecretString) -> Self {
        self.add(secret);
        self
    }

    /// Also hides this value from now on, as [`with`](Self::with) does.
    pub fn add(&mut self, secret: &SecretString) {
        self.known.add(secret);
    }

    /// Returns a text without secrets: known values, user, password, query and fragment of URLs,
    /// and values beside the name of a secret.
    ///
    /// Names in a hint stay, as in `api_key: must not be empty`.
    pub fn text(&self, text: &str) -> String {
        let mut stream = self.stream();
        let mut shown = stream.push(text);
        shown.push_str(&stream.finish());
        shown
    }

    /// Hides in place what is secret in a JSON value, at any depth: whole values under secret
    /// names, every value in [private maps](is_private_map), and secrets within texts and keys.
    /// Numbers that are counts, `null` and booleans stay.
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

    /// Creates a redactor for one text that arrives in pieces.
    pub fn stream(&self) -> StreamRedactor {
        StreamRedactor {
            known: self.known.clone(),
            before: None,
            raw: String::new(),
            shapes: Shapes::default(),
            half: String::new(),
        }
    }

    /// Hides every value and keeps the names.
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

/// Whether there is a value is no secret.
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

/// Hides secrets in one text that arrives in pieces, such as the output of a command.
///
/// What is pushed comes out at once, except for the last word as long as it may be the beginning
/// of a secret or of its name: at most 8 KiB and the length of the longest known value. However
/// the text is cut, the same is shown.
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
    /// The character before `raw`.
    before: Option<char>,
    /// Perhaps the beginning of a known value.
    raw: String,
    shapes: Shapes,
    /// Without known values; perhaps the beginning of a name, a URL or a credential.
    half: String,
}

impl StreamRedactor {
    /// Takes the next piece and returns what may be shown by now.
    pub fn push(&mut self, piece: &str) -> String {
        self.raw.push_str(piece);
        self.step(false)
    }

    /// Returns the rest at the end of the text. The redactor is then as new.
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
