//! Client tools: tools that the agent calls and this program executes. Contains no I/O; events come
//! from the mirror.
//!
//! The server has no channel for a tool's result: it answers the call itself at once, and the agent
//! continues. Therefore a result is delivered as a user message that names the call. A running
//! agent reads the message in its next step; if the agent has finished, the message starts another
//! run. A tool without a result returns [`ToolResult::none`], and no message is sent.
//!
//! Before server 1.45, a message that arrives while the model is asked for its last answer may stay
//! unread. A reminder follows then.

pub(crate) mod claims;
mod handle;
#[cfg(feature = "schemars")]
mod typed;

use std::{fmt, future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use futures_util::FutureExt;
use oh_protocol::{
    ConversationId, Event, Payload,
    config::{ClientToolSpec, ToolAnnotations},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use claims::forget;
pub(crate) use handle::{Dispatch, Progress};
#[cfg(feature = "schemars")]
pub use typed::ToolHandler;

use crate::{Error, ErrorKind, Result};

type Handling = Pin<Box<dyn Future<Output = ToolResult> + Send>>;
type Handler = Arc<dyn Fn(ClientToolCall) -> Handling + Send + Sync>;

/// A tool that the agent calls and this program executes.
///
/// ```
/// use oh_conversation::{ClientTool, ClientToolCall};
/// use serde_json::json;
///
/// let deploy = ClientTool::new("deploy", "Deploys a branch.", |call: ClientToolCall| async move {
///     #[derive(serde::Deserialize)]
///     struct Arguments {
///         branch: String,
///     }
///     let arguments: Arguments = call.arguments()?;
///     if arguments.branch == "main" {
///         return Err("the branch `main` is protected".into());
///     }
///     Ok(format!("{} is on its way", arguments.branch))
/// })
/// .parameters(json!({
///     "type": "object",
///     "properties": {"branch": {"type": "string"}},
///     "required": ["branch"],
/// }));
/// # let _ = deploy;
/// ```
///
/// With the feature `schemars`, `ClientTool::typed` derives the parameters from a Rust type.
///
/// The server answers a call at once with "dispatched", and the agent continues. The result follows
/// as a user message: a running agent reads it in its next step, and after the end of a run the
/// message starts another one. [`run`](crate::Conversation::run) waits for it. Let the description
/// of the tool say that the agent should wait for the result.
///
/// Servers before 1.45 may end a run with a result unread, if it arrives while the model is being
/// asked. `run` then sends one more message, a reminder, and waits for its run too.
///
/// The handler is called **once for each call of the agent**, on a separate task; parallel calls
/// run in parallel. A call that needs approval is executed when it is approved, and never after a
/// rejection. This also holds across reconnects, and when one process attaches to a conversation
/// again, or twice: a call that has been dispatched is not dispatched again. Calls that the server
/// had executed before this process first attached are history. They are not executed unless
/// [`Attach::resume_client_tools`](crate::Attach::resume_client_tools) is set, and then only those
/// without a result. A call whose result is in the log when a program attaches is never executed,
/// whichever process delivered the result. Two processes that are attached at the same time both
/// execute a call.
///
/// Handlers are stopped, even unfinished ones, when the conversation is closed or its last handle
/// is dropped.
///
/// A result ends a [goal](crate::Goals::start), as every message does.
#[derive(Clone)]
#[must_use = "a tool does nothing until a conversation has it"]
pub struct ClientTool {
    spec: ClientToolSpec,
    name: String,
    /// Why the server can never accept the tool's arguments, if that is known.
    unusable: Option<String>,
    handler: Handler,
}

impl ClientTool {
    /// Creates a tool from its name, its description for the model, and its handler. The tool has
    /// no parameters unless [`parameters`](Self::parameters) sets some.
    ///
    /// The handler returns what the agent gets: a text, JSON, or `Ok(())` for no message. Its `?`
    /// accepts any error; see [`ToolError`]. An error or a panic is sent to the agent as the
    /// result, so the text of the error should not contain secrets.
    pub fn new<F, Fut, R>(
        name: impl Into<String>,
        description: impl Into<String>,
        handler: F,
    ) -> Self
    where
        F: Fn(ClientToolCall) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, ToolError>> + Send + 'static,
        R: Into<ToolResult>,
    {
        let name = name.into();
        Self {
            spec: ClientToolSpec::new(name.clone(), description),
            name,
            unusable: None,
            handler: Arc::new(move |call| {
                let handling = handler(call);
                Box::pin(async move {
                    match handling.await {
                        Ok(result) => result.into(),
                        Err(ToolError(reason)) => ToolResult::text(format!("It failed: {reason}")),
                    }
                })
            }),
        }
    }

    /// Sets the parameters, as a JSON Schema of type `object`, which is validated before anything
    /// is sent. A server keeps the first schema of a tool name until the server ends, for all
    /// conversations.
    pub fn parameters(mut self, schema: impl Into<Value>) -> Self {
        self.spec = self.spec.parameters(schema);
        self.unusable = None;
        self
    }

    /// Sets hints about the tool's effects, for the assessment of its risk. Server's default: any
    /// effect.
    pub fn annotations(mut self, annotations: ToolAnnotations) -> Self {
        self.spec = self.spec.annotations(annotations);
        self
    }

    /// Returns the tool's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Calls the handler. Returns the text of its result, if there is one.
    pub(crate) async fn call(&self, conversation: ConversationId, event: Event) -> Option<String> {
        let call = ClientToolCall {
            conversation,
            event,
        };
        // The handler is called inside, because it may panic before it returns its future.
        let handling = async { (self.handler)(call).await };
        match AssertUnwindSafe(handling).catch_unwind().await {
            Ok(ToolResult(text)) => text,
            Err(_) => Some("It failed: the tool panicked.".to_owned()),
        }
    }

    pub(crate) fn spec(&self) -> ClientToolSpec {
        self.spec.clone()
    }

    /// Returns why the server can never accept the tool's arguments.
    pub(crate) fn unusable(&self) -> Option<&str> {
        self.unusable.as_deref()
    }
}

impl fmt::Debug for ClientTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTool")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

/// A call of a [`ClientTool`] by the agent.
#[derive(Debug, Clone)]
pub struct ClientToolCall {
    conversation: ConversationId,
    event: Event,
}

impl ClientToolCall {
    /// Returns the id of the conversation.
    pub fn conversation_id(&self) -> ConversationId {
        self.conversation
    }

    /// Returns the call's event, an `ActionEvent`, with the model's thoughts, risk and summary.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Returns the event's id. It is unique in the conversation, so a program can use it as a key
    /// for work that must not be done twice, even after a crash.
    pub fn id(&self) -> &str {
        self.event.id()
    }

    /// Returns the arguments as a JSON object. Optional arguments that the model omitted may be
    /// `null`.
    pub fn json(&self) -> Value {
        let mut arguments: Value = serde_json::from_slice(self.event.raw())
            .map(|event: Value| event["action"].clone())
            .unwrap_or_default();
        if let Value::Object(arguments) = &mut arguments {
            arguments.remove("kind");
            // The server renames an argument that has the name of one of its fields.
            if let Some(kind) = arguments.remove("mcp_arg_kind") {
                arguments.insert("kind".to_owned(), kind);
            }
        }
        arguments
    }

    /// Decodes the arguments. An optional argument that the model omitted can be decoded as an
    /// [`Option`] or as a field with `#[serde(default)]`.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::InvalidInput`] if the model's arguments do not match the type. If a
    /// handler returns this error, the model receives the reason.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T> {
        self.decode().map_err(|error| {
            let what = "invalid arguments";
            Error::new(ErrorKind::InvalidInput, self.conversation, what).with_source(error)
        })
    }

    /// Decodes the arguments. The error contains the path of the invalid argument.
    fn decode<T: DeserializeOwned>(
        &self,
    ) -> Result<T, serde_path_to_error::Error<serde_json::Error>> {
        let mut arguments = self.json();
        serde_path_to_error::deserialize(&arguments).or_else(|_| {
            // The server's value of an omitted argument is null, which only an `Option` accepts.
            if let Value::Object(fields) = &mut arguments {
                fields.retain(|_, value| !value.is_null());
            }
            serde_path_to_error::deserialize(arguments)
        })
    }
}

/// The result of a client tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult(Option<String>);

impl ToolResult {
    /// Creates a result with this text for the agent.
    pub fn text(text: impl Into<String>) -> Self {
        Self(Some(text.into()))
    }

    /// Creates an empty result: no message is sent, and the agent only has the server's
    /// "dispatched" response.
    pub fn none() -> Self {
        Self(None)
    }
}

impl From<()> for ToolResult {
    fn from((): ()) -> Self {
        Self::none()
    }
}

impl From<&str> for ToolResult {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for ToolResult {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<Value> for ToolResult {
    fn from(json: Value) -> Self {
        Self::text(json.to_string())
    }
}

/// The failure of a client tool, as a text for the agent. Any error or text converts to it, so a
/// handler can use `?` and `Err("…".into())`.
// Does not implement `Display`: the conversion from every error would then overlap with the
// conversion from itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolError(String);

impl<E: fmt::Display> From<E> for ToolError {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Returns the name of the tool that an event calls, if it is a call of a client tool.
pub(crate) fn called(event: &Event) -> Option<&str> {
    if event.kind() != "ActionEvent" {
        return None;
    }
    match event.payload() {
        Payload::Action(body) => body.action.as_ref()?.client_tool(),
        _ => None,
    }
}

/// Returns the first line of the message with a result. The line contains the action's id, by which
/// results are found.
pub(crate) fn heading(tool: &str, event: &Event) -> String {
    let call = match event.payload() {
        Payload::Action(body) => body.tool_call_id.as_str(),
        _ => "",
    };
    format!(
        "[Result of the client tool `{tool}`, call {call}, action {}]",
        event.id()
    )
}

/// Returns the id of the action whose result a message contains.
pub(crate) fn answers(event: &Event) -> Option<String> {
    if event.kind() != "MessageEvent" || event.source().as_str() != "user" {
        return None;
    }
    let Payload::Message(message) = event.payload() else {
        return None;
    };
    let text = message.llm_message.text();
    let line = text.strip_prefix("[Result of the client tool `")?;
    let (_, action) = line.lines().next()?.rsplit_once(", action ")?;
    action.strip_suffix(']').map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call() -> Event {
        let call = json!({"kind": "ActionEvent", "id": "a-1", "source": "agent",
            "tool_name": "ask", "tool_call_id": "call_9",
            "action": {"kind": "ClientAction_ask", "question": "Why?", "n": 2}});
        Event::from_json(call.to_string()).unwrap()
    }

    #[test]
    fn a_result_names_its_call_and_can_be_found_by_it() {
        let call = call();
        assert_eq!(called(&call), Some("ask"));
        let text = format!("{}\nBecause.\n[and more]", heading("ask", &call));
        let message = json!({"kind": "MessageEvent", "id": "m", "source": "user",
            "llm_message": {"role": "user", "content": [{"type": "text", "text": text}]}});
        let message = Event::from_json(message.to_string()).unwrap();
        assert_eq!(answers(&message).as_deref(), Some("a-1"));
        assert_eq!(answers(&call), None);
    }

    #[test]
    fn arguments_are_decoded_and_mismatches_are_reported() {
        let call = ClientToolCall {
            conversation: ConversationId::random(),
            event: call(),
        };
        assert_eq!(call.json(), json!({"question": "Why?", "n": 2}));
        #[derive(serde::Deserialize)]
        struct Good {
            question: String,
        }
        assert_eq!(call.arguments::<Good>().unwrap().question, "Why?");
        #[derive(Debug, serde::Deserialize)]
        struct Bad {
            #[allow(dead_code, reason = "it is not there")]
            answer: String,
        }
        let error = call.arguments::<Bad>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(
            error.to_string().contains("missing field `answer`"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_handler_returns_any_error_or_any_result() {
        async fn result(tool: ClientTool) -> ToolResult {
            let call = ClientToolCall {
                conversation: ConversationId::random(),
                event: call(),
            };
            (tool.handler)(call).await
        }
        let parses = ClientTool::new("n", "N.", |_| async {
            let number: u8 = "x".parse()?;
            Ok(number.to_string())
        });
        let refuses = ClientTool::new("r", "R.", |_| async {
            Err::<(), _>("no such branch".into())
        });
        let json = ClientTool::new("j", "J.", |_| async { Ok(json!([1])) });
        let nothing = ClientTool::new("e", "E.", |_| async { Ok(()) });
        for (tool, expected) in [
            (
                parses,
                ToolResult::text("It failed: invalid digit found in string"),
            ),
            (refuses, ToolResult::text("It failed: no such branch")),
            (json, ToolResult::text("[1]")),
            (nothing, ToolResult::none()),
        ] {
            assert_eq!(result(tool).await, expected);
        }
    }
}
