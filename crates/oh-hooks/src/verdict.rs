//! Evaluation of exit codes, output and model answers by the server's rules, for one hook and for
//! all hooks of an event.

use std::{ops::Deref, time::Duration};

use oh_protocol::hooks::HookEventType;

use crate::json::{self, NoValue, Value};

/// The result of one hook that was run locally.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HookOutcome {
    /// The hook's label: its command, or its kind and name.
    pub hook: String,
    /// Whether the command exited with 0. For a prompt or agent hook: whether the model returned a
    /// valid decision.
    pub success: bool,
    /// Whether the hook denied the event. Some events cannot be denied; see [`Trial::denied`].
    pub blocked: bool,
    /// The exit code. A negative signal number if a signal ended the command; −1 if the command did
    /// not run to its end.
    pub exit_code: i32,
    /// The hook's stdout, up to the cap, with newlines as `\n`.
    pub stdout: String,
    /// The hook's stderr, up to the cap, with newlines as `\n`.
    pub stderr: String,
    /// Whether the hook wrote more than the cap. Truncated JSON is not decoded: the verdict depends
    /// on the exit code alone, whereas the server would have decoded the full output.
    pub truncated: bool,
    /// The reason in the hook's JSON.
    pub reason: Option<String>,
    /// The context that the hook adds to the conversation.
    pub additional_context: Option<String>,
    /// Why the hook itself failed. The server allows the event in this case.
    pub error: Option<String>,
    /// How long the hook ran.
    pub duration: Duration,
}

impl HookOutcome {
    /// Returns why the hook denied the event: its reason, or else its stderr. [`Trial::feedback`]
    /// returns what the agent gets for all hooks of the event together.
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

    /// Evaluates the result of a command.
    pub(crate) fn judge(exit_code: i32, stdout: String, stderr: String) -> Self {
        let mut outcome = Self {
            success: exit_code == 0,
            blocked: exit_code == 2,
            exit_code,
            ..Self::default()
        };
        // A JSON object on stdout counts with any exit code; other output is plain text.
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

    /// Evaluates the answer of a model. `kind` is `Prompt` or `Agent`.
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

/// The results of all hooks that ran for an event, in order. Dereferences to a slice of the
/// outcomes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trial {
    /// The event that the hooks were run for.
    pub event: HookEventType,
    /// The outcomes of the hooks that ran. If the event can be denied, hooks after a denial do not
    /// run.
    pub outcomes: Vec<HookOutcome>,
}

impl Trial {
    /// Returns whether the hooks stop the event: the tool does not run, the message is not
    /// answered, or the agent continues to work.
    ///
    /// Always `false` for PostToolUse, SessionStart and SessionEnd. Also `false` for a message if a
    /// hook adds context, because the server then ignores the denial.
    pub fn denied(&self) -> bool {
        let lost = self.event == HookEventType::UserPromptSubmit && self.contexts().is_some();
        self.event.can_block() && !lost && self.outcomes.iter().any(|outcome| outcome.blocked)
    }

    /// Returns why the event was denied: the feedback of the first hook that denied it. For a Stop,
    /// returns the context that the hooks add, if there is any. Returns `None` if the event was not
    /// denied.
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

    /// Returns the context that the agent gets in addition to a message or at the start of a
    /// session.
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
        for (event, out, denied, feedback, added) in [
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
            let texts = (feedback.map(str::to_owned), added.map(str::to_owned));
            assert_eq!(got, (denied, texts.0, texts.1), "{event} {out}");
            assert_eq!(trial[1].exit_code, 2);
        }
    }
}
