//! The head of an HTTP answer, read from a stream that becomes something else after it: a tunnel
//! or a WebSocket. Reads not a byte more.

use http::{HeaderMap, HeaderName, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{Error, ErrorKind, Result};

const LIMIT: usize = 16 * 1024;

/// Reads status and headers; `what` names the exchange in errors.
pub(crate) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    what: &str,
) -> Result<(StatusCode, HeaderMap)> {
    let mut bytes = Vec::with_capacity(256);
    while !bytes.ends_with(b"\r\n\r\n") {
        if bytes.len() >= LIMIT {
            return Err(malformed(what, "the answer's head is too long"));
        }
        bytes.push(stream.read_u8().await.map_err(|error| lost(what, error))?);
    }
    parse(&bytes).map_err(|why| malformed(what, why))
}

/// The connection ended in the exchange `what`.
pub(crate) fn lost(what: &str, error: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Interrupted,
        format!("the connection ended in the {what}"),
    )
    .with_source(error)
}

fn malformed(what: &str, why: &str) -> Error {
    Error::new(ErrorKind::Handshake, format!("no {what}: {why}"))
}

fn parse(bytes: &[u8]) -> Result<(StatusCode, HeaderMap), &'static str> {
    let not_http = "the answer is not HTTP";
    let text = std::str::from_utf8(bytes).map_err(|_| not_http)?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().splitn(3, ' ');
    let version = first.next().unwrap_or_default();
    let status = first.next().and_then(|status| status.parse::<u16>().ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let (true, Some(status)) = (version.starts_with("HTTP/1."), status) else {
        return Err(not_http);
    };
    let mut headers = HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let header = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, value.trim().parse().ok()?))
        });
        let (name, value) = header.ok_or("the answer has a malformed header")?;
        headers.append(name, value);
    }
    Ok((status, headers))
}
