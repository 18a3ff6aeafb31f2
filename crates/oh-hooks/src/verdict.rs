//! What an exit code, an output or a model's answer means: the server's reading of them, for one
//! hook and for all that an event concerned.

use std::{ops::Deref, time::Duration};

use oh_protocol::hooks::HookEventType;

use crate::json::{self, NoValue, Value};

/// What one hook did when it was run here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HookOutcome {
    /// The hook's label: its command, or kind and name.
    pub hook: String,
    /// Whether it ended with 0; of a prompt or agent hook, whether it came to a verdict.
    pub success: bool,
    /// Whether it denied. Whether that stops anything depends on the event: [`Trial::denied`].
    pub blocked: bool,
    /// Its exit code; minus the signal that ended it; −1 when it did not come to an end.
    pub exit_code: i32,
    /// What it wrote to stdout, up to the cap, with newlines as `\n`.
    pub stdout: String,
    /// What it wrote to stderr, up to the cap, with newlines as `\n`.
    pub stderr: String,
    /// Whether it wrote more than the cap. JSON that was cut is not read: the verdict is that of
    /// the exit code alone, where the server would have read it all.
    pub truncated: bool,
    /// The reason it gave in its JSON.
    pub reason: Option<String>,
    /// What it adds to the conversation.
    pub additional_context: Option<String>,
    /// What went wrong with the hook itself. The server lets things happen then.
    pub error: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl HookOutcome {
    /// Why it denied: its reason, else its stderr. What the agent reads in the end, for all hooks of
    /// the event together, is [`Trial::feedback`].
    pub fn feedback(&self) -> Option<&str> {
        feedback(self.blocked, self.reason.as_deref(), &self.stderr)
    }

    pub(crate) fn failed(error: String) -> Self {
        Self {
            exit_code: -1,
            error: Some(error),
            ..Self::default()
        }
    }

    /// A command's verdict.
    pub(crate) fn judge(exit_code: i32, stdout: String, stderr: String) -> Self {
        let mut outcome = Self {
            success: exit_code == 0,
            blocked: exit_code == 2,
            exit_code,
            ..Self::default()
        };
        // Whatever the exit code, an object on stdout counts; anything else is just text.
        match json::read(&stdout) {
            Err(NoValue::TooDeep) => {
                return Self::failed("Hook execution failed: its JSON is too deep".to_owned());
            }
            Ok(json @ Value::Dict(_)) => {
                let decision = json.get("decision").and_then(Value::as_text);
                outcome.blocked |= decision.is_some_and(|word| word.to_lowercase() == "deny");
                outcome.blocked |= json.get("continue").is_some_and(|value| !value.is_true());
                outcome.reason = json.get("reason").map(Value::to_text);
                outcome.additional_context = json.get("additionalContext").map(Value::to_text);
            }
            _ => {}
        }
        (outcome.stdout, outcome.stderr) = (stdout, stderr);
        outcome
    }

    /// A model's verdict. `kind` is `Prompt` or `Agent`.
    pub(crate) fn judge_reply(kind: &str, reply: Option<&str>) -> Self {
        let open = |why: String| Self {
            error: Some(why.clone()),
            reason: Some(why),
            ..Self::default()
        };
        let Some(reply) = reply else {
            return open(format!(
                "No LLM configured for {} hook",
                kind.to_lowercase()
            ));
        };
        if reply.is_empty() {
            return open(format!(
                "{kind} hook produced no final response — defaulting to allow"
            ));
        }
        let Some(json) = json::first_object(reply) else {
            return open(format!(
                "{kind} hook returned no parseable JSON — defaulting to allow"
            ));
        };
        let text = |key| json.get(key).map(Value::to_text).unwrap_or_default();
        let blocked = match text("decision").to_lowercase().as_str() {
            "deny" => true,
            "allow" => false,
            _ => {
                let why = "hook returned an invalid decision — defaulting to allow";
                return open(format!("{kind} {why}"));
            }
        };
        Self {
            success: true,
            blocked,
            reason: Some(text("reason")),
            ..Self::default()
        }
    }
}

pub(crate) fn feedback<'a>(
    blocked: bool,
    reason: Option<&'a str>,
    stderr: &'a str,
) -> Option<&'a str> {
    if !blocked {
        return None;
    }
    let stated = reason.filter(|text| !text.is_empty());
    let written = Some(stderr.trim()).filter(|_| !stderr.is_empty());
    stated.or(written).or(Some("Blocked by hook"))
}

