//! Client tools: what the agent calls and this program carries out. Knows no sockets; what comes
//! by them it reads from the mirror.
//!
//! The server has no way back for a result: it answers the call itself, at once, and the agent
//! goes on. So a result is delivered as a message of the user that names the call. While the
//! agent is at work it reads it with its next step; if it was done already, the message sets it
//! to work again. A tool that has nothing to say gives [`ToolResult::none`], and the agent is
//! left alone.

mod claims;
mod dispatch;

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use oh_protocol::{
    ConversationId, Event, Payload,
    config::{ClientToolSpec, ToolAnnotations},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use claims::forget;
pub(crate) use dispatch::{Dispatch, until_settled};

use crate::{Error, ErrorKind, Result};

type Handling = Pin<Box<dyn Future<Output = ToolResult> + Send>>;
type Handler = Arc<dyn Fn(ClientToolCall) -> Handling + Send + Sync>;

/// A tool that the agent calls and this program carries out.
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
///     Ok::<_, oh_conversation::Error>(format!("{} is on its way", arguments.branch))
/// })
/// .parameters(json!({
///     "type": "object",
///     "properties": {"branch": {"type": "string"}},
///     "required": ["branch"],
/// }));
/// # let _ = deploy;
/// ```
///
/// The handler is called **once for each call of the agent**, on a task of its own; calls that
/// the agent makes at once run at once. A call that a confirmation policy asks about is carried out
/// when it was approved, and never when it was rejected. That holds across reconnections, and for one conversation
/// attached again, or twice, in one process: what a program has dispatched it does not dispatch
/// again. Calls that the server had executed before this process first attached are history, and
/// are not carried out unless [`Attach::resume_client_tools`](crate::Attach::resume_client_tools) asks
/// for those that have no result.
///
/// Handlers end, unfinished ones too, when the conversation is closed or its last handle dropped.
///
/// A [goal](crate::Conversation::start_goal) is ended by any message, so also by a result.
#[derive(Clone)]
#[must_use = "a tool does nothing until a conversation has it"]
pub struct ClientTool {
    spec: ClientToolSpec,
    name: String,
    handler: Handler,
}

impl ClientTool {
    /// A tool by its name, what the model is told of it, and what carries it out. It has no
    /// parameters until [`parameters`](Self::parameters) gives some.
    ///
    /// The handler's `Err` is told to the agent as the result, too, as is a panic.
    pub fn new<F, Fut, R>(
        name: impl Into<String>,
        description: impl Into<String>,
        handler: F,
    ) -> Self
    where
        F: Fn(ClientToolCall) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
        R: Into<ToolResult>,
    {
        let name = name.into();
        Self {
            spec: ClientToolSpec::new(name.clone(), description),
            name,
            handler: Arc::new(move |call| {
                let handling = handler(call);
                Box::pin(async move { handling.await.into() })
            }),
        }
    }

    /// Its parameters, as a JSON Schema of type `object`; checked before anything is sent. A
    /// server holds on to a name's first schema until it ends, in whatever conversation.
    pub fn parameters(mut self, schema: impl Into<Value>) -> Self {
        self.spec = self.spec.parameters(schema);
        self
    }

    /// What calling it does, so that its risk can be judged. Server's default: anything.
    pub fn annotations(mut self, annotations: ToolAnnotations) -> Self {
        self.spec = self.spec.annotations(annotations);
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn spec(&self) -> ClientToolSpec {
        self.spec.clone()
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
    /// The conversation it is made in.
    pub fn conversation_id(&self) -> ConversationId {
        self.conversation
    }

    /// Its event, an `ActionEvent`, with the model's thoughts, risk and summary.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The event's id: unique in the conversation, so work that must not be done twice, even
    /// over a crash of this program, can be kept under it.
    pub fn id(&self) -> &str {
        self.event.id()
    }

    /// The arguments as they came: an object.
    pub fn json(&self) -> Value {
        let mut arguments: Value = serde_json::from_slice(self.event.raw())
            .map(|event: Value| event["action"].clone())
            .unwrap_or_default();
        if let Value::Object(arguments) = &mut arguments {
            arguments.remove("kind");
        }
        arguments
    }

    /// The arguments, decoded.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when the model gave others. Returned from a handler, it tells
    /// the model what was wrong.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(self.json()).map_err(|error| {
            let what = format!("the arguments do not fit: {error}");
            Error::new(ErrorKind::InvalidInput, self.conversation, what)
        })
    }
}

/// What a client tool says in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult(Option<String>);

impl ToolResult {
    /// This, for the agent to read.
    pub fn text(text: impl Into<String>) -> Self {
        Self(Some(text.into()))
    }

    /// Nothing: no message is sent, and the agent is content with the server's "dispatched".
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

impl<T: Into<ToolResult>, E: fmt::Display> From<Result<T, E>> for ToolResult {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(value) => value.into(),
            Err(error) => Self::text(format!("It failed: {error}")),
        }
    }
}

/// The tool that an event calls, if it is a call that the client carries out.
fn called(event: &Event) -> Option<&str> {
    if event.kind() != "ActionEvent" {
        return None;
    }
    match event.payload() {
        Payload::Action(body) => body.action.as_ref()?.client_tool(),
        _ => None,
    }
}

/// How the message with a result begins. It names the action: results are found by it.
fn heading(tool: &str, event: &Event) -> String {
    let call = match event.payload() {
        Payload::Action(body) => body.tool_call_id.as_str(),
        _ => "",
    };
    format!(
        "[Result of the client tool `{tool}`, call {call}, action {}]",
        event.id()
    )
}

/// The action whose result a message holds.
fn answers(event: &Event) -> Option<String> {
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
    fn a_result_names_its_call_and_is_found_by_it() {
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
    fn arguments_decode_and_what_does_not_fit_is_said() {
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

    #[test]
    fn a_failure_is_a_result_too() {
        let failed: Result<String, &str> = Err("no such branch");
        assert_eq!(
            ToolResult::from(failed),
            ToolResult::text("It failed: no such branch")
        );
        assert_eq!(ToolResult::from(Ok::<(), String>(())), ToolResult::none());
    }
}
