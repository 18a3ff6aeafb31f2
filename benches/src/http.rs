//! The floor of requests: a connection, a request, a response.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::Outcome;

/// A server at `127.0.0.1:PORT`.
#[derive(Debug, Clone)]
pub struct Http {
    address: String,
    headers: String,
}

impl Http {
    /// Creates a client that sends this header line, if any (`X-Session-API-Key: …`).
    pub fn new(address: &str, header: Option<&str>) -> Self {
        Self {
            address: address.to_owned(),
            headers: header.map_or_else(String::new, |header| format!("{header}\r\n")),
        }
    }

    /// Sends a request and decodes the response's JSON; `null` if the body is empty.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no response, or its status is not 2xx.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Outcome<Value> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let body = body.map_or_else(String::new, Value::to_string);
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            self.headers,
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8(answer)?;
        if !answer.starts_with("HTTP/1.1 2") {
            return Err(format!("{method} {path}: {answer:.300}").into());
        }
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok(serde_json::from_str(body).unwrap_or(Value::Null))
    }
}
