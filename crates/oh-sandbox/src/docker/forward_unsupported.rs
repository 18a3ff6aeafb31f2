//! Systems whose sockets `ssh` cannot use.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use crate::{Error, ErrorKind, Result, docker::ssh::Host};

/// Forwards nothing.
#[derive(Debug)]
pub(crate) struct Forwards;

impl Forwards {
    pub(crate) fn new(_: Host, _: Duration) -> Arc<Self> {
        Arc::new(Self)
    }

    pub(crate) fn place(&self) -> Result<&Path> {
        Ok(Path::new(""))
    }

    pub(crate) async fn reach(&self, _: &str, _: u16) -> Result<SocketAddr> {
        let message = "ports of an engine behind ssh are not forwarded on this system; use \
                       `publish_on` with an address of a trusted network";
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    pub(crate) fn close(&self, _: &str) {}
}
