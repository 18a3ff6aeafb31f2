//! TLS with rustls and ring: the platform's certificate verifier, the caller's roots, and a client
//! certificate.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use rustls::{
    AlertDescription, ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use rustls_platform_verifier::Verifier;
use secrecy::{ExposeSecret, SecretString};
use tokio_rustls::TlsConnector;

use super::Stream;
use crate::{Error, ErrorKind, Result};

/// The caller's TLS settings.
#[derive(Default)]
pub(crate) struct TlsOptions {
    roots: Vec<CertificateDer<'static>>,
    identity: Option<Identity>,
    fault: Option<&'static str>,
}

/// A client certificate with its chain and private key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl TlsOptions {
    pub(crate) fn add_root(&mut self, certificate: &[u8]) {
        match certificates(certificate) {
            Some(roots) => self.roots.extend(roots),
            None => self.fault = Some("invalid root certificate: must be PEM or DER"),
        }
    }

    pub(crate) fn set_identity(&mut self, chain: &[u8], key: &SecretString) {
        let chain = certificates(chain);
        let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes());
        match (chain, key) {
            (Some(chain), Ok(key)) => self.identity = Some(Identity { chain, key }),
            (None, _) => self.fault = Some("invalid client certificate: must be PEM or DER"),
            (_, Err(_)) => {
                self.fault = Some(
                    "invalid key of the client certificate: must be a PEM private key (PKCS #8, \
                     PKCS #1 or SEC 1, without a passphrase)",
                );
            }
        }
    }
}

/// Parses one DER certificate or all certificates of a PEM text. Returns `None` if there is none or
/// if one is invalid.
fn certificates(bytes: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    if bytes.windows(11).any(|part| part == b"-----BEGIN ") {
        let found = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
        return found.ok().filter(|found| !found.is_empty());
    }
    (!bytes.is_empty()).then(|| vec![bytes.to_vec().into()])
}

/// A TLS connector. Initialized on first use, because the platform's certificates are many files.
pub(crate) struct Tls {
    options: TlsOptions,
    ready: OnceLock<Result<TlsConnector, rustls::Error>>,
}

impl Tls {
    /// Creates the connector.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if a certificate or a key is invalid.
    pub(crate) fn new(options: TlsOptions) -> Result<Self> {
        if let Some(fault) = options.fault {
            return Err(Error::new(ErrorKind::InvalidInput, fault));
        }
        let tls = Self {
            options,
            ready: OnceLock::new(),
        };
        // Check at once whether the key belongs to the certificate.
        if let Some(identity) = &tls.options.identity {
            let provider = rustls::crypto::ring::default_provider();
            let chain = identity.chain.clone();
            rustls::sign::CertifiedKey::from_der(chain, identity.key.clone_key(), &provider)
                .map_err(|error| {
                    let message = "the client certificate and its key do not match or are not \
                                   supported";
                    Error::new(ErrorKind::InvalidInput, message).with_source(error)
                })?;
        }
        Ok(tls)
    }

    /// Initializes TLS on the first call.
    ///
    /// # Errors
    ///
    /// Returns `Tls` if the platform has no usable root certificates, or if a given root is
    /// invalid.
    pub(crate) fn prepare(&self) -> Result<&TlsConnector> {
        let ready = self.ready.get_or_init(|| self.options.connector());
        ready.as_ref().map_err(|error| {
            let message = "cannot set up TLS: no usable root certificates";
            Error::new(ErrorKind::Tls, message).with_source(error.clone())
        })
    }

    pub(crate) async fn encrypt(&self, stream: Stream, host: &str) -> Result<Stream> {
        let connector = self.prepare()?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| {
            let message = format!("{host} is not a valid host name for TLS");
            Error::new(ErrorKind::Tls, message).with_source(error)
        })?;
        let stream = connector.connect(name, stream).await.map_err(|error| {
            // Errors of TLS itself are permanent; I/O errors are not.
            let objection = error
                .get_ref()
                .is_some_and(|inner| inner.is::<rustls::Error>());
            let kind = if objection {
                ErrorKind::Tls
            } else {
                ErrorKind::Connect
            };
            Error::new(kind, format!("the TLS handshake with {host} failed")).with_source(error)
        })?;
        Ok(Stream::new(stream))
    }
}

impl TlsOptions {
    fn connector(&self) -> Result<TlsConnector, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = if self.roots.is_empty() {
            Verifier::new(provider.clone())
        } else {
            Verifier::new_with_extra_roots(self.roots.clone(), provider.clone())
        }?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match &self.identity {
            Some(identity) => {
                config.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?
            }
            None => config.with_no_client_auth(),
        };
        Ok(Arc::new(config).into())
    }
}

/// Returns whether the peer rejected the handshake after the client had completed its part, as with
/// a client certificate in TLS 1.3. The error occurs at the first read, and no request was
/// processed.
pub(crate) fn is_handshake_alert(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(rustls::Error::AlertReceived(alert)) = inner else {
        return false;
    };
    matches!(
        alert,
        AlertDescription::HandshakeFailure
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    )
}
