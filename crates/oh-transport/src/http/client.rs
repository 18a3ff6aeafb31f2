//! The HTTP transport of the network: requests through a pool, also by a forwarding proxy.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use http::{Request, Response, StatusCode, header};

use super::pool::Pool;
use crate::{
    Body, HttpTransport, Result,
    net::{self, Connector},
};

/// An HTTP/1.1 transport with a small connection pool. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub(crate) struct HyperTransport {
    pool: Pool,
    connector: Connector,
}

impl HyperTransport {
    /// Creates a transport that keeps idle connections for at most `idle`. The server closes idle
    /// connections too, and a request sent at that moment may or may not have been seen.
    pub(crate) fn new(connector: Connector, idle: Duration) -> Self {
        let pool = Pool::new(connector.clone(), idle);
        Self { pool, connector }
    }
}

#[async_trait]
impl HttpTransport for HyperTransport {
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>> {
        let forwarder = self.connector.forwarder(request.uri())?;
        if let Some(authorization) = forwarder.and_then(|hop| hop.authorization.as_ref()) {
            let headers = request.headers_mut();
            headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
        let answer = self.pool.send(request).await?;
        if let Some(hop) = forwarder
            && answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED
        {
            return Err(net::refused(hop, answer.status(), "a request"));
        }
        Ok(answer)
    }
}

impl fmt::Debug for HyperTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HyperTransport")
    }
}
