//! The error type of this crate.

use std::fmt;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an [`Error`], for programs to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes are not JSON of the expected form. For an event, use
    /// [`Event::from_json_lossy`](crate::Event::from_json_lossy) to keep the bytes; otherwise use a
    /// version of this crate that supports the server's version.
    Decode,
    /// A value could not be encoded as JSON or as a header, or a value inside a body breaks a rule
    /// of the server. Nothing was sent. Correct the value that the message names; `check` of a
    /// configuration names the field.
    Encode,
    /// A value from the caller breaks a rule of the server. Nothing was sent. Correct the field
    /// that the message names.
    InvalidInput,
    /// The server's version does not support a part of the request, and has ignored it. Use a newer
    /// server.
    Unsupported,
}

/// The reason why data could not be decoded, encoded or accepted.
///
/// Contains no payload text, because a body may contain secrets. Messages contain only field names
/// and positions.
pub struct Error {
    kind: ErrorKind,
    context: Box<str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Creates an error for a body that could not be decoded. `context` names the body.
    pub fn decode(
        context: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = match source.into().downcast::<serde_json::Error>() {
            Ok(error) => without_values(&error.to_string()).into(),
            Err(other) => other,
        };
        Self::new(ErrorKind::Decode, context, Some(source))
    }

    /// Creates an error for a value that could not be encoded. `context` names the value.
    pub fn encode(
        context: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(ErrorKind::Encode, context, Some(source.into()))
    }

    /// Creates an error for input that breaks a rule. `context` states the rule and what to do.
    pub fn invalid(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, context, None)
    }

    /// Creates an error for a part of a request that the server has ignored. `context` states what
    /// the server does not support.
    pub fn unsupported(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, context, None)
    }

    pub(crate) fn new(
        kind: ErrorKind,
        context: impl Into<String>,
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            context: context.into().into_boxed_str(),
            source,
        }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns what failed, without the values involved.
    pub fn context(&self) -> &str {
        &self.context
    }
}

/// Shows what failed and why, including the text of the [source](std::error::Error::source).
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ErrorKind::Decode => "could not decode ",
            ErrorKind::Encode => "could not encode ",
            ErrorKind::InvalidInput | ErrorKind::Unsupported => "",
        };
        write!(f, "{what}{}", self.context)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

crate::no_requests!(Error, error => error.source.as_deref());

/// Returns a message of serde_json without the values in it, which may be misplaced secrets. Values
/// are quoted with `"` or, where a name was expected, with backticks before `, expected`.
fn without_values(message: &str) -> String {
    for (open, close) in [
        ("string \"", "\", expected"),
        ("unknown variant `", "`, expected"),
    ] {
        if let Some((before, rest)) = message.split_once(open)
            && let Some((_, after)) = rest.rsplit_once(close)
        {
            return format!("{before}{open}…{close}{after}");
        }
    }
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code, reason = "only reading is tried")]
    struct Wire {
        number: Option<u32>,
        word: Option<Word>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        Known,
    }

    #[test]
    fn a_decode_error_names_the_place_and_not_the_value() {
        for (json, says) in [
            (
                r#"{"number": "canary"}"#,
                r#"invalid type: string "…", expected u32 at line 1"#,
            ),
            (
                r#"{"number": "\", expected canary"}"#,
                r#"string "…", expected u32 at"#,
            ),
            (
                r#"{"word": "canary"}"#,
                "unknown variant `…`, expected `known` at line 1",
            ),
            (r#"{"number": 1.5}"#, "floating point `1.5`, expected u32"),
            (r#"{"number": "canary"#, "EOF while parsing a string"),
        ] {
            let error = serde_json::from_str::<Wire>(json).unwrap_err();
            let error = super::Error::decode("wire", error);
            let shown = format!("{error} {error:?} {}", error.source().unwrap());
            assert!(shown.contains(says), "{shown}");
            assert!(!shown.contains("canary"), "{shown}");
        }
    }
}
