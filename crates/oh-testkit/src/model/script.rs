//! Steps and scripts of the scripted model.

use std::{fmt, sync::Arc, time::Duration};

use serde_json::Value;

use super::ModelRequest;
use crate::Gate;

type Check = Arc<dyn Fn(&ModelRequest) -> Result<(), String> + Send + Sync>;
type Choose = Arc<dyn Fn(&ModelRequest) -> Step + Send + Sync>;

/// An answer of the model.
///
/// ```
/// use oh_testkit::model::Step;
/// use serde_json::json;
///
/// let step = Step::call("terminal", json!({"command": "pytest"}))
///     .say("Let me see what fails.")
///     .think("The tests know best.")
///     .usage(1200, 40)
///     .cost(0.0125);
/// # let _ = step;
/// ```
#[derive(Clone, Default)]
pub struct Step {
    pub(crate) text: Option<String>,
    pub(crate) reasoning: Option<String>,
    pub(crate) calls: Vec<ToolCall>,
    pub(crate) fail: Option<Failure>,
    pub(crate) usage: Usage,
    pub(crate) cost: Option<f64>,
    pub(crate) delay: Duration,
    pub(crate) gate: Option<Gate>,
    pub(crate) drip: Duration,
    pub(crate) cut_after: Option<usize>,
    pub(crate) checks: Vec<Check>,
    pub(crate) choose: Option<Choose>,
}

#[derive(Debug, Clone)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    /// The JSON text as the model would write it, which may be invalid.
    pub(crate) arguments: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) status: u16,
    pub(crate) message: String,
    pub(crate) retry_after: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) cached: u64,
    pub(crate) reasoning: u64,
}

impl Default for Usage {
    // Non-zero, so that clients have tokens and costs to add up.
    fn default() -> Self {
        Self {
            input: 100,
            output: 20,
            cached: 0,
            reasoning: 0,
        }
    }
}

impl Step {
    /// Answers with text. An agent treats an answer without tool calls as its final answer.
    pub fn text(text: impl Into<String>) -> Self {
        Self::default().say(text)
    }

    /// Calls a tool with JSON arguments.
    pub fn call(tool: impl Into<String>, arguments: Value) -> Self {
        Self::default().and_call(tool, arguments)
    }

    /// Calls `finish` with a message, which ends the agent's work.
    pub fn finish(message: impl Into<String>) -> Self {
        Self::call("finish", serde_json::json!({ "message": message.into() }))
    }

    /// Fails with an HTTP status of at least 400 and OpenAI's error body. Lower statuses are raised
    /// to 400.
    ///
    /// Clients that use LiteLLM retry 408, 409, 429 and 5xx after long waits; 400 fails
    /// immediately.
    pub fn fail(status: u16, message: impl Into<String>) -> Self {
        Self {
            fail: Some(Failure {
                status: status.max(400),
                message: message.into(),
                retry_after: None,
            }),
            ..Self::default()
        }
    }

    /// Chooses the answer when the request arrives.
    pub fn with(choose: impl Fn(&ModelRequest) -> Step + Send + Sync + 'static) -> Self {
        Self {
            choose: Some(Arc::new(choose)),
            ..Self::default()
        }
    }

    /// Adds a parallel tool call to the same answer.
    #[must_use]
    pub fn and_call(self, tool: impl Into<String>, arguments: Value) -> Self {
        self.and_call_raw(tool, arguments.to_string())
    }

    /// Adds a tool call with these raw arguments, which may be invalid JSON.
    #[must_use]
    pub fn and_call_raw(mut self, tool: impl Into<String>, arguments: impl Into<String>) -> Self {
        self.calls.push(ToolCall {
            name: tool.into(),
            arguments: arguments.into(),
        });
        self
    }

    /// Sets the text, which may accompany tool calls.
    #[must_use]
    pub fn say(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Sets the reasoning that precedes the answer (`reasoning_content`).
    #[must_use]
    pub fn think(mut self, reasoning: impl Into<String>) -> Self {
        self.reasoning = Some(reasoning.into());
        self
    }

    /// Waits before answering.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Waits at a gate before answering, and after the [`delay`](Self::delay) if there is one. The
    /// request to the model stays open until the test opens the gate.
    #[must_use]
    pub fn hold(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// Returns whether the step answers without waiting.
    pub(crate) fn is_prompt(&self) -> bool {
        self.delay.is_zero() && self.gate.is_none()
    }

    /// Waits for the step's delay and gate.
    pub(crate) async fn wait(&self) {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        if let Some(gate) = &self.gate {
            gate.pass().await;
        }
    }

    /// Waits between the chunks of a streamed answer.
    #[must_use]
    pub fn drip(mut self, pause: Duration) -> Self {
        self.drip = pause;
        self
    }

    /// Cuts the connection: immediately if the answer is not streamed, otherwise after this many
    /// chunks.
    #[must_use]
    pub fn cut_after(mut self, chunks: usize) -> Self {
        self.cut_after = Some(chunks);
        self
    }

    /// Sets the reported number of tokens of the prompt and of the answer. Default: 100 and 20.
    #[must_use]
    pub fn usage(mut self, input: u64, output: u64) -> Self {
        self.usage.input = input;
        self.usage.output = output;
        self
    }

    /// Sets the reported number of prompt tokens that were cached. Default: 0.
    #[must_use]
    pub fn cached_tokens(mut self, tokens: u64) -> Self {
        self.usage.cached = tokens;
        self
    }

    /// Sets the reported number of answer tokens used for reasoning. Default: 0.
    #[must_use]
    pub fn reasoning_tokens(mut self, tokens: u64) -> Self {
        self.usage.reasoning = tokens;
        self
    }

    /// Sets the cost of the call in US dollars.
    ///
    /// The model sends it in the header `x-litellm-response-cost`, which the agent server uses.
    /// Default: no header. In that case the server calculates the cost from the prices in its own
    /// LLM configuration, if there are any.
    #[must_use]
    pub fn cost(mut self, dollars: f64) -> Self {
        self.cost = Some(dollars);
        self
    }

    /// Sends `Retry-After` with a failure, rounded up to whole seconds.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        if let Some(fail) = &mut self.fail {
            fail.retry_after = Some(crate::fault::whole_seconds(wait));
        }
        self
    }

