//! A parser for HTTP/1.1 and WebSockets in a proxy. Splits a connection into requests, responses
//! and frames, so that a [`Fault`](crate::Fault) can apply to one of them.

use std::{io, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{
    fake::{frame_head, text_frame},
    fault::{AnswerFault, Asked, EventFault, Faults, oversized, refused_upgrade},
    seen::{MAX_BODY, Requests, Seen},
};

/// The maximum size of a message head. A larger one is not HTTP.
const MAX_HEAD: usize = 256 * 1024;
const CLOSE: u8 = 0x8;
/// How long to wait for the client's close frame.
const GRACE: Duration = Duration::from_secs(5);

/// State shared by all connections of a proxy: faults and the request log.
pub(crate) struct Traffic {
    pub(crate) faults: Faults,
    pub(crate) seen: Requests,
}

impl Traffic {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            faults: Faults::new(seed),
            seen: Requests::default(),
        }
    }
}

/// Whether another request may follow on the connection.
#[derive(PartialEq)]
enum Then {
    Next,
    End,
}

/// A side of a connection, with its unprocessed input.
struct End<S> {
    stream: S,
    read: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> End<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            read: BytesMut::new(),
        }
    }

    /// Reads some more input.
    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Bytes> {
        while self.read.len() < length {
            self.more().await?;
        }
        Ok(self.read.split_to(length).freeze())
    }

    /// Reads up to and including a terminator of a head or a chunk line.
    async fn through(&mut self, end: &[u8]) -> io::Result<Bytes> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.read, end) {
                return Ok(self.read.split_to(at + end.len()).freeze());
            }
            if self.read.len() > MAX_HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.more().await?;
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }
}

/// The head of a request or a response.
struct Head {
    raw: Bytes,
}

impl Head {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// Returns the words of the first line.
    fn words(&self) -> Vec<String> {
        let text = self.text();
        let line = text.lines().next().unwrap_or_default();
        line.split(' ').map(str::to_owned).collect()
    }

    fn field(&self, name: &str) -> Option<String> {
        self.text().lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            let same = found.trim().eq_ignore_ascii_case(name);
            same.then(|| value.trim().to_ascii_lowercase())
        })
    }

    /// Returns the head without a field.
    fn without(&self, name: &str) -> Vec<u8> {
        let mut text = String::new();
        for line in self.text().split_inclusive("\r\n") {
            let field = line.split(':').next().unwrap_or_default();
            if !field.eq_ignore_ascii_case(name) {
                text.push_str(line);
            }
        }
        text.into_bytes()
    }
}

/// How the end of a body is determined.
enum Body {
    None,
    Length(u64),
    Chunks,
    /// The end of the connection ends the body.
    Open,
}

impl Body {
    fn of(head: &Head, otherwise: Self) -> Self {
        if head
            .field("transfer-encoding")
            .is_some_and(|coding| coding.contains("chunked"))
        {
            return Self::Chunks;
        }
        match head.field("content-length").map(|length| length.parse()) {
            Some(Ok(length)) => Self::Length(length),
            _ => otherwise,
        }
    }
}

/// Forwards a body, or discards it if `to` is `None`.
async fn pass<A, B>(body: Body, from: &mut End<A>, to: Option<&mut End<B>>) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    pass_and_keep(body, from, to, None).await
}

/// Forwards a body as [`pass`] does, and appends the bytes of a body of known length to `kept`.
async fn pass_and_keep<A, B>(
    body: Body,
    from: &mut End<A>,
    mut to: Option<&mut End<B>>,
    mut kept: Option<&mut Vec<u8>>,
) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut left = match body {
        Body::None => return Ok(()),
        Body::Length(length) => length,
        Body::Open => u64::MAX,
        Body::Chunks => {
            loop {
                let line = from.through(b"\r\n").await?;
                let size = String::from_utf8_lossy(&line);
                let size = size.split([';', '\r']).next().unwrap_or_default().trim();
                let size = usize::from_str_radix(size, 16)
                    .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                if let Some(to) = &mut to {
                    to.write(&line).await?;
                }
                let rest = match size {
                    // Trailers end like a head, and are usually empty.
                    0 => loop {
                        let line = from.through(b"\r\n").await?;
                        if line.len() == 2 {
                            break line;
                        }
                        if let Some(to) = &mut to {
                            to.write(&line).await?;
                        }
                    },
                    size => from.exactly(size.saturating_add(2)).await?,
                };
                if let Some(to) = &mut to {
                    to.write(&rest).await?;
                }
                if size == 0 {
                    return Ok(());
                }
            }
        }
    };
    while left > 0 {
        if from.read.is_empty() {
            from.more().await?;
        }
        let count = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(from.read.len());
        if let Some(to) = &mut to {
            to.write(&from.read[..count]).await?;
        }
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&from.read[..count]);
        }
        from.read.advance(count);
        left -= count as u64;
    }
    Ok(())
}

