//! Measures the throughput of the fake server with 10,000 conversations, and with 1,000,000 events
//! for one reader. The server must be much faster than any client measured against it.
//!
//! `ours` is the server with a reader that discards all bytes. For comparison, the client crate
//! reads the same events. `bare TCP` sends the same number of bytes from a plain loop to the
//! discarding reader, which shows the speed of the loopback interface. Rounds are interleaved.
//! Wall-clock time includes the time of other processes; processor time does not. Prints one JSON
//! object per line. `--smoke` uses a thousandth of the load.

#![allow(clippy::print_stdout, reason = "the rows are what a bench is for")]

use std::{error::Error, time::Instant};

use oh_testkit::FakeServer;
use oh_transport::{Client, Message, Socket};
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

/// Measures many conversations, each with events.
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

/// Measures one long log, with a discarding reader and with our client.
async fn one(events: usize) -> Outcome {
    let server = FakeServer::builder().open().start().await?;
    let conversation = server.create();
    conversation.fill(events, BYTES).await;
    let target = format!("/sockets/session/{}?after_seq=-1", conversation.id());

    let lap = Lap::start()?;
    let mut stream = socket(&server, &target).await?;
    let bytes = drain(&mut stream).await?;
    lap.end("replay", "ours", events)?;
    let seconds = lap.begun.elapsed().as_secs_f64();
    row("replay bytes", "ours", bytes as f64 / seconds / 1e6, "MB/s");

    let lap = Lap::start()?;
    bare(bytes).await?;
    lap.end("replay", "bare TCP", events)?;
    let seconds = lap.begun.elapsed().as_secs_f64();
    row(
        "replay bytes",
        "bare TCP",
        bytes as f64 / seconds / 1e6,
        "MB/s",
    );

    let client = Client::builder(server.url()).build()?;
    let lap = Lap::start()?;
    let mut opened = client.socket(&target).await?;
    read(&mut opened, events).await?;
    lap.end("replay", "oh-transport", events)?;

    // Live events: logged while the socket is already open.
    let fresh = server.create();
    let target = format!("/sockets/session/{}", fresh.id());
    let mut stream = socket(&server, &target).await?;
    drain(&mut stream).await?;
    let lap = Lap::start()?;
    let writing = fresh.clone();
    let writer = tokio::spawn(async move {
        writing.fill(events, BYTES).await;
        writing.publish_state();
    });
    drain(&mut stream).await?;
    writer.await?;
    lap.end("live", "ours", events)?;
    drop(stream);

    let mut opened = client.socket(&target).await?;
    opened.recv().await?;
    let lap = Lap::start()?;
    let writer = tokio::spawn(async move { fresh.fill(events, BYTES).await });
    read(&mut opened, events).await?;
    writer.await?;
    lap.end("live", "oh-transport", events)
}

/// A measurement of wall-clock and processor time.
struct Lap {
    begun: Instant,
    spent: f64,
}

impl Lap {
    fn start() -> Outcome<Self> {
        Ok(Self {
            begun: Instant::now(),
            spent: spent()?,
        })
    }

    fn end(&self, work: &str, subject: &str, events: usize) -> Outcome {
        let events = events as f64;
        let clock = self.begun.elapsed().as_secs_f64();
        row(work, subject, events / clock, "events/s");
        let spent = spent()? - self.spent;
        let name = format!("{work}, processor time");
        row(&name, subject, spent / events * 1e9, "ns/event");
        Ok(())
    }
}

/// Returns the processor time of this process in seconds, including kernel time.
fn spent() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The process name may contain any character, including a parenthesis.
    let (_, fields) = stat.rsplit_once(") ").ok_or("stat has no name")?;
    let ticks: f64 = fields
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    Ok(ticks / 100.0)
}

/// Reads this many events with our client.
async fn read(socket: &mut Socket, events: usize) -> Outcome {
    let mut seen = 0;
    while seen < events {
        if let Message::Text(frame) = socket.recv().await?
            && frame.starts_with(br#"{"type":"durable""#)
        {
            seen += 1;
        }
    }
    Ok(())
}

/// Measures the loopback interface: sends this many bytes from a loop to the discarding reader.
async fn bare(bytes: usize) -> Outcome {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let writer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A large buffer, so that the bytes are not all in the cache.
        let supply = vec![b' '; 64 * 1024 * 1024];
        let mut left = bytes;
        while left > 0 {
            for chunk in supply.chunks(256 * 1024) {
                let chunk = &chunk[..chunk.len().min(left)];
                stream.write_all(chunk).await?;
                left -= chunk.len();
            }
        }
        std::io::Result::Ok(())
    });
    let mut stream = TcpStream::connect(address).await?;
    drain(&mut stream).await?;
    writer.await??;
    Ok(())
}

/// Opens a socket manually without reading from it.
async fn socket(server: &FakeServer, target: &str) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(server.address()).await?;
    let handshake = format!(
        "GET {target} HTTP/1.1\r\nHost: fake\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    stream.write_all(handshake.as_bytes()).await?;
    Ok(stream)
}

/// Discards bytes up to a snapshot or the end. Returns their number.
async fn drain(stream: &mut TcpStream) -> Outcome<usize> {
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        let count = stream.read(&mut buffer).await?;
        total += count;
        // Events end with two closing braces, and the snapshot with four.
        if count == 0 || buffer[..count].ends_with(b"}}}}") {
            return Ok(total);
        }
    }
}

/// Returns the resident memory of this process in bytes.
fn resident() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/statm")?;
    let pages = status
        .split(' ')
        .nth(1)
        .ok_or("statm has no second field")?;
    Ok(pages.parse::<f64>()? * 4096.0)
}
