//! The one error of this crate: what could not be read, built or accepted, and where.

use std::fmt;

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was wrong, in one word that a program can branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes are not the JSON that was expected.
    Decode,
    /// A value could not be turned into the JSON of the wire.
    Encode,
    /// A value the caller gave breaks a rule of the server; nothing was sent.
    Invalid,
}

/// Why something could not be decoded, encoded or accepted.
///
/// Carries no payload text: a body may hold secrets, so messages name fields and positions only.
pub struct Error {
    kind: ErrorKind,
    context: Box<str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A body that does not decode: `context` says what was being read.
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

    /// A value that does not encode: `context` says which.
    pub fn encode(
        context: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(ErrorKind::Encode, context, Some(source.into()))
    }

    /// Input that breaks a rule: `context` says which rule and what to do.
    pub fn invalid(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, context, None)
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

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was being done, without the values involved.
    pub fn context(&self) -> &str {
        &self.context
    }
}

/// What failed, and why: the same text as that of the [source](std::error::Error::source) is a
/// part of it.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ErrorKind::Decode => "could not decode ",
            ErrorKind::Encode => "could not encode ",
            ErrorKind::Invalid => "",
        };
        write!(f, "{what}{}", self.context)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("context", &self.context)
            .field("source", &self.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// What serde_json complains about, without the text it found: that may be a secret in the wrong
/// place. Texts stand in `"` or, where a name was expected, in backticks before `, expected`.
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
    fn a_decode_error_names_the_place_and_not_what_stands_there() {
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
