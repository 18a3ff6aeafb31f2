//! Requests to a control plane, and the errors for its refusals.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode, header::CONTENT_TYPE};
use oh_protocol::{Answer, Call, Operation, Repeat, Request, redact::Redactor};
use oh_transport::{Client, Network};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tracing::debug;

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
    /// How long a request that may be repeated waits altogether because of `Retry-After`.
    patience: Duration,
}

/// Where a control plane is, and how requests to it are authenticated.
pub(crate) struct Access<'a> {
    pub(crate) name: &'static str,
    pub(crate) url: &'a str,
    /// The header with the key.
    pub(crate) header: &'static str,
    /// The text before the key in the header.
    pub(crate) scheme: &'static str,
    /// `None` for requests that need no key, such as those of a login.
    pub(crate) key: Option<&'a SecretString>,
    /// Further headers of each request.
    pub(crate) headers: &'a [(&'static str, String)],
    /// Time limit of a request.
    pub(crate) timeout: Duration,
    /// How long a request that may be repeated waits altogether because of `Retry-After`.
    pub(crate) patience: Duration,
}

impl Plane {
    pub(crate) fn new(access: &Access<'_>, network: &Network) -> Result<Self> {
        let mut builder = Client::builder(access.url)
            .http_transport(network.clone())
            .socket_transport(network.clone())
            .timeout(access.timeout);
        let mut redactor = Redactor::new();
        if let Some(key) = access.key {
            redactor = redactor.with(key);
            let key = visible(access.name, key)?;
            builder = builder.header(access.header, format!("{}{key}", access.scheme));
        }
        for (name, value) in access.headers {
            builder = builder.header(*name, value.clone());
        }
        let failed = |error| Error::transport(format!("cannot use {}", access.name), error);
        Ok(Self {
            client: builder.build().map_err(failed)?,
            name: access.name,
            redactor,
            patience: access.patience,
        })
    }

    /// Returns how messages call the control plane.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the base URL, without a slash at its end.
    pub(crate) fn base_url(&self) -> &str {
        self.client.base_url().as_str().trim_end_matches('/')
    }

    /// Closes the idle connections, which may belong to a runtime that makes no progress.
    pub(crate) fn reset_connections(&self) {
        self.client.reset_connections();
    }

    /// Sends a request, and returns the JSON of the response. `doing` is what fails if it is
    /// rejected, such as `cannot pause the runtime`.
    ///
    /// A request that may be repeated is repeated after a failure of the connection. After a status
    /// of 429 with `Retry-After`, it is repeated when that time is over, unless that takes longer
    /// than the patience of this client.
    pub(crate) async fn ask(&self, doing: &str, ask: Ask) -> Result<Value> {
        let begun = Instant::now();
        loop {
            let error = match self.ask_once(doing, &ask).await {
                Err(error) if ask.repeat != Repeat::Never => error,
                asked => return asked,
            };
            let delay = match error.status() {
                Some(StatusCode::TOO_MANY_REQUESTS) => retry_after(&error),
                _ => None,
            };
            match delay {
                Some(delay) if begun.elapsed() + delay < self.patience => {
                    debug!(%error, "waiting before the request is sent again");
                    sleep(delay).await;
                }
                _ => return Err(error),
            }
        }
    }

