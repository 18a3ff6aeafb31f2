//! Entrances for fuzz targets: readers that no public function leads to. Not part of the API.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, ReadBuf};

use crate::{Error, ErrorKind, Result, net};

/// Reads the head of an HTTP answer from bytes that arrive in pieces of this length.
///
/// # Errors
///
/// When there is no head.
pub fn read_head(bytes: &[u8], piece: usize) -> Result<(StatusCode, HeaderMap, Vec<u8>)> {
    let mut stream = Pieces { bytes, piece };
    let read = pin!(net::read_head(&mut stream, "answer"));
    match read.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(head) => head.map(|head| (head.status, head.headers, head.rest.to_vec())),
        Poll::Pending => Err(Error::new(
            ErrorKind::Interrupted,
            "the stream is never pending",
        )),
    }
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