/// What came of all the hooks that an event concerned, in the order they ran. Reads like a slice
/// of their outcomes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trial {
    /// The event they were run for.
    pub event: HookEventType,
    /// What each that ran did. Those after a denial do not run, where one can deny.
    pub outcomes: Vec<HookOutcome>,
}

impl Trial {
    /// Whether what the event is about is stopped: the tool does not run, the message is not
    /// answered, the agent goes on working.
    ///
    /// Never so for PostToolUse, SessionStart and SessionEnd; and not for a message that a hook
    /// adds context to, for the server then forgets that it was denied.
    pub fn denied(&self) -> bool {
        let lost = self.event == HookEventType::UserPromptSubmit && self.contexts().is_some();
        self.event.can_block() && !lost && self.outcomes.iter().any(|outcome| outcome.blocked)
    }

    /// Why, if it is: what the first that denied said. Of a Stop it is the context that its hooks
    /// add, where they add any.
    pub fn feedback(&self) -> Option<String> {
        if !self.denied() {
            return None;
        }
        let context = Some(&self.event).filter(|event| **event == HookEventType::Stop);
        let said = || self.outcomes.iter().find_map(HookOutcome::feedback);
        context
            .and_then(|_| self.contexts())
            .or_else(|| said().map(str::to_owned))
    }

    /// What the agent is told besides: beside a message, or at the session's start.
    pub fn context(&self) -> Option<String> {
        match self.event {
            HookEventType::UserPromptSubmit | HookEventType::SessionStart => self.contexts(),
            _ => None,
        }
    }

    fn contexts(&self) -> Option<String> {
        let contexts = self
            .outcomes
            .iter()
            .filter_map(|o| o.additional_context.as_deref());
        let parts: Vec<_> = contexts.filter(|text| !text.is_empty()).collect();
        (!parts.is_empty()).then(|| parts.join("\n"))
    }
}

impl Deref for Trial {
    type Target = [HookOutcome];

    fn deref(&self) -> &[HookOutcome] {
        &self.outcomes
    }
}

impl IntoIterator for Trial {
    type Item = HookOutcome;
    type IntoIter = std::vec::IntoIter<HookOutcome>;

    fn into_iter(self) -> Self::IntoIter {
        self.outcomes.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(out: &str, err: &str) -> HookOutcome {
        HookOutcome::judge(2, out.into(), err.into())
    }

    #[test]
    fn feedback_is_the_reason_then_stderr_then_a_default() {
        assert_eq!(judged(r#"{"reason": "r"}"#, "e").feedback(), Some("r"));
        assert_eq!(judged("", " e \n").feedback(), Some("e"));
        assert_eq!(judged("", "").feedback(), Some("Blocked by hook"));
        let allowed = HookOutcome::judge(1, String::new(), "e".into());
        assert!(allowed.feedback().is_none() && !allowed.success);
    }

    #[test]
    fn a_denial_counts_where_the_event_can_be_stopped() {
        let context = r#"{"additionalContext": "c", "reason": "r"}"#;
        for (event, out, denied, feedback, told) in [
            (HookEventType::PreToolUse, "", true, Some("e"), None),
            (HookEventType::PreToolUse, context, true, Some("r"), None),
            (HookEventType::PostToolUse, context, false, None, None),
            (HookEventType::UserPromptSubmit, "", true, Some("e"), None),
            (
                HookEventType::UserPromptSubmit,
                context,
                false,
                None,
                Some("c"),
            ),
            (HookEventType::SessionStart, context, false, None, Some("c")),
            (HookEventType::SessionEnd, context, false, None, None),
            (HookEventType::Stop, "", true, Some("e"), None),
            (HookEventType::Stop, context, true, Some("c"), None),
        ] {
            let outcomes = vec![HookOutcome::default(), judged(out, "e")];
            let trial = Trial {
                event: event.clone(),
                outcomes,
            };
            let got = (trial.denied(), trial.feedback(), trial.context());
            let texts = (feedback.map(str::to_owned), told.map(str::to_owned));
            assert_eq!(got, (denied, texts.0, texts.1), "{event} {out}");
            assert_eq!(trial[1].exit_code, 2);
        }
    }
}
