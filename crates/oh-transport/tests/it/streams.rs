//! Tests for bodies larger than memory, in both directions, and for stalled transfers.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http::Method;
use oh_protocol::Request;
use oh_transport::{Body, Error, ErrorKind, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

use crate::common::{Act, Raw, bytes, client, head, ok, request_to, shown, watch};

const CHUNK: usize = 64 * 1024;
/// Far more than the buffers of two sockets, far less than an endless stream.
const BOUND: usize = 64 * 1024 * 1024;

/// An endless upload that counts the bytes taken from it.
struct Endless(Arc<AtomicUsize>);

impl Stream for Endless {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.fetch_add(CHUNK, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Bytes::from(vec![b'x'; CHUNK]))))
    }
}

/// A few chunks, followed by an optional error.
struct Pieces(Vec<Result<Bytes>>);

impl Stream for Pieces {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready((!self.0.is_empty()).then(|| self.0.remove(0)))
    }
}

fn put() -> Request {
    Request::new(Method::POST, "/upload")
}

#[tokio::test]
async fn an_upload_waits_for_the_server_and_ends_when_it_stalls() {
    let _watch = watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Reads only the head.
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await.unwrap();
        stream
    });
    let taken = Arc::new(AtomicUsize::new(0));
    let body = Body::from_stream(Endless(taken.clone()), None);
    let limit = Duration::from_millis(300);
    let client = client(address).read_timeout(limit).build().unwrap();
    let error = client.stream(put(), body).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", shown(&error));
    assert_eq!(error.target(), Some("/upload"));
    assert!(
        taken.load(Ordering::SeqCst) < BOUND,
        "the upload was read ahead"
    );
    server.abort();
}

#[tokio::test]
async fn a_long_upload_that_makes_progress_has_no_time_limit() {
    let _watch = watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let size = 40 * 1024 * 1024;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head(&mut stream).await.unwrap();
        let mut left = size;
        let mut buffer = vec![0; 1 << 20];
        while left > 0 {
            left -= stream.read(&mut buffer).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stream.write_all(&ok()).await.unwrap();
        head
    });
    let chunks = (0..size / CHUNK)
        .map(|_| Ok(Bytes::from(vec![b'x'; CHUNK])))
        .collect();
    let body = Body::from_stream(Pieces(chunks), Some(size as u64));
    // The whole transfer takes longer than this limit, but no single step does.
    let limit = Duration::from_secs(3);
    let client = client(address).read_timeout(limit).build().unwrap();
    let answer = client.stream(put(), body).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let head = server.await.unwrap();
    assert!(
        head.to_lowercase()
            .contains(&format!("content-length: {size}\r\n")),
        "{head}"
    );
}

#[tokio::test]
async fn a_download_is_not_read_ahead_of_its_reader() {
    let _watch = watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let chunk = vec![b'x'; CHUNK];
        let mut written = 0;
        while let Ok(more) = timeout(Duration::from_millis(500), stream.write(&chunk)).await {
            written += more.unwrap();
            assert!(written < BOUND, "the download was read ahead");
        }
        written
    });
    let client = client(address).build().unwrap();
    let answer = client
        .stream(request_to("/file"), Body::empty())
        .await
        .unwrap();
    let written = server.await.unwrap();
    assert!(written > 0);
    // The server has closed the connection, but everything that it wrote can still be read.
    let body = answer.into_body().collect(BOUND).await.unwrap();
    assert!(
        body.len() <= written && body.len() > written / 2,
        "{} of {written}",
        body.len()
    );
}

#[tokio::test]
async fn a_stalled_download_ends_with_an_error() {
    let _watch = watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    });
    let limit = Duration::from_millis(200);
    let client = client(address).read_timeout(limit).build().unwrap();
    let answer = client
        .stream(request_to("/file"), Body::empty())
        .await
        .unwrap();
    assert_eq!(answer.body().length(), Some(10));
    let error = answer.into_body().collect(100).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", shown(&error));
    server.abort();
}

#[tokio::test]
async fn a_response_that_never_begins_times_out() {
    let _watch = watch();
    let server = Raw::start(|_, _| Act::Hang).await;
    let limit = Duration::from_millis(100);
    let client = client(server.address).read_timeout(limit).build().unwrap();
    let error = client
        .stream(request_to("/file"), Body::empty())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn an_upload_with_a_failing_source_is_reported_and_incomplete() {
    let _watch = watch();
    let server = Raw::start(|_, _| Act::Say(ok())).await;
    let client = client(server.address).build().unwrap();
    let broken = Err(Error::new(ErrorKind::InvalidInput, "the file vanished"));
    let body = Body::from_stream(Pieces(vec![Ok(bytes("half")), broken]), Some(8));
    let error = client.stream(put(), body).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(
        shown(&error).contains("the file vanished"),
        "{}",
        shown(&error)
    );
    assert_eq!(
        server.seen().len(),
        0,
        "half an upload was taken for a whole one"
    );
}

#[tokio::test]
async fn a_stream_is_never_sent_again() {
    let _watch = watch();
    let server = Raw::start(|_, _| Act::Reset).await;
    let client = client(server.address).build().unwrap();
    let error = client
        .stream(request_to("/x"), Body::empty())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(server.seen().len(), 1);
}
