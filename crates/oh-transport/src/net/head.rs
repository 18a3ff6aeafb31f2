//! The head of an HTTP response, read from a stream that is a tunnel or a WebSocket afterwards.

use bytes::{Buf, BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use httparse::{EMPTY_HEADER, Response, Status};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{Error, ErrorKind, Result};

/// The maximum length of a head, in bytes.
const LIMIT: usize = 16 * 1024;
/// The maximum number of headers.
const HEADERS: usize = 128;

/// The status and headers of a response, and the bytes that were read after the head.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Bytes that arrived together with the head and belong to the data after it.
    pub(crate) rest: BytesMut,
}

/// Reads a head and skips interim responses (1xx other than 101). `what` names the exchange in
/// errors.
///
/// An error status is returned even if the headers are malformed, because the caller needs the
/// status to decide how to react.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin), what: &str) -> Result<Head> {
    let mut bytes = BytesMut::with_capacity(1024);
    loop {
        match parse(&bytes).map_err(|why| malformed(what, why))? {
            Some((status, _, length)) if is_interim(status) => bytes.advance(length),
            Some((status, headers, length)) => {
                bytes.advance(length);
                return Ok(Head {
                    status,
                    headers,
                    rest: bytes,
                });
            }
            None => {
                let room = LIMIT.saturating_sub(bytes.len());
                if room == 0 {
                    return Err(malformed(what, "the response head is too long"));
                }
                let read = stream.read_buf(&mut (&mut bytes).limit(room)).await;
                if read.map_err(|error| lost(what, error))? == 0 {
                    return Err(lost(what, std::io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
    }
}

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// Returns the error for a connection that ended during the exchange `what`.
pub(crate) fn lost(what: &str, error: std::io::Error) -> Error {
    let failed = match super::is_handshake_alert(&error) {
        true => Error::new(
            ErrorKind::Tls,
            format!("the server rejected the TLS handshake during the {what}"),
        ),
        false => Error::new(
            ErrorKind::Interrupted,
            format!("the connection ended during the {what}"),
        ),
    };
    failed.with_source(error)
}

fn malformed(what: &str, why: &str) -> Error {
    Error::new(ErrorKind::Handshake, format!("the {what} failed: {why}"))
}

type Parsed = Option<(StatusCode, HeaderMap, usize)>;

/// Parses the status, headers and length of a complete head. Returns `None` if the head is
/// incomplete.
fn parse(bytes: &[u8]) -> Result<Parsed, &'static str> {
    let mut storage = [EMPTY_HEADER; HEADERS];
    let mut response = Response::new(&mut storage);
    let parsed = response.parse(bytes);
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok());
    match (parsed, status) {
        (Ok(Status::Partial), _) => Ok(None),
        (Ok(Status::Complete(length)), Some(status)) => {
            let mut headers = HeaderMap::new();
            for header in response.headers.iter() {
                let name = HeaderName::from_bytes(header.name.as_bytes());
                let value = HeaderValue::from_bytes(header.value);
                let (Ok(name), Ok(value)) = (name, value) else {
                    return Err("the response has an invalid header");
                };
                headers.append(name, value);
            }
            Ok(Some((status, headers, length)))
        }
        (Err(_), Some(status)) if status.as_u16() >= 300 => {
            Ok(Some((status, HeaderMap::new(), bytes.len())))
        }
        (Err(_), Some(_)) => Err("the response has an invalid header"),
        (Ok(Status::Complete(_)) | Err(_), None) => Err("the response is not HTTP"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut bytes: &[u8]) -> Result<Head> {
        read_head(&mut bytes, "test").await
    }

    #[tokio::test]
    async fn a_reason_in_latin_1_does_not_hide_the_status() {
        let head =
            read(b"HTTP/1.1 407 Authentification n\xe9cessaire\r\nX: \xe9\r\n\r\nrest").await;
        let head = head.unwrap();
        assert_eq!(head.status, 407);
        assert_eq!(head.headers["x"], HeaderValue::from_bytes(b"\xe9").unwrap());
        assert_eq!(head.rest, "rest");
    }

    #[tokio::test]
    async fn the_status_of_a_rejection_counts_despite_malformed_headers() {
        let head = read(b"HTTP/1.1 403 No\r\nno colon\r\n\r\n").await.unwrap();
        assert_eq!(head.status, 403);
        for broken in [
            &b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"[..],
            b"SSH-2.0\r\n\r\n",
        ] {
            let error = read(broken).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Handshake, "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_head_or_an_error(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
            status in "HTTP/1.1 [0-9]{3} ",
        ) {
            for bytes in [bytes.clone(), [status.into_bytes(), bytes].concat()] {
                if let Ok(Some((_, _, length))) = parse(&bytes) {
                    proptest::prop_assert!(length <= bytes.len());
                }
            }
        }
    }

    #[tokio::test]
    async fn interim_answers_are_skipped() {
        let head =
            read(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 101 Go\r\n\r\n").await;
        assert_eq!(head.unwrap().status, 101);
    }

    #[tokio::test]
    async fn a_head_that_arrives_in_pieces_is_read_whole() {
        let whole = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\x81\x00";
        for cut in 0..whole.len() {
            let mut stream = AsyncReadExt::chain(&whole[..cut], &whole[cut..]);
            let head = read_head(&mut stream, "test").await.unwrap();
            assert_eq!(
                (head.status, &head.headers["upgrade"]),
                (
                    StatusCode::SWITCHING_PROTOCOLS,
                    &HeaderValue::from_static("websocket")
                )
            );
            let mut rest = head.rest.to_vec();
            stream.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"\x81\x00");
        }
    }
}
