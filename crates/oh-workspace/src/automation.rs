//! Support for automation environments: tags for conversations, and a callback at the end of the
//! work. The environment passes its requirements in variables named `AUTOMATION_…`.

use std::{collections::BTreeMap, fmt, time::Duration};

use oh_protocol::{ConversationId, Event};
use oh_transport::automation::{self as environment, variable};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use crate::{Error, Result, post::post};

/// Timeout of the callback. Short, because the work is already done.
const LIMIT: Duration = Duration::from_secs(10);

/// Returns the tags that `AUTOMATION_EVENT_PAYLOAD` and `AUTOMATION_RUN_ID` request for every
/// conversation: `automationtrigger`, `automationid`, `automationname`, `automationrunid`. Returns
/// an empty map when neither variable is set.
///
/// The payload is JSON. An invalid payload, or one without these fields, adds no tags. A value is
/// cut after 256 characters, the length of a tag.
///
/// A conversation that `oh-conversation` starts has these tags already.
pub fn automation_tags() -> BTreeMap<String, String> {
    environment::tags()
}

/// The callback that reports the end of the work to the URL in `AUTOMATION_CALLBACK_URL`.
///
/// ```no_run
/// # async fn run(work: impl Future<Output = Result<(), std::io::Error>>) -> oh_workspace::Result<()> {
/// use oh_workspace::CompletionCallback;
///
/// let callback = CompletionCallback::from_env()?;
/// let done = work.await;
/// if let Some(callback) = callback {
///     callback.report(&done).await?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use]
pub struct CompletionCallback {
    url: Url,
    api_key: Option<SecretString>,
    run_id: Option<String>,
    conversation: Option<ConversationId>,
    cost: Option<f64>,
    /// Whether values that are not set are those of this process's conversations.
    recorded: bool,
}

impl CompletionCallback {
    /// Creates the callback that the environment requests, or returns `None` when it requests none.
    /// The callback goes to `AUTOMATION_CALLBACK_URL`, with `AUTOMATION_CALLBACK_API_KEY` as bearer
    /// token and `AUTOMATION_RUN_ID` as run id, where they are set.
    ///
    /// The newest conversation that this process has started or attached, and the sum of the costs
    /// of all of them, are reported if [`conversation`](Self::conversation) and
    /// [`cost`](Self::cost) are not called. [`Automation`](crate::Automation) reports the end of
    /// the work by itself.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the URL is invalid.
    pub fn from_env() -> Result<Option<Self>> {
        let Some(url) = variable("AUTOMATION_CALLBACK_URL") else {
            return Ok(None);
        };
        let mut callback = Self::new(&url)?;
        callback.api_key = variable("AUTOMATION_CALLBACK_API_KEY").map(SecretString::from);
        callback.run_id = variable("AUTOMATION_RUN_ID");
        callback.recorded = true;
        Ok(Some(callback))
    }