    /// Checks the request. If `check` returns an error, the model answers 400 with the error, and
    /// [`ScriptedModel::verify`](super::ScriptedModel::verify) reports it.
    #[must_use]
    pub fn check(
        mut self,
        check: impl Fn(&ModelRequest) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push(Arc::new(check));
        self
    }

    /// Checks that the newest message of the request contains `text`.
    #[must_use]
    pub fn expect(self, text: impl Into<String>) -> Self {
        let text = text.into();
        self.check(move |request| {
            let last = request.last_text();
            if last.contains(&text) {
                Ok(())
            } else {
                Err(format!(
                    "the newest message should contain {text:?} but is {last:?}"
                ))
            }
        })
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.choose.is_some() {
            return f.write_str("a step that looks at the request");
        }
        if let Some(fail) = &self.fail {
            return write!(f, "fail({}, {:?})", fail.status, fail.message);
        }
        let mut parts = Vec::new();
        for call in &self.calls {
            parts.push(format!("call({} {})", call.name, call.arguments));
        }
        if let Some(text) = &self.text {
            parts.push(format!("text({text:?})"));
        }
        f.write_str(&parts.join(" + "))
    }
}

/// A model that a test plugs into the fake server or into a
/// [`ScriptedModel`](crate::ScriptedModel), instead of a [`Script`]. Closures are models too.
///
/// ```
/// use oh_testkit::{Step, model::{Model, ModelRequest}};
///
/// /// Repeats what the user says.
/// struct Echo;
///
/// impl Model for Echo {
///     fn answer(&self, request: &ModelRequest) -> Step {
///         Step::text(request.last_text())
///     }
/// }
///
/// let server = oh_testkit::FakeServer::builder().model(Echo);
/// # let _ = server;
/// ```
pub trait Model: Send + Sync {
    /// Returns the answer to a request. A panic becomes an answer with status 400, and is reported
    /// by `verify`.
    fn answer(&self, request: &ModelRequest) -> Step;
}

impl<F: Fn(&ModelRequest) -> Step + Send + Sync> Model for F {
    fn answer(&self, request: &ModelRequest) -> Step {
        self(request)
    }
}

/// A sequence of [`Step`]s.
///
/// ```
/// use oh_testkit::model::{Script, Step};
/// use serde_json::json;
///
/// let script = Script::new()
///     .repeat(3, |s| s.call("terminal", json!({"command": "date"})))
///     .step(Step::finish("Three dates.").usage(900, 12))
///     .forever(|s| s.text("I have nothing to add."));
/// # let _ = script;
/// ```
#[derive(Debug, Clone, Default)]
pub struct Script {
    pub(crate) steps: Vec<Step>,
    /// Where to continue after the last step. `None` if the script ends there.
    pub(crate) again_from: Option<usize>,
    pub(crate) each_conversation: bool,
}

impl Script {
    /// Creates an empty script.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a script that asks a model for each answer, any number of times.
    pub fn of(model: impl Model + 'static) -> Self {
        Self::new().forever(|script| script.step(Step::with(move |request| model.answer(request))))
    }

    /// Adds a step.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Adds a text answer.
    #[must_use]
    pub fn text(self, text: impl Into<String>) -> Self {
        self.step(Step::text(text))
    }

    /// Adds a tool call.
    #[must_use]
    pub fn call(self, tool: impl Into<String>, arguments: Value) -> Self {
        self.step(Step::call(tool, arguments))
    }

    /// Adds a call of `finish`.
    #[must_use]
    pub fn finish(self, message: impl Into<String>) -> Self {
        self.step(Step::finish(message))
    }

    /// Adds a failure.
    #[must_use]
    pub fn fail(self, status: u16, message: impl Into<String>) -> Self {
        self.step(Step::fail(status, message))
    }

    /// Adds the same steps `times` times.
    #[must_use]
    pub fn repeat(mut self, times: usize, part: impl FnOnce(Script) -> Script) -> Self {
        let part = part(Script::new()).steps;
        for _ in 0..times {
            self.steps.extend(part.iter().cloned());
        }
        self
    }

    /// Ends the script with steps that repeat forever.
    #[must_use]
    pub fn forever(mut self, part: impl FnOnce(Script) -> Script) -> Self {
        let from = self.steps.len();
        self.steps.extend(part(Script::new()).steps);
        if self.steps.len() > from {
            self.again_from = Some(from);
        }
        self
    }

    /// Plays the script from the start for each conversation, even if their requests interleave.
    /// Without this setting, all requests share one sequence.
    ///
    /// Conversations are distinguished by the id that the agent server sends
    /// ([`ModelRequest::conversation_id`]). Without an id, two requests belong to the same
    /// conversation if their model name and first user message are equal. In that case, start each
    /// conversation with a different message.
    #[must_use]
    pub fn each_conversation(mut self) -> Self {
        self.each_conversation = true;
        self
    }
}
