//! The floor: a socket whose frames are read and dropped. Parses frames, but not their content.

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::Outcome;

/// Opens a socket at the path `target` of `address` (`127.0.0.1:PORT`), with `key` if it is set.
///
/// # Errors
///
/// Returns an error if the server does not upgrade the connection.
pub async fn upgraded(address: &str, target: &str, key: Option<&str>) -> Outcome<Frames> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(2048, stream);
    let key = key.map_or_else(String::new, |key| format!("X-Session-API-Key: {key}\r\n"));
    let head = format!(
        "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\n{key}Sec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    if !line.starts_with("HTTP/1.1 101") {
        return Err(format!("no socket at {target}: {line}").into());
    }
    while line != "\r\n" {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err("hung up".into());
        }
    }
    let payload = Vec::new();
    Ok(Frames { stream, payload })
}

/// An open socket.
#[derive(Debug)]
pub struct Frames {
    stream: BufReader<TcpStream>,
    payload: Vec<u8>,
}

impl Frames {
    /// Reads the next data frame, and answers the pings before it. The next call overwrites the
    /// frame.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection ends.
    pub async fn next(&mut self) -> Outcome<&[u8]> {
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head).await?;
            let length = match head[1] {
                126 => usize::from(self.stream.read_u16().await?),
                127 => usize::try_from(self.stream.read_u64().await?)?,
                length => usize::from(length),
            };
            self.payload.resize(length, 0);
            self.stream.read_exact(&mut self.payload).await?;
            match head[0] & 0x0F {
                8 => return Err("the server closed the socket".into()),
                9 => {
                    // A pong: at most 125 bytes, masked with zeros.
                    let length = u8::try_from(length)?;
                    let head = [0x8A, 0x80 | length, 0, 0, 0, 0];
                    let pong = [&head, &self.payload[..]].concat();
                    self.stream.write_all(&pong).await?;
                }
                10 => {}
                _ => return Ok(&self.payload),
            }
        }
    }
}