/// Forwards requests and responses, with the active faults, until one side ends.
pub(crate) async fn converse<A, B>(client: A, server: B, traffic: &Traffic)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut client, mut server) = (End::new(client), End::new(server));
    // An error on one side ends both.
    while let Ok(Then::Next) = exchange(&mut client, &mut server, traffic).await {}
}

/// Forwards one request and its response.
async fn exchange<A, B>(
    client: &mut End<A>,
    server: &mut End<B>,
    traffic: &Traffic,
) -> io::Result<Then>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let faults = &traffic.faults;
    // If the server closes an idle connection, it has to be closed here too.
    let head = tokio::select! {
        head = client.through(b"\r\n\r\n") => head?,
        ended = server.more() => {
            ended?;
            return Ok(Then::End);
        }
    };
    let head = Head { raw: head };
    let words = head.words();
    let target = words.get(1).map(String::as_str).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let method = words.first().map(String::as_str).unwrap_or_default();
    let query = target.split_once('?').map(|(_, query)| query);
    let seen = Seen::new(method.parse().unwrap_or_default(), &path, query);
    let unanswered = traffic.seen.add(seen);
    let upgrade = head.field("upgrade");
    let asked = Asked {
        method: Some(method),
        path: &path,
        upgrade: upgrade.is_some_and(|to| to == "websocket"),
    };
    let (mut lost, mut wrong, mut held) = (false, false, Vec::new());
    let mut replaced = None;
    for hit in faults.of_request(asked) {
        match hit.what {
            AnswerFault::Status {
                status,
                retry_after,
                html,
            } => {
                pass::<A, B>(Body::of(&head, Body::None), client, None).await?;
                client
                    .write(refusal(status, retry_after, html).as_bytes())
                    .await?;
                unanswered.answered(status);
                return Ok(Then::Next);
            }
            AnswerFault::Upgrade(how) => {
                let Some((status, page)) = refused_upgrade(how) else {
                    return Ok(Then::End);
                };
                client.write(no_upgrade(status, page).as_bytes()).await?;
                unanswered.answered(status.as_u16());
                return Ok(Then::End);
            }
            AnswerFault::Hang => faults.until_lifted(&hit).await,
            AnswerFault::Hold => held.push(hit),
            AnswerFault::WrongLength => wrong = true,
            AnswerFault::Lost => lost = true,
            AnswerFault::Replaced(status) => replaced = Some(status),
            AnswerFault::Delay(by) => tokio::time::sleep(by).await,
        }
    }
    // Compressed frames depend on earlier frames, which a fault may drop.
    server
        .write(&head.without("sec-websocket-extensions"))
        .await?;
    let body = Body::of(&head, Body::None);
    let mut kept = Vec::new();
    let keep = matches!(body, Body::Length(length) if length <= MAX_BODY as u64);
    pass_and_keep(body, client, Some(server), keep.then_some(&mut kept)).await?;
    unanswered.body(kept.into());
    let answer = loop {
        let answer = tokio::select! {
            answer = server.through(b"\r\n\r\n") => Head { raw: answer? },
            // Do not wait for a client that has left. Input that arrives early is kept.
            gone = client.more() => {
                gone?;
                continue;
            }
        };
        let status = answer.words().get(1).cloned().unwrap_or_default();
        for hit in held.drain(..) {
            faults.until_lifted(&hit).await;
        }
        unanswered.answered(status.parse().unwrap_or_default());
        if lost {
            return Ok(Then::End);
        }
        if wrong {
            let short = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                         content-length: 1000\r\n\r\n{";
            client.write(short.as_bytes()).await?;
            return Ok(Then::End);
        }
        if let Some(replaced) = replaced {
            match status.as_str() {
                "101" => {
                    client
                        .write(refusal(replaced, None, true).as_bytes())
                        .await?;
                    return Ok(Then::End);
                }
                status if status.starts_with('1') => continue,
                _ => break answer,
            }
        }
        client.write(&answer.raw).await?;
        match status.as_str() {
            "101" => return frames(client, server, &path, faults).await,
            "204" | "304" => return Ok(Then::Next),
            // Several informational responses may precede the final one.
            status if status.starts_with('1') => {}
            _ => break answer,
        }
    };
    let status = answer.words().get(1).cloned().unwrap_or_default();
    let body = match (method, status.as_str()) {
        ("HEAD", _) | (_, "204" | "304") => Body::None,
        _ => Body::of(&answer, Body::Open),
    };
    if let Some(replaced) = replaced {
        pass::<B, A>(body, server, None).await?;
        client
            .write(refusal(replaced, None, true).as_bytes())
            .await?;
        return Ok(Then::Next);
    }
    pass(body, server, Some(client)).await?;
    Ok(Then::Next)
}