    async fn ask_once(&self, doing: &str, ask: &Ask) -> Result<Value> {
        let answer = self.exchange(doing, ask).await?;
        if !answer.status.is_success() {
            return Err(self.refused(doing, ask, &answer));
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

    /// Sends a request, and returns the response with any status.
    pub(crate) async fn exchange(&self, doing: &str, ask: &Ask) -> Result<Answer> {
        let mut call = self.client.call(ask.clone());
        if let Some(limit) = ask.limit {
            call = call.timeout(limit);
        }
        call.await.map_err(|error| {
            let url = self.client.base_url();
            Error::transport(format!("{doing}: {} at {url} failed", self.name), error)
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

    /// Returns the error for a response with a status that is not a success.
    pub(crate) fn refused(&self, doing: &str, ask: &Ask, answer: &Answer) -> Error {
        let (status, name) = (answer.status, self.name);
        let reason = self.reason(ask, answer);
        let context = format!("{name} returned {status}");
        let detail = reason
            .clone()
            .unwrap_or_else(|| "no reason given".to_owned());
        let delay = oh_transport::retry_after(&answer.headers);
        let source = oh_transport::Error::of_response(status, context, detail, delay);
        let advice = match status {
            StatusCode::UNAUTHORIZED => {
                "the key is wrong or has expired: pass a valid key of this service"
            }
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
    fn reason(&self, ask: &Ask, answer: &Answer) -> Option<String> {
        let mut body: Value = serde_json::from_slice(&answer.body).ok()?;
        self.redactor.json(&mut body);
        for secret in &ask.hidden {
            Redactor::new().with(secret).json(&mut body);
        }
        let fields = ["detail", "error_description", "error", "message"];
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

/// Returns the text of a key, which must be valid in a header.
fn visible<'a>(name: &str, key: &'a SecretString) -> Result<&'a str> {
    let key = key.expose_secret();
    match !key.trim().is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(key),
        false => {
            let message = format!(
                "invalid key of {name} (hidden): must not be empty, and must consist of visible \
                 ASCII characters"
            );
            Err(Error::new(ErrorKind::InvalidInput, message))
        }
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
#[derive(Clone)]
pub(crate) struct Ask {
    method: Method,
    route: &'static str,
    target: String,
    repeat: Repeat,
    body: Body,
    limit: Option<Duration>,
    session_key: Option<SecretString>,
    /// Values in the request that a reason must not contain.
    hidden: Vec<SecretString>,
}

#[derive(Clone)]
enum Body {
    None,
    Json(Value),
    /// `application/x-www-form-urlencoded`.
    Form(String),
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

    pub(crate) fn new(
        method: Method,
        route: &'static str,
        target: impl Into<String>,
        repeat: Repeat,
    ) -> Self {
        Self {
            method,
            route,
            target: target.into(),
            repeat,
            body: Body::None,
            limit: None,
            session_key: None,
            hidden: Vec::new(),
        }
    }

    pub(crate) fn body(mut self, body: Value) -> Self {
        self.body = Body::Json(body);
        self
    }

    /// Sets an encoded form as the body.
    pub(crate) fn form(mut self, form: String) -> Self {
        self.body = Body::Form(form);
        self
    }

    /// Sets a time limit. Default: that of the control plane's client.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Adds the session key of a sandbox.
    pub(crate) fn session_key(mut self, key: &SecretString) -> Self {
        self.session_key = Some(key.clone());
        self.hide(key)
    }

    /// Names a value in the request that an error must not contain.
    pub(crate) fn hide(mut self, secret: &SecretString) -> Self {
        self.hidden.push(secret.clone());
        self
    }
}

impl Call for Ask {
    type Output = Answer;

    fn operation(&self) -> Operation {
        Operation::new(self.method.clone(), self.route, self.repeat)
    }

    fn request(&self) -> oh_protocol::Result<Request> {
        let mut request = Request::new(self.method.clone(), self.target.clone());
        if let Some(key) = &self.session_key {
            let invalid = |_| {
                let why = "the session key (hidden) is not valid in a header";
                oh_protocol::Error::encode("headers", why)
            };
            let mut value = HeaderValue::from_str(key.expose_secret()).map_err(invalid)?;
            value.set_sensitive(true);
            let name = HeaderName::from_static("x-session-api-key");
            request.headers.insert(name, value);
        }
        match &self.body {
            Body::Json(body) => request.json(body),
            Body::Form(form) => {
                let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
                request.headers.insert(CONTENT_TYPE, kind);
                request.body = Some(form.clone().into());
                Ok(request)
            }
            Body::None => Ok(request),
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
