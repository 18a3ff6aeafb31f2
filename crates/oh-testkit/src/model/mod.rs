//! A language model that plays a script, with OpenAI's API on the loopback interface.

mod chat;
mod parts;
pub(crate) mod player;
mod request;
mod responses;
mod script;

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use self::player::{Player, Track, lock};
pub(crate) use self::{parts::pieces, request::SESSION, script::ToolCall};
pub use self::{
    request::ModelRequest,
    script::{Model, Script, Step},
};
use crate::{
    Result,
    http::{self as server, Answering, Handler, Listening, Request, Response},
};

/// A model that plays a [`Script`] over `/v1/chat/completions` and `/v1/responses`, plain and
/// streamed, on a free port of 127.0.0.1.
///
/// Set the base URL of an agent's LLM to [`base_url`](Self::base_url), with any key and a model
/// name such as [`MODEL`](Self::MODEL). The model runs on the runtime it was started on and stops
/// when it is dropped.
///
/// If the script has no step for a request, or a step's check fails, the model returns HTTP 400
/// with the reason. The agent server shows the reason in a `ConversationErrorEvent`.
/// [`verify`](Self::verify) reports all such failures. If a test does not call `verify`, they are
/// printed to stderr when the model is dropped.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use oh_testkit::{Script, ScriptedModel};
/// use serde_json::json;
///
/// let model = ScriptedModel::start(
///     Script::new()
///         .call("terminal", json!({"command": "date"}))
///         .finish("It is late."),
/// )
/// .await?;
/// // … set the base URL of the agent's model to `model.base_url()`, and run the agent …
/// # let _ = model.base_url();
/// assert!(model.verify().is_err(), "nobody asked for the two steps yet");
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ScriptedModel {
    listening: Listening,
    player: Arc<Mutex<Player>>,
}

impl ScriptedModel {
    /// A model name for which LiteLLM, which the agent server uses, sends requests unchanged to a
    /// `base_url`.
    pub const MODEL: &'static str = "openai/scripted";

    /// The answer to title requests, unless a track answers them.
    pub const TITLE: &'static str = "📝 Scripted title";

    /// Starts a model with one script. The agent server requests a conversation's title at
    /// arbitrary times; these requests do not use up steps of the script.
    ///
    /// # Errors
    ///
    /// Returns an error if no port can be opened.
    pub async fn start(script: Script) -> Result<Self> {
        Self::builder().script(script).start().await
    }

    /// Returns a builder for a model with several scripts.
    pub fn builder() -> ScriptedModelBuilder {
        ScriptedModelBuilder::default()
    }

    /// Returns the base URL for clients: `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.listening.address())
    }

    /// Returns the address of the model.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// Returns the value of an agent's `llm` field that selects this model.
    pub fn llm(&self) -> Value {
        json!({"model": Self::MODEL, "base_url": self.base_url(), "api_key": "scripted"})
    }

    /// Returns all requests, oldest first.
    pub fn requests(&self) -> Vec<ModelRequest> {
        lock(&self.player).requests()
    }

    /// Checks that the requests matched the script so far: there was a step for each request, no
    /// check failed, and no step before a `forever` is left over.
    ///
    /// # Errors
    ///
    /// Returns an error with all deviations.
    pub fn verify(&self) -> Result<()> {
        lock(&self.player).verify()
    }
}

/// Prints unreported failures to stderr, so that the author of a failing test can see the cause.
impl Drop for ScriptedModel {
    fn drop(&mut self) {
        if let Some(report) = lock(&self.player).unreported() {
            crate::error::tell(&report);
        }
    }
}

impl fmt::Debug for ScriptedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedModel")
            .field("base_url", &self.base_url())
            .finish_non_exhaustive()
    }
}

/// Builds a [`ScriptedModel`] with several scripts, each of them for some of the requests.
#[must_use]
#[derive(Default)]
pub struct ScriptedModelBuilder {
    tracks: Vec<Track>,
    script: Script,
}

impl ScriptedModelBuilder {
    /// Sets the script for requests that no track accepts.
    pub fn script(mut self, script: Script) -> Self {
        self.script = script;
        self
    }

    /// Adds a script for the requests that `wants` accepts. Tracks are tried in the order they were
    /// added.
    pub fn track(
        mut self,
        name: impl Into<String>,
        wants: impl Fn(&ModelRequest) -> bool + Send + Sync + 'static,
        script: Script,
    ) -> Self {
        self.tracks.push(Track {
            name: name.into(),
            wants: Some(Arc::new(wants)),
            script,
            optional: false,
        });
        self
    }

    /// Adds a script for one model name as it appears in the request. LiteLLM sends `openai/writer`
    /// as `writer`.
    pub fn model(self, name: impl Into<String>, script: Script) -> Self {
        let name = name.into();
        let wanted = name.clone();
        self.track(name, move |request| request.model() == wanted, script)
    }

