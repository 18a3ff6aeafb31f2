//! The upgrade of a connection to WebSocket, and the validation of the response.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, StatusCode,
    header::{
        CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
        SEC_WEBSOCKET_PROTOCOL, UPGRADE,
    },
};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use url::Url;

use crate::{
    Error, ErrorKind, Result,
    http::retry_after,
    net::{Head, lost, read_head},
};

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const WHAT: &str = "WebSocket handshake";

/// Sends the upgrade request and validates that the response belongs to it. Returns the bytes that
/// were read after the response.
pub(crate) async fn handshake(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    url: &Url,
    asked: &HeaderMap,
) -> Result<Vec<u8>> {
    let key = STANDARD.encode(std::array::from_fn::<u8, 16, _>(|_| fastrand::u8(..)));
    let host = url.host_str().unwrap_or_default();
    let authority = url
        .port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let mut head = format!(
        "GET {target} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
    )
    .into_bytes();
    for (name, value) in asked {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    stream
        .write_all(&head)
        .await
        .map_err(|error| lost(WHAT, error))?;
    stream.flush().await.map_err(|error| lost(WHAT, error))?;
    let Head {
        status,
        headers,
        rest,
    } = read_head(stream, WHAT).await?;
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let error = match status.as_u16() {
            401 | 403 | 404 | 407 | 429 | 500.. => Error::from_status(status),
            _ => refused(&format!(
                "the server returned {status} instead of upgrading the connection"
            ))
            .with_status(status),
        };
        return Err(error.with_retry_after(retry_after(&headers)));
    }
    let says = |name, word| words(&headers, name).any(|part| part.eq_ignore_ascii_case(word));
    if !says(&UPGRADE, "websocket") || !says(&CONNECTION, "upgrade") {
        return Err(refused("the response does not upgrade to WebSocket"));
    }
    let expected = accept_key(&key);
    let accept = headers.get(SEC_WEBSOCKET_ACCEPT);
    if accept.is_none_or(|accept| accept.as_bytes() != expected.as_bytes()) {
        return Err(refused(
            "the accept key of the response does not match the request",
        ));
    }
    if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err(refused(
            "the server selected an extension that was not offered",
        ));
    }
    // Only the caller of the transport can offer a subprotocol, with its own header.
    let offered = |chosen: &str| words(asked, &SEC_WEBSOCKET_PROTOCOL).any(|word| word == chosen);
    if let Some(chosen) = headers.get(SEC_WEBSOCKET_PROTOCOL)
        && !chosen.to_str().is_ok_and(|chosen| offered(chosen.trim()))
    {
        return Err(refused(
            "the server selected a subprotocol that was not offered",
        ));
    }
    Ok(rest.into())
}

/// Returns the comma-separated values of a header.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn refused(why: &str) -> Error {
    Error::new(
        ErrorKind::Handshake,
        format!("the WebSocket handshake failed: {why}"),
    )
}

/// Returns the accept key that a server computes from the client's key.
pub(crate) fn accept_key(key: &str) -> String {
    STANDARD.encode(Sha1::digest(format!("{key}{GUID}")))
}
