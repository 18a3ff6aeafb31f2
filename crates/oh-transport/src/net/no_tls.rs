//! Stands in for TLS in a build without the feature `tls`: every use is an error that says so.

use std::io;

use super::Stream;
use crate::{Error, ErrorKind, Result};

/// The caller's settings: none.
#[derive(Default)]
pub(crate) struct TlsOptions {}

/// No TLS.
pub(crate) struct Tls;

impl Tls {
    pub(crate) fn new(_: TlsOptions) -> Result<Self> {
        Ok(Self)
    }

    pub(crate) fn prepare(&self) -> Result<()> {
        let message = "https requires the `tls` feature, which is not enabled";
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    pub(crate) async fn encrypt(&self, stream: Stream, _: &str) -> Result<Stream> {
        self.prepare().map(|()| stream)
    }
}

pub(crate) fn is_handshake_alert(_: &io::Error) -> bool {
    false
}
