//! Benchmarks of requests and frames: this crate against plain hyper and plain fastwebsockets on
//! the same bytes.
//!
//! A server with fixed responses runs on its own thread. The subjects take turns in several rounds,
//! on one thread, whose processor time is measured too (on Linux). Prints one JSON object per line.
//! `--smoke` runs a hundredth of the work.

#![allow(
    clippy::print_stdout,
    missing_docs,
    reason = "the rows are what a bench is for"
)]

use std::{error::Error, net::SocketAddr, time::Instant};

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use oh_protocol::calls::server::GetServerInfo;
use oh_transport::{Client, Message};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const ROUNDS: usize = 5;
const INFO: &str = r#"{"version":"1.58.2","uptime":12.5,"idle_time":0.1,"sdk_version":"1.58.2","usable_tools":["terminal","file_editor"],"capabilities":["idempotent_conversation_create_v1"]}"#;
/// The usual length of an event.
const FRAME: usize = 600;
const LONG_FRAME: usize = 256 * 1024;

fn main() -> Outcome {
    let scale = if std::env::args().any(|argument| argument == "--smoke") {
        100
    } else {
        1
    };
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || serve(&sender));
    let address = receiver.recv()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = Client::builder(format!("http://{address}"))
            .session_api_key("bench")
            .ignore_environment()
            .build()?;
        for _ in 0..ROUNDS {
            requests(&client, address, 8_000 / scale, 1).await?;
            requests(&client, address, 20_000 / scale, 8).await?;
            frames(&client, address, "frames", 300_000 / scale, FRAME).await?;
            frames(&client, address, "long frames", 4_000 / scale, LONG_FRAME).await?;
        }
        Ok(())
    })
}

fn row(work: &str, subject: &str, value: f64, unit: &str) {
    println!(
        "{}",
        json!({"work": work, "subject": subject, "value": value, "unit": unit})
    );
}

/// Start of a measurement.
struct Start {
    at: Instant,
    processor: Option<f64>,
}

impl Start {
    fn now() -> Self {
        Self {
            at: Instant::now(),
            processor: processor(),
        }
    }

    /// Prints the rate of `count` things, and the processor time for each.
    fn rows(&self, work: &str, subject: &str, count: usize, thing: &str) {
        let rate = count as f64 / self.at.elapsed().as_secs_f64();
        row(work, subject, rate, &format!("{thing}s/s"));
        if let (Some(before), Some(now)) = (self.processor, processor()) {
            let work = format!("{work}, processor time");
            let each = (now - before) / count as f64;
            row(&work, subject, each, &format!("ns/{thing}"));
        }
    }
}

/// Returns the processor time of this thread in nanoseconds, or `None` on systems that do not
/// report it.
fn processor() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}

