//! Requests whose responses are recorded.

use openhands::{LocalServer, protocol::Request, transport::Body};
use serde_json::{Value, json};

use crate::sockets::Outcome;

/// A server that answers requests, and its responses so far.
pub(crate) struct Played<'a> {
    server: &'a LocalServer,
    lines: Vec<String>,
}

impl<'a> Played<'a> {
    pub(crate) fn on(server: &'a LocalServer) -> Self {
        Self {
            server,
            lines: Vec::new(),
        }
    }

    /// Returns the responses, one JSON object each.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines
    }

    pub(crate) async fn get(&mut self, target: &str) -> Outcome<Value> {
        self.send("GET", target, "", Value::Null).await
    }

    /// Sends a request, and keeps the response. `value` replaces the part of the route in braces.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        route: &str,
        value: &str,
        body: Value,
    ) -> Outcome<Value> {
        let target = match route.split_once('{') {
            Some((before, rest)) => {
                let rest = rest.split_once('}').map_or("", |(_, rest)| rest);
                format!("{before}{}{rest}", value.replace(' ', "%20"))
            }
            None => route.to_owned(),
        };
        let mut request = Request::new(method.parse()?, target);
        let mut sent = Body::empty();
        if !body.is_null() {
            request = request.json(&body)?;
            sent = Body::from(request.body.take().unwrap_or_default());
            let json = http::HeaderValue::from_static("application/json");
            request.headers.insert(http::header::CONTENT_TYPE, json);
        }
        let answer = self.server.client().stream(request, sent).await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect(1 << 24).await?;
        let body: Value = serde_json::from_slice(&body)?;
        let route = route.split('?').next().unwrap_or(route);
        let line =
            json!({"operation": format!("{method} {route}"), "status": status, "body": body});
        self.lines.push(line.to_string());
        Ok(body)
    }
}
