//! TLS by rustls with ring: the platform's certificate verifier and the caller's roots.

use std::sync::Arc;

use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use rustls_platform_verifier::Verifier;

use crate::{Error, ErrorKind, Result, connect::Stream};

/// What the caller wants of TLS.
#[derive(Default)]
pub(crate) struct Tls {
    roots: Vec<CertificateDer<'static>>,
    unreadable: bool,
}

/// TLS, if this client needs it.
#[derive(Clone)]
pub(crate) struct Ready(Option<tokio_rustls::TlsConnector>);

impl Tls {
    pub(crate) fn add_root(&mut self, certificate: &[u8]) {
        let pem = certificate.windows(11).any(|part| part == b"-----BEGIN ");
        if !pem {
            self.unreadable |= certificate.is_empty();
            self.roots.push(certificate.to_vec().into());
            return;
        }
        let before = self.roots.len();
        for root in CertificateDer::pem_slice_iter(certificate) {
            match root {
                Ok(root) => self.roots.push(root),
                Err(_) => self.unreadable = true,
            }
        }
        self.unreadable |= self.roots.len() == before;
    }

    pub(crate) fn ready(self, needed: bool) -> Result<Ready> {
        if self.unreadable {
            let message = "a root certificate is neither PEM nor DER";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        if !needed {
            return Ok(Ready(None));
        }
        let failed = |error: rustls::Error| {
            let message = "TLS cannot be set up: no usable root certificates";
            Error::new(ErrorKind::Tls, message).with_source(error)
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = if self.roots.is_empty() {
            Verifier::new(provider.clone())
        } else {
            Verifier::new_with_extra_roots(self.roots, provider.clone())
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier.map_err(failed)?))
            .with_no_client_auth();
        Ok(Ready(Some(Arc::new(config).into())))
    }
}

impl Ready {
    pub(crate) async fn encrypt(&self, stream: Stream, host: &str) -> Result<Stream> {
        let failed = |kind, message: &str| Error::new(kind, format!("{message} with {host}"));
        let Some(connector) = &self.0 else {
            return Err(failed(ErrorKind::Tls, "TLS was not set up"));
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| failed(ErrorKind::Tls, "no TLS").with_source(error))?;
        let stream = connector.connect(name, stream).await.map_err(|error| {
            // Only what TLS itself objects to will fail again.
            let objection = error
                .get_ref()
                .is_some_and(|inner| inner.is::<rustls::Error>());
            let kind = if objection {
                ErrorKind::Tls
            } else {
                ErrorKind::Connect
            };
            failed(kind, "the TLS handshake failed").with_source(error)
        })?;
        Ok(Stream::new(stream))
    }
}