    /// Creates a callback to this URL.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if this is not a valid
    /// `http://` or `https://` URL.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self {
            url: callback_url(url)?,
            api_key: None,
            run_id: None,
            conversation: None,
            cost: None,
            recorded: false,
        })
    }

    /// Sets the bearer token.
    pub fn api_key(mut self, key: impl Into<SecretString>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// Sets the id of the automation run.
    pub fn run_id(mut self, id: impl Into<String>) -> Self {
        self.run_id = Some(id.into());
        self
    }

    /// Sets the conversation in which the work was done. Default: none, or the recorded one of
    /// [`from_env`](Self::from_env).
    pub fn conversation(mut self, id: ConversationId) -> Self {
        self.conversation = Some(id);
        self
    }

    /// Sets the cost in US dollars. Default: omitted from the report, or the recorded cost of
    /// [`from_env`](Self::from_env).
    pub fn cost(mut self, dollars: f64) -> Self {
        self.cost = Some(dollars);
        self
    }

    /// Reports how a run ended. The run is reported as completed only when `finished` returns true
    /// for its outcome. Every other outcome (an error, a stuck or paused agent, a pending approval)
    /// is reported as a failure with the code `RunNotFinished` and the outcome's text as detail. An
    /// `Err` is reported as in [`report`](Self::report).
    ///
    /// ```no_run
    /// # use oh_workspace::{CompletionCallback, Result};
    /// # #[derive(Debug)] struct RunOutcome;
    /// # impl RunOutcome { fn is_finished(&self) -> bool { true } }
    /// # impl std::fmt::Display for RunOutcome {
    /// #     fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { Ok(()) }
    /// # }
    /// # async fn run(callback: CompletionCallback, done: Result<RunOutcome, std::io::Error>) -> Result<()> {
    /// // `done` is the result of `conversation.run().await`.
    /// callback.report_run(&done, RunOutcome::is_finished).await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the callback's receiver cannot be reached or rejects the request.
    pub async fn report_run<T: fmt::Display, E: std::error::Error>(
        self,
        result: &Result<T, E>,
        finished: impl FnOnce(&T) -> bool,
    ) -> Result<()> {
        match result {
            Ok(outcome) if finished(outcome) => self.completed().await,
            Ok(outcome) => self.failed("RunNotFinished", outcome.to_string()).await,
            Err(error) => self.report(&Err(error)).await,
        }
    }

    /// Reports how the work ended: completed, or failed with the error's type as code and the
    /// messages of the error and its sources as detail.
    ///
    /// For the result of a run use [`report_run`](Self::report_run). A run that returns has not
    /// necessarily finished, so its result is not accepted here.
    ///
    /// # Errors
    ///
    /// Returns an error if the callback's receiver cannot be reached or rejects the request.
    pub async fn report<E: std::error::Error>(self, result: &Result<(), E>) -> Result<()> {
        let Err(error) = result else {
            return self.completed().await;
        };
        self.failed(code_of::<E>(), oh_protocol::reason::of(error))
            .await
    }

    /// Reports that the work is completed.
    ///
    /// # Errors
    ///
    /// Returns an error if the callback's receiver cannot be reached or rejects the request.
    pub async fn completed(self) -> Result<()> {
        let body = self.body("COMPLETED", None);
        self.send(body).await
    }

    /// Reports that the work failed, with a short code and a description. The callback's API key is
    /// masked in the description.
    ///
    /// # Errors
    ///
    /// Returns an error if the callback's receiver cannot be reached or rejects the request.
    pub async fn failed(self, code: impl Into<String>, detail: impl Into<String>) -> Result<()> {
        let mut detail = detail.into();
        if let Some(key) = &self.api_key
            && !key.expose_secret().is_empty()
        {
            detail = detail.replace(key.expose_secret(), "**********");
        }
        let error = json!({
            "kind": "ConversationErrorEvent",
            "source": "environment",
            "code": code.into(),
            "detail": detail,
            "classification": { "kind": "unknown", "retryable": false },
        });
        let body = self.body("FAILED", Some(error));
        self.send(body).await
    }

    /// Reports that the work failed, with an event of the conversation as the error.
    ///
    /// # Errors
    ///
    /// Returns an error if the callback's receiver cannot be reached or rejects the request.
    pub async fn failed_with(self, event: &Event) -> Result<()> {
        let event = serde_json::from_slice(event.raw()).map_err(|error| {
            Error::invalid("cannot encode the event as JSON").with_source(error)
        })?;
        let body = self.body("FAILED", Some(event));
        self.send(body).await
    }

    fn body(&self, status: &str, error: Option<Value>) -> Value {
        let (conversation, cost) = match self.recorded {
            true => (
                self.conversation.or_else(environment::conversation),
                self.cost.or_else(environment::cost),
            ),
            false => (self.conversation, self.cost),
        };
        let mut body = json!({ "status": status });
        let fields = [
            ("run_id", self.run_id.clone().map(Value::from)),
            ("error", error),
            (
                "conversation_id",
                conversation.map(|id| id.to_string().into()),
            ),
            ("cost", cost.map(Value::from)),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        body
    }

    async fn send(self, body: Value) -> Result<()> {
        post(&self.url, self.api_key.as_ref(), &body, LIMIT).await
    }
}

/// Parses a URL of the automation environment.
pub(crate) fn callback_url(url: &str) -> Result<Url> {
    // The URL may contain credentials, so the error does not repeat it.
    let bad = || Error::invalid("the callback URL must begin with http:// or https://");
    let url = Url::parse(url).map_err(|_| bad())?;
    match matches!(url.scheme(), "http" | "https") && url.host_str().is_some() {
        true => Ok(url),
        false => Err(bad()),
    }
}

/// Returns the name of a type of errors, without its path. A boxed error has none.
pub(crate) fn code_of<E>() -> &'static str {
    let name = std::any::type_name::<E>().trim_start_matches(['&', ' ']);
    let name = name.split('<').next().unwrap_or(name);
    match name.rsplit("::").next().unwrap_or(name) {
        "Box" => "Error",
        name => name,
    }
}

// The URL may contain a token in its query.
impl fmt::Debug for CompletionCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionCallback")
            .field("host", &self.url.host_str())
            .field("run_id", &self.run_id)
            .field("conversation", &self.conversation)
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}
