//! Requests to a control plane, and the errors for its refusals.

use std::time::Duration;

use http::{Method, StatusCode};
use oh_protocol::{Answer, Call, Operation, Repeat, Request, redact::Redactor};
use oh_transport::{Client, Network};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::{Error, ErrorKind, Result};

/// Longest reason of a control plane that is part of an error, in characters.
const LONGEST_REASON: usize = 500;

/// A client of a control plane.
#[derive(Clone)]
pub(crate) struct Plane {
    client: Client,
    /// How messages call the control plane, such as `the Runtime API`.
    name: &'static str,
    redactor: Redactor,
}

/// Where a control plane is, and how requests to it are authenticated.
pub(crate) struct Access<'a> {
    pub(crate) name: &'static str,
    pub(crate) url: &'a str,
    /// The header with the key.
    pub(crate) header: &'static str,
    /// The text before the key in the header.
    pub(crate) scheme: &'static str,
    pub(crate) key: &'a SecretString,
    /// Time limit of a request.
    pub(crate) timeout: Duration,
}

impl Plane {
    pub(crate) fn new(access: &Access<'_>, network: &Network) -> Result<Self> {
        let key = access.key.expose_secret();
        if key.trim().is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let name = access.name;
            let message = format!(
                "invalid key of {name} (hidden): must not be empty, and must consist of visible \
                 ASCII characters"
            );
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let header = format!("{}{key}", access.scheme);
        let client = Client::builder(access.url)
            .http_transport(network.clone())
            .socket_transport(network.clone())
            .header(access.header, header)
            .timeout(access.timeout)
            .build();
        let failed = |error| Error::transport(format!("cannot use {}", access.name), error);
        Ok(Self {
            client: client.map_err(failed)?,
            name: access.name,
            redactor: Redactor::new().with(access.key),
        })
    }

    /// Closes the idle connections, which may belong to a runtime that makes no progress.
    pub(crate) fn reset_connections(&self) {
        self.client.reset_connections();
    }

    /// Sends a request, and returns the JSON of the response. `doing` is what fails if it is
    /// rejected, such as `cannot pause the runtime`.
    ///
    /// A request that may be repeated is repeated after a failure of the connection, and not after
    /// a rejection.
    pub(crate) async fn ask(&self, doing: &str, ask: Ask) -> Result<Value> {
        let limit = ask.limit;
        let mut call = self.client.call(ask);
        if let Some(limit) = limit {
            call = call.timeout(limit);
        }
        let answer = call.await.map_err(|error| {
            let url = self.client.base_url();
            Error::transport(format!("{doing}: {} at {url} failed", self.name), error)
        })?;
        if !answer.status.is_success() {
            return Err(self.refused(doing, &answer));
        }
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer.body).map_err(|error| {
            let message = format!(
                "{doing}: the response is not JSON, so it is not from {}; check the URL, and \
                 whether a login page is in front of it",
                self.name
            );
            Error::new(ErrorKind::Decode, message).with_source(error)
        })
    }

    /// Returns the error for a response without a value that it must have.
    pub(crate) fn malformed(&self, doing: &str, missing: &str) -> Error {
        let message = format!(
            "{doing}: the response of {} has no valid `{missing}`; check that the URL is correct \
             and that this crate supports the service's version",
            self.name
        );
        Error::new(ErrorKind::Decode, message)
    }

    fn refused(&self, doing: &str, answer: &Answer) -> Error {
        let (status, name) = (answer.status, self.name);
        let reason = self.reason(answer);
        let context = format!("{name} returned {status}");
        let detail = reason
            .clone()
            .unwrap_or_else(|| "no reason given".to_owned());
        let delay = oh_transport::retry_after(&answer.headers);
        let source = oh_transport::Error::of_response(status, context, detail, delay);
        let advice = match status {
            StatusCode::UNAUTHORIZED => "pass a valid key of this service",
            StatusCode::PAYMENT_REQUIRED => "the account has nothing left: check its balance",
            StatusCode::FORBIDDEN => "the key does not permit this: ask the owner of the account",
            // The explanation of a control plane is JSON.
            StatusCode::NOT_FOUND if reason.is_none() => "check the URL of the service",
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                "correct the value that the service names"
            }
            status if status.is_server_error() => "try again later",
            _ => "",
        };
        let mut message = format!("{doing}: {source}");
        if !advice.is_empty() && !message.contains(advice) {
            message = format!("{message}; {advice}");
        }
        Error::transport(message, source)
    }

    /// Returns the reason that a response gives, without the key. `None` if it is not JSON.
    fn reason(&self, answer: &Answer) -> Option<String> {
        let mut body: Value = serde_json::from_slice(&answer.body).ok()?;
        self.redactor.json(&mut body);
        let fields = ["detail", "error", "message"];
        let found = fields.iter().find_map(|name| match &body[*name] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        });
        let reason = found.unwrap_or_else(|| body.to_string());
        Some(self.printable(&reason))
    }

    /// Returns a text of the control plane without the key and without control characters.
    pub(crate) fn printable(&self, text: &str) -> String {
        let text = oh_protocol::printable(&self.redactor.text(text)).into_owned();
        text.chars().take(LONGEST_REASON).collect()
    }
}

/// Returns whether a control plane itself has answered that it does not have something. A gateway,
/// or a server at a wrong URL, gives no reason.
pub(crate) fn is_missing(error: &Error) -> bool {
    let explained = |error: &oh_transport::Error| error.detail() != Some("no reason given");
    error.status() == Some(StatusCode::NOT_FOUND) && error.transport_error().is_some_and(explained)
}

/// Returns how long the control plane asks to wait before the next request.
pub(crate) fn retry_after(error: &Error) -> Option<Duration> {
    error.transport_error()?.retry_after()
}

/// A request to a control plane.
pub(crate) struct Ask {
    method: Method,
    route: &'static str,
    target: String,
    repeat: Repeat,
    body: Option<Value>,
    limit: Option<Duration>,
}

impl Ask {
    pub(crate) fn get(route: &'static str, target: impl Into<String>) -> Self {
        Self::new(Method::GET, route, target, Repeat::Idempotent)
    }

    /// Creates a request that has no further effect when it is repeated.
    pub(crate) fn change(method: Method, route: &'static str, target: impl Into<String>) -> Self {
        Self::new(method, route, target, Repeat::Idempotent)
    }

    /// Creates a request that must not be repeated.
    pub(crate) fn create(route: &'static str, target: impl Into<String>) -> Self {
        Self::new(Method::POST, route, target, Repeat::Never)
    }

    fn new(method: Method, route: &'static str, target: impl Into<String>, repeat: Repeat) -> Self {
        Self {
            method,
            route,
            target: target.into(),
            repeat,
            body: None,
            limit: None,
        }
    }

    pub(crate) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Sets a time limit. Default: that of the control plane's client.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl Call for Ask {
    type Output = Answer;

    fn operation(&self) -> Operation {
        Operation::new(self.method.clone(), self.route, self.repeat)
    }

    fn request(&self) -> oh_protocol::Result<Request> {
        let request = Request::new(self.method.clone(), self.target.clone());
        match &self.body {
            Some(body) => request.json(body),
            None => Ok(request),
        }
    }

    /// Accepts every status: a control plane explains its refusals in its own way.
    fn accepts(&self, _: StatusCode) -> bool {
        true
    }

    fn decode(&self, answer: Answer) -> oh_protocol::Result<Answer> {
        Ok(answer)
    }
}
