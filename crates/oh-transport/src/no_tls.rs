//! No TLS in this build: says so.

use crate::{Error, ErrorKind, Result, connect::Stream};

/// What the caller wants of TLS.
#[derive(Default)]
pub(crate) struct Tls {}

/// TLS, if this build had it.
#[derive(Clone)]
pub(crate) struct Ready;

impl Tls {
    pub(crate) fn ready(self, needed: bool) -> Result<Ready> {
        if needed {
            let message = "https needs the feature `tls`, which this build has not";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(Ready)
    }
}

impl Ready {
    pub(crate) async fn encrypt(&self, _: Stream, host: &str) -> Result<Stream> {
        let message = format!("{host} wants TLS, and this build has not the feature `tls`");
        Err(Error::new(ErrorKind::Unsupported, message))
    }
}