    /// Sets the script for requests for a conversation's title. Default: [`ScriptedModel::TITLE`]
    /// for every such request.
    pub fn titles(self, script: Script) -> Self {
        self.track("titles", ModelRequest::asks_for_title, script)
    }

    /// Opens the port and starts serving.
    ///
    /// # Errors
    ///
    /// Returns an error if no port can be opened.
    pub async fn start(self) -> Result<ScriptedModel> {
        let mut tracks = self.tracks;
        tracks.push(Track {
            name: "titles".into(),
            wants: Some(Arc::new(ModelRequest::asks_for_title)),
            script: Script::new().forever(|s| s.text(ScriptedModel::TITLE)),
            optional: true,
        });
        tracks.push(Track {
            name: "script".into(),
            wants: None,
            script: self.script,
            optional: false,
        });
        let player = Arc::new(Mutex::new(Player::new(tracks)));
        let listening = Listening::start(Endpoint(Arc::clone(&player))).await?;
        Ok(ScriptedModel { listening, player })
    }
}

impl fmt::Debug for ScriptedModelBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tracks: Vec<_> = self.tracks.iter().map(|track| &track.name).collect();
        f.debug_struct("ScriptedModelBuilder")
            .field("tracks", &tracks)
            .field("script", &self.script)
            .finish()
    }
}

#[derive(Clone)]
struct Endpoint(Arc<Mutex<Player>>);

impl Handler for Endpoint {
    fn answer(&self, request: Request) -> Answering {
        let player = Arc::clone(&self.0);
        Box::pin(async move { answer(request, &player).await })
    }
}

async fn answer(request: Request, player: &Mutex<Player>) -> Response {
    let (head, body) = request.into_parts();
    let dialect = match (head.method.as_str(), head.uri.path()) {
        ("POST", "/v1/chat/completions") => Dialect::Chat,
        ("POST", "/v1/responses") => Dialect::Responses,
        ("GET", "/v1/models") => {
            let models = json!({"object": "list", "data": [{"id": "scripted", "object": "model"}]});
            return server::json(StatusCode::OK, &models);
        }
        (method, path) => {
            let objection = format!("the scripted model does not support {method} {path}");
            lock(player).object(objection.clone());
            return refuse(StatusCode::NOT_FOUND, &objection);
        }
    };
    let body = server::read_body(body).await;
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        let objection = "the request body is not JSON".to_owned();
        lock(player).object(objection.clone());
        return refuse(StatusCode::BAD_REQUEST, &objection);
    };
    let request = ModelRequest {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body,
    };
    let step = player::play(player, &request);
    step.wait().await;
    if let Some(fail) = &step.fail {
        let status = StatusCode::from_u16(fail.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = refuse(status, &fail.message);
        if let Some(seconds) = fail.retry_after {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        return response;
    }
    let mut response = if request.is_stream() {
        stream(dialect, &request, step.clone())
    } else if step.cut_after.is_some() {
        let (sender, body) = server::channel();
        tokio::spawn(sender.cut());
        http::Response::new(body)
    } else {
        let body = match dialect {
            Dialect::Chat => chat::plain(&request, &step),
            Dialect::Responses => responses::plain(&request, &step),
        };
        server::json(StatusCode::OK, &body)
    };
    if let Some(cost) = step.cost
        && let Ok(value) = HeaderValue::from_str(&cost.to_string())
    {
        let headers = response.headers_mut();
        headers.insert("x-litellm-response-cost", value);
    }
    response
}

#[derive(Clone, Copy)]
enum Dialect {
    Chat,
    Responses,
}

fn refuse(status: StatusCode, message: &str) -> Response {
    let body = json!({"error": {
        "message": message,
        "type": if status.is_server_error() { "server_error" } else { "invalid_request_error" },
        "param": null,
        "code": null,
    }});
    server::json(status, &body)
}

fn stream(dialect: Dialect, request: &ModelRequest, step: Step) -> Response {
    let chunks = match dialect {
        Dialect::Chat => chat::chunks(request, &step),
        Dialect::Responses => responses::chunks(request, &step),
    };
    let (sender, body) = server::channel();
    // Ends when the client disconnects: the body is dropped, and `send` returns `false`.
    tokio::spawn(async move {
        for (index, chunk) in chunks.into_iter().enumerate() {
            if step.cut_after == Some(index) {
                return sender.cut().await;
            }
            if index > 0 && !step.drip.is_zero() {
                tokio::time::sleep(step.drip).await;
            }
            if !sender.send(Bytes::from(chunk)).await {
                return;
            }
        }
    });
    let mut response = http::Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    response
}
