//! A replacement for TLS in builds without the `tls` feature: every use returns an error.

use std::io;

use super::Stream;
use crate::{Error, ErrorKind, Result};

/// The caller's TLS settings, which are always empty in this build.
#[derive(Default)]
pub(crate) struct TlsOptions {}

/// A placeholder for the TLS connector.
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
