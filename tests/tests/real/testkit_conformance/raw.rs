//! Raw bytes on a connection, to test what a regular client hides: headers, invalid first frames,
//! ends of connections.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(30);

/// A response as received.
pub(crate) struct Raw {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Raw {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that is kept open.
pub(crate) struct Line(TcpStream);

impl Line {
    pub(crate) async fn open(url: &str) -> Self {
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        Self(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) async fn ask(&mut self, method: &str, target: &str, head: &str, body: &[u8]) -> Raw {
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: server\r\n{head}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all(request.as_bytes()).await.unwrap();
        self.0.write_all(body).await.unwrap();
        let mut read = Vec::new();
        let end = loop {
            if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            read.push(timeout(LIMIT, self.0.read_u8()).await.unwrap().unwrap());
        };
        let text = String::from_utf8_lossy(&read[..end]).into_owned();
        let mut lines = text.lines();
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let mut raw = Raw {
            status,
            headers,
            body: Vec::new(),
        };
        if let Some(length) = raw.header("content-length").filter(|_| status != 101) {
            raw.body = vec![0; length.parse().unwrap()];
            let whole = timeout(LIMIT, self.0.read_exact(&mut raw.body)).await;
            whole.unwrap().unwrap();
        }
        raw
    }

    /// Returns whether the server closes the connection within this time.
    pub(crate) async fn ends_within(&mut self, limit: Duration) -> bool {
        let mut byte = [0];
        timeout(limit, self.0.read(&mut byte)).await.is_ok()
    }
}

/// Sends one request on a new connection.
pub(crate) async fn ask(url: &str, method: &str, target: &str, head: &str, body: &[u8]) -> Raw {
    Line::open(url).await.ask(method, target, head, body).await
}

/// A WebSocket without the rules of a regular client.
pub(crate) struct Frames(TcpStream);

impl Frames {
    /// Opens a socket, or returns the status of the rejection.
    pub(crate) async fn open(url: &str, target: &str, head: &str) -> Result<Self, u16> {
        let mut line = Line::open(url).await;
        let head = format!(
            "{head}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        );
        match line.ask("GET", target, &head, b"").await.status {
            101 => Ok(Self(line.0)),
            status => Err(status),
        }
    }

    /// Sends a frame with a zero mask, so that its payload is unchanged.
    pub(crate) async fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length @ 126..65536 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        // A server may close before the whole frame is sent.
        let _ = self.0.write_all(&frame).await;
    }

    /// Returns the opcode and payload of the next frame, or `None` if the connection ends without
    /// one.
    pub(crate) async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(LIMIT, self.read())
            .await
            .expect("a frame in time")
            .ok()
    }

    async fn read(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let opcode = self.0.read_u8().await? & 0xf;
        let length = match self.0.read_u8().await? & 0x7f {
            126 => u64::from(self.0.read_u16().await?),
            127 => self.0.read_u64().await?,
            short => u64::from(short),
        };
        let mut payload = vec![0; length.try_into().unwrap()];
        self.0.read_exact(&mut payload).await?;
        Ok((opcode, payload))
    }

    /// Returns how the connection ends: the close code and reason, or that there was none.
    pub(crate) async fn end(&mut self) -> String {
        loop {
            match self.next().await {
                None => return "no goodbye".to_owned(),
                Some((8, payload)) => {
                    let code = payload
                        .get(..2)
                        .map(|two| u16::from_be_bytes([two[0], two[1]]));
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                    return format!("{code:?} {reason:?}");
                }
                Some(_) => {}
            }
        }
    }
}
