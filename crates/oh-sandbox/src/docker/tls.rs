//! TLS with an engine: its certificate must be signed by the CA of the user, and the user shows a
//! certificate too.

use std::{io, path::Path, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, AlertDescription, ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use crate::{Error, ErrorKind, Result};

/// Reads the certificates of a directory: `ca.pem`, and `cert.pem` and `key.pem` of the user. The
/// CAs of the system are not used.
pub(crate) fn connector(directory: &Path) -> Result<TlsConnector> {
    let path = |name: &str| directory.join(name);
    let invalid = |name: &str, why: String| {
        let shown = directory.join(name);
        let message = format!(
            "cannot use {} for TLS with the engine: {why}; set DOCKER_CERT_PATH to a directory \
             with ca.pem, cert.pem and key.pem",
            shown.display()
        );
        Error::new(ErrorKind::InvalidInput, message)
    };
    // The errors say what is wrong with a file, and contain nothing of it.
    let certificates = |name: &'static str| {
        let read = CertificateDer::pem_file_iter(path(name));
        let read = read.and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let found = read.map_err(|error| invalid(name, error.to_string()))?;
        match found.is_empty() {
            true => Err(invalid(name, "it contains no certificate".to_owned())),
            false => Ok(found),
        }
    };
    let mut roots = RootCertStore::empty();
    for root in certificates("ca.pem")? {
        let added = roots.add(root);
        added.map_err(|error| invalid("ca.pem", error.to_string()))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| {
        let message = "cannot set up TLS with the engine";
        Error::new(ErrorKind::Tls, message).with_source(error)
    })?;
    let builder = builder.with_root_certificates(roots);
    // Without a certificate of the user, the engine decides.
    if !path("cert.pem").exists() && !path("key.pem").exists() {
        return Ok(Arc::new(builder.with_no_client_auth()).into());
    }
    let chain = certificates("cert.pem")?;
    let key = PrivateKeyDer::from_pem_file(path("key.pem"));
    let key = key.map_err(|error| invalid("key.pem", error.to_string()))?;
    let config = builder.with_client_auth_cert(chain, key);
    let config = config.map_err(|error| invalid("key.pem", error.to_string()))?;
    Ok(Arc::new(config).into())
}

/// Connects with an engine.
pub(crate) async fn dial(
    connector: &TlsConnector,
    host: &str,
    port: u16,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((host, port)).await?;
    connector.connect(name, stream).await
}

/// Returns the error of a failure of TLS.
pub(crate) fn objection(error: &rustls::Error) -> Error {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateUnknown,
        UnknownCA, UnsupportedCertificate,
    };
    let (kind, remedy) = match error {
        rustls::Error::AlertReceived(
            AccessDenied
            | BadCertificate
            | CertificateExpired
            | CertificateRequired
            | CertificateUnknown
            | UnknownCA
            | UnsupportedCertificate,
        ) => (
            ErrorKind::EngineDenied,
            "the engine rejects the client certificate; use a cert.pem and key.pem that its CA has \
             signed",
        ),
        rustls::Error::InvalidCertificate(_) => (
            ErrorKind::Tls,
            "the engine's certificate cannot be verified; use the ca.pem that signed it, and a \
             host name that it contains",
        ),
        rustls::Error::InvalidMessage(_) => (
            ErrorKind::Tls,
            "the engine does not use TLS at this address; unset DOCKER_TLS_VERIFY, or correct the \
             port",
        ),
        _ => (
            ErrorKind::Tls,
            "check the address and the engine's TLS options",
        ),
    };
    Error::new(kind, format!("{error}; {remedy}"))
}
