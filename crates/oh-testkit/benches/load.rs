//! How much the fake server can give: 10,000 conversations, and 1,000,000 events to one reader.
//! A client that is measured against it must be the slower of the two, by far.
//!
//! `ours` is the server, read by something that only looks at bytes; beside it stands the client
//! crate, which reads the same. Prints one JSON object a line; `--smoke` does a thousandth.

#![allow(clippy::print_stdout, reason = "the rows are what a bench is for")]

use std::{error::Error, time::Instant};

use oh_testkit::FakeServer;
use oh_transport::{Client, Message};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const BYTES: usize = 600;

fn main() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let scale = if std::env::args().any(|argument| argument == "--smoke") {
        1000
    } else {
        1
    };
    runtime.block_on(many(10_000 / scale, 100))?;
    for _ in 0..3 {
        runtime.block_on(one(1_000_000 / scale))?;
    }
    Ok(())
}

fn row(work: &str, subject: &str, value: f64, unit: &str) {
    let row = json!({"work": work, "subject": subject, "value": value, "unit": unit});
    println!("{row}");
}

/// Holds many conversations, each with events and a socket's worth of history to give.
async fn many(conversations: usize, events: usize) -> Outcome {
    let server = FakeServer::start().await?;
    let before = resident()?;
    let start = Instant::now();
    for _ in 0..conversations {
        server.create().fill(events, BYTES).await;
    }
    let total = (conversations * events) as f64;
    row(
        "hold",
        "ours",
        total / start.elapsed().as_secs_f64(),
        "events/s",
    );
    row(
        "hold memory",
        "ours",
        (resident()? - before) / total,
        "bytes/event",
    );
    let first = server.conversations()[0].events();
    let payload: usize = first.iter().map(|event| event.raw().len()).sum();
    row(
        "hold memory",
        "their JSON",
        payload as f64 / events as f64,
        "bytes/event",
    );
    let client = Client::builder(server.url())
        .session_api_key(server.session_api_key())
        .build()?;
    let start = Instant::now();
    for conversation in server.conversations() {
        let info = oh_protocol::calls::conversations::Get::new(conversation.id());
        client.call(&info).await?;
    }
    let rate = conversations as f64 / start.elapsed().as_secs_f64();
    row("get conversation", "ours", rate, "requests/s");
    Ok(())
}

/// Gives one long log, to a reader that only counts bytes and to our client.
async fn one(events: usize) -> Outcome {
    let server = FakeServer::builder().open().start().await?;
    let conversation = server.create();
    conversation.fill(events, BYTES).await;
    let target = format!("/sockets/session/{}?after_seq=-1", conversation.id());

    let start = Instant::now();
    let bytes = drain(&server, &target).await?;
    let seconds = start.elapsed().as_secs_f64();
    row("replay", "ours", events as f64 / seconds, "events/s");
    row("replay bytes", "ours", bytes as f64 / seconds / 1e6, "MB/s");

    let client = Client::builder(server.url()).build()?;
    let start = Instant::now();
    let mut socket = client.socket(&target).await?;
    let mut seen = 0;
    while seen < events {
        if let Message::Text(frame) = socket.recv().await?
            && frame.starts_with(br#"{"type":"durable""#)
        {
            seen += 1;
        }
    }
    row(
        "replay",
        "oh-transport",
        events as f64 / start.elapsed().as_secs_f64(),
        "events/s",
    );

    // Live: what is logged reaches a socket that was open before.
    let fresh = server.create();
    let mut socket = client
        .socket(&format!("/sockets/session/{}", fresh.id()))
        .await?;
    socket.recv().await?;
    let start = Instant::now();
    let writing = fresh.clone();
    let writer = tokio::spawn(async move { writing.fill(events, BYTES).await });
    let mut seen = 0;
    while seen < events {
        if let Message::Text(frame) = socket.recv().await?
            && frame.starts_with(br#"{"type":"durable""#)
        {
            seen += 1;
        }
    }
    writer.await?;
    row(
        "live",
        "oh-transport",
        events as f64 / start.elapsed().as_secs_f64(),
        "events/s",
    );
    Ok(())
}

/// Reads a replay as bytes, up to the snapshot that ends it; answers how many came.
async fn drain(server: &FakeServer, target: &str) -> Outcome<usize> {
    let mut stream = TcpStream::connect(server.address()).await?;
    let handshake = format!(
        "GET {target} HTTP/1.1\r\nHost: fake\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    stream.write_all(handshake.as_bytes()).await?;
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        let count = stream.read(&mut buffer).await?;
        total += count;
        // An event ends two levels deep, the snapshot four.
        if count == 0 || buffer[..count].ends_with(b"}}}}") {
            return Ok(total);
        }
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/statm")?;
    let pages = status
        .split(' ')
        .nth(1)
        .ok_or("statm has no second field")?;
    Ok(pages.parse::<f64>()? * 4096.0)
}