/// Sends the same small request repeatedly, on `at_once` connections at once.
async fn requests(client: &Client, address: SocketAddr, count: usize, at_once: usize) -> Outcome {
    let work = if at_once == 1 {
        "requests"
    } else {
        "requests, 8 at once"
    };
    let start = Start::now();
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        tasks.spawn(bare_requests(address, count / at_once));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    start.rows(work, "bare hyper", count, "request");

    let start = Start::now();
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        let client = client.clone();
        tasks.spawn(async move {
            for _ in 0..count / at_once {
                client.call(&GetServerInfo::default()).await?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    start.rows(work, "ours", count, "request");
    Ok(())
}

/// Sends the requests with hyper on one connection, without a pool, retries, time limits or typed
/// responses. The responses are decoded as JSON to make the work comparable.
async fn bare_requests(address: SocketAddr, count: usize) -> Outcome {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    for _ in 0..count {
        let request = Request::builder()
            .method(Method::GET)
            .uri("/server_info")
            .header("host", "server")
            .header("x-session-api-key", "bench")
            .body(Empty::<Bytes>::new())?;
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        let body = answer.into_body().collect().await?.to_bytes();
        let info: oh_protocol::calls::server::ServerInfo = serde_json::from_slice(&body)?;
        assert_eq!(info.version, "1.58.2");
    }
    drop(sender);
    connection.await??;
    Ok(())
}

/// Receives frames as fast as possible.
async fn frames(
    client: &Client,
    address: SocketAddr,
    work: &str,
    count: usize,
    bytes: usize,
) -> Outcome {
    let target = format!("/frames/{count}/{bytes}");

    let stream = upgraded(address, &target).await?;
    let start = Start::now();
    let mut socket = WebSocket::after_handshake(stream, Role::Client);
    socket
        .write_frame(Frame::text(Payload::Borrowed(b"{}")))
        .await?;
    let mut seen = 0;
    while seen < count {
        let frame = socket.read_frame().await?;
        if frame.opcode == OpCode::Text && frame.payload.len() == bytes {
            seen += 1;
        }
    }
    start.rows(work, "bare fastwebsockets", count, "frame");

    let start = Start::now();
    let mut socket = client.socket(&target).await?;
    let mut seen = 0;
    while seen < count {
        if let Message::Text(text) = socket.recv().await?
            && text.len() == bytes
        {
            seen += 1;
        }
    }
    start.rows(work, "ours", count, "frame");
    Ok(())
}

async fn upgraded(address: SocketAddr, target: &str) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let head = format!(
        "GET {target} HTTP/1.1\r\nHost: server\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    read_head(&mut stream, &mut Vec::new()).await?;
    Ok(stream)
}

/// Runs the server: the same response to every request, and a fixed number of frames after every
/// upgrade.
fn serve(sender: &std::sync::mpsc::Sender<SocketAddr>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        sender.send(listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A client hangs up when it has received enough.
            tokio::spawn(async move { answer(stream).await.is_ok() });
        }
    })
}

async fn answer(mut stream: TcpStream) -> Outcome {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{INFO}",
        INFO.len()
    );
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let head = read_head(&mut stream, &mut buffer).await?;
        let Some(target) = head.strip_prefix("GET /frames/") else {
            stream.write_all(answer.as_bytes()).await?;
            continue;
        };
        let (count, rest) = target.split_once('/').ok_or("no count")?;
        let bytes = rest.split(' ').next().ok_or("no length")?;
        let (count, bytes): (usize, usize) = (count.parse()?, bytes.parse()?);
        upgrade(&mut stream, &head).await?;
        let mut batch = Vec::new();
        let in_batch = (256 * 1024 / bytes).clamp(1, count);
        for _ in 0..in_batch {
            batch.push(0x81);
            match u16::try_from(bytes) {
                Ok(length) => {
                    batch.push(126);
                    batch.extend(length.to_be_bytes());
                }
                Err(_) => {
                    batch.push(127);
                    batch.extend((bytes as u64).to_be_bytes());
                }
            }
            batch.resize(batch.len() + bytes, b'x');
        }
        // Wait for the client's first message; from then on the client reads.
        stream.read_buf(&mut buffer).await?;
        for _ in 0..count.div_ceil(in_batch) {
            stream.write_all(&batch).await?;
        }
        // Ignore all further messages of the client.
        while stream.read_buf(&mut buffer).await? > 0 {
            buffer.clear();
        }
        return Ok(());
    }
}

async fn upgrade(stream: &mut TcpStream, head: &str) -> Outcome {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use sha1::{Digest as _, Sha1};
    let key = head
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .ok_or("no key")?;
    let accept = STANDARD.encode(Sha1::digest(format!(
        "{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    )));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(())
}

/// Reads one head. Clients do not send ahead here, so nothing follows the head.
async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Outcome<String> {
    buffer.clear();
    while !buffer.ends_with(b"\r\n\r\n") {
        if stream.read_buf(buffer).await? == 0 {
            return Err("hung up".into());
        }
    }
    Ok(String::from_utf8(std::mem::take(buffer))?)
}
