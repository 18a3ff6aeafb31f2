//! The server's base URL, parsed once for all requests.

use bytes::Bytes;
use http::{
    HeaderValue, Uri,
    uri::{self, Authority, PathAndQuery, Scheme},
};
use url::Url;

use crate::{Error, ErrorKind, Result};

/// The maximum length of a URL. Positions in a [`Uri`] have 16 bits.
const LONGEST: usize = 65_534;

/// Scheme, host, port and path prefix of all requests of a client.
pub(crate) struct Origin {
    scheme: Scheme,
    authority: Authority,
    /// The path of the base URL, without a trailing slash.
    prefix: String,
}

impl Origin {
    /// Splits a base URL.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if requests cannot be sent to the URL.
    pub(crate) fn of(base: &Url) -> Result<Self> {
        let invalid = || {
            Error::new(
                ErrorKind::InvalidInput,
                "requests cannot use the server URL",
            )
        };
        let uri = Uri::try_from(base.as_str()).map_err(|error| invalid().with_source(error))?;
        let parts = uri.into_parts();
        Ok(Self {
            scheme: parts.scheme.ok_or_else(invalid)?,
            authority: parts.authority.ok_or_else(invalid)?,
            prefix: base.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Returns the value of the `Host` header.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if the host cannot be in a header.
    pub(crate) fn host(&self) -> Result<HeaderValue> {
        HeaderValue::from_str(self.authority.as_str()).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "invalid host in the server URL").with_source(error)
        })
    }

    /// Returns the URL of a target: a path and query below the base URL. Returns `None` if the
    /// target is not a valid path or the URL is too long.
    pub(crate) fn uri(&self, target: &str) -> Option<Uri> {
        let whole = [self.prefix.as_str(), target].concat();
        let before = self.scheme.as_str().len() + "://".len() + self.authority.as_str().len();
        if before + whole.len() > LONGEST {
            return None;
        }
        let mut parts = uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = PathAndQuery::from_maybe_shared(Bytes::from(whole)).ok();
        Uri::from_parts(parts).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(base: &str) -> Origin {
        Origin::of(&Url::parse(base).unwrap()).unwrap()
    }

    #[test]
    fn a_target_is_below_the_base_url() {
        for (base, uri, host) in [
            ("http://host", "http://host/api/x?y=1", "host"),
            ("http://host:80/", "http://host/api/x?y=1", "host"),
            (
                "https://host:8000/a/b",
                "https://host:8000/a/b/api/x?y=1",
                "host:8000",
            ),
            ("http://[::1]:81/", "http://[::1]:81/api/x?y=1", "[::1]:81"),
        ] {
            let origin = origin(base);
            assert_eq!(origin.uri("/api/x?y=1").unwrap().to_string(), uri);
            assert_eq!(origin.host().unwrap(), host);
        }
    }

    #[test]
    fn an_invalid_or_long_target_has_no_uri() {
        let origin = origin("http://host");
        assert!(origin.uri("/a b").is_none());
        let longest = LONGEST - "http://host".len();
        let target = |length: usize| format!("/{}", "x".repeat(length - 1));
        assert!(origin.uri(&target(longest)).is_some());
        assert!(origin.uri(&target(longest + 1)).is_none());
        assert!(Uri::try_from(format!("http://host{}", target(longest))).is_ok());
        assert!(Uri::try_from(format!("http://host{}", target(longest + 1))).is_err());
    }
}