/// Forwards a WebSocket: bytes from the client as they arrive, and frames from the server one by
/// one.
async fn frames<A, B>(
    client: &mut End<A>,
    server: &mut End<B>,
    path: &str,
    faults: &Faults,
) -> io::Result<Then>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut passed = 0;
    let mut late: Option<Bytes> = None;
    loop {
        if !client.read.is_empty() {
            let said = client.read.split();
            server.write(&said).await?;
        }
        let Some(length) = frame(&server.read) else {
            tokio::select! {
                said = client.more() => said?,
                more = server.more() => more?,
            }
            continue;
        };
        let frame = server.read.split_to(length).freeze();
        if !is_event(&frame) {
            client.write(&frame).await?;
            continue;
        }
        let hits = faults.of_event(path, passed);
        passed += 1;
        let (mut times, mut swap) = (1, false);
        for fault in hits {
            match fault {
                EventFault::Cut => return Ok(Then::End),
                EventFault::Tear => {
                    client.write(&frame[..frame.len() / 2]).await?;
                    return Ok(Then::End);
                }
                // Both ends stay open.
                EventFault::Stall => std::future::pending::<()>().await,
                EventFault::Close(code, reason) => {
                    let mut goodbye = BytesMut::new();
                    frame_head(&mut goodbye, CLOSE, 2 + reason.len());
                    goodbye.extend_from_slice(&code.to_be_bytes());
                    goodbye.extend_from_slice(reason.as_bytes());
                    client.write(&goodbye).await?;
                    // Waits for the client's close frame, because the end of the connection could
                    // overtake ours.
                    let left = async { while client.more().await.is_ok() {} };
                    let _ = tokio::time::timeout(GRACE, left).await;
                    return Ok(Then::End);
                }
                EventFault::Twice => times += 1,
                EventFault::Leave => times = 0,
                EventFault::Swap => swap = true,
                EventFault::Pause(pause) => tokio::time::sleep(pause).await,
                EventFault::Oversized(bytes) => {
                    client.write(&text_frame(&oversized(bytes))).await?;
                }
            }
        }
        if swap && late.is_none() {
            late = Some(frame);
            continue;
        }
        for _ in 0..times {
            client.write(&frame).await?;
        }
        if let Some(late) = late.take() {
            client.write(&late).await?;
        }
    }
}

/// Returns the length of the first frame if it is complete.
fn frame(read: &[u8]) -> Option<usize> {
    let short = usize::from(*read.get(1)? & 0x7f);
    let (head, length): (usize, _) = match short {
        126 => {
            let bytes = read.get(2..4)?.try_into().ok()?;
            (4, usize::from(u16::from_be_bytes(bytes)))
        }
        127 => {
            let bytes = read.get(2..10)?.try_into().ok()?;
            (10, usize::try_from(u64::from_be_bytes(bytes)).ok()?)
        }
        short => (2, short),
    };
    let whole = head.checked_add(length)?;
    (read.len() >= whole).then_some(whole)
}

/// Returns whether a frame contains an event: a complete text message without a `type` or with the
/// `type` `durable`.
fn is_event(frame: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Envelope {
        #[serde(rename = "type")]
        kind: Option<String>,
    }
    let head = match frame.get(1).map(|byte| byte & 0x7f) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    // A final text frame that is not a continuation.
    if frame.first() != Some(&0x81) {
        return false;
    }
    let payload = frame.get(head..).unwrap_or_default();
    serde_json::from_slice::<Envelope>(payload)
        .is_ok_and(|envelope| envelope.kind.is_none_or(|kind| kind == "durable"))
}

/// Formats the response of a refused upgrade.
fn no_upgrade(status: StatusCode, page: &str) -> String {
    let rest = match status {
        StatusCode::SWITCHING_PROTOCOLS => {
            "upgrade: websocket\r\nconnection: Upgrade\r\n\r\n".to_owned()
        }
        _ if page.is_empty() => "content-length: 0\r\n\r\n".to_owned(),
        _ => {
            let length = page.len();
            format!("content-type: text/html\r\ncontent-length: {length}\r\n\r\n{page}")
        }
    };
    let reason = status.canonical_reason().unwrap_or("Error");
    format!("HTTP/1.1 {} {reason}\r\n{rest}", status.as_u16())
}

/// Formats an error response that does not come from the real server.
fn refusal(status: u16, retry_after: Option<u64>, html: bool) -> String {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let reason = status.canonical_reason().unwrap_or("Error");
    let (kind, body) = match html {
        true => (
            "text/html",
            format!("<html><head><title>{status}</title></head><body>{reason}</body></html>"),
        ),
        false => ("application/json", format!(r#"{{"detail":"{reason}"}}"#)),
    };
    let wait = match retry_after {
        Some(seconds) => format!("retry-after: {seconds}\r\n"),
        None => String::new(),
    };
    format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: {kind}\r\n{wait}content-length: {}\r\n\r\n{body}",
        status.as_u16(),
        body.len()
    )
}

#[cfg(test)]
mod tests;
