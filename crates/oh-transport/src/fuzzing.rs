//! Entry points for fuzz targets: parsers that no public function exposes. Not part of the API.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, ReadBuf};

use crate::{Error, ErrorKind, Result, net};

/// Parses the head of an HTTP response from bytes that arrive in pieces of the given length.
/// Returns the status, the headers and all bytes after the head.
///
/// # Errors
///
/// Returns an error if the bytes do not contain a valid head.
pub fn read_head(bytes: &[u8], piece: usize) -> Result<(StatusCode, HeaderMap, Vec<u8>)> {
    let mut stream = Pieces { bytes, piece };
    let head = {
        let read = pin!(net::read_head(&mut stream, "answer"));
        match read.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(head) => head?,
            Poll::Pending => {
                let what = "the stream is never pending";
                return Err(Error::new(ErrorKind::Interrupted, what));
            }
        }
    };
    let rest = [&head.rest[..], stream.bytes].concat();
    Ok((head.status, head.headers, rest))
}

/// A stream that is always ready.
struct Pieces<'a> {
    bytes: &'a [u8],
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.piece.min(into.remaining()).min(self.bytes.len());
        let (piece, rest) = self.bytes.split_at(length);
        into.put_slice(piece);
        self.bytes = rest;
        Poll::Ready(Ok(()))
    }
}
