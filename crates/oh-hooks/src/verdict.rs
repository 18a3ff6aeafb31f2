//! What an exit code and an output mean: the server's reading of them, and nothing else.

use serde_json::Value;

/// What one hook did when it was run here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HookOutcome {
    /// The hook's label: its command, or kind and name.
    pub hook: String,
    /// Whether it ended with 0.
    pub success: bool,
    /// Whether it denied. Whether that stops anything depends on the event.
    pub blocked: bool,
    /// Its exit code; minus the signal that ended it; −1 when it did not come to an end.
    pub exit_code: i32,
    /// What it wrote to stdout, up to the cap.
    pub stdout: String,
    /// What it wrote to stderr, up to the cap.
    pub stderr: String,
    /// The reason it gave in its JSON.
    pub reason: Option<String>,
    /// What it adds to the conversation.
    pub additional_context: Option<String>,
    /// What went wrong with the hook itself. The server lets things happen then.
    pub error: Option<String>,
    /// How long it took.
    pub took: std::time::Duration,
}

impl HookOutcome {
    /// What the agent is told when it denied: its reason, else its stderr.
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

    pub(crate) fn judge(exit_code: i32, stdout: String, stderr: String) -> Self {
        let mut outcome = Self {
            success: exit_code == 0,
            blocked: exit_code == 2,
            exit_code,
            ..Self::default()
        };
        // Whatever the exit code, an object on stdout counts; anything else is just text.
        if let Ok(Value::Object(json)) = serde_json::from_str(&stdout) {
            let decision = json.get("decision").and_then(Value::as_str);
            outcome.blocked |= decision.is_some_and(|word| word.to_lowercase() == "deny");
            outcome.blocked |= json.get("continue").is_some_and(|value| !truthy(value));
            outcome.reason = json.get("reason").map(text);
            outcome.additional_context = json.get("additionalContext").map(text);
        }
        (outcome.stdout, outcome.stderr) = (stdout, stderr);
        outcome
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

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// A value as the server, written in Python, turns it into text.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feedback_is_the_reason_then_stderr_then_a_default() {
        let judged = |out: &str, err: &str| HookOutcome::judge(2, out.into(), err.into());
        assert_eq!(judged(r#"{"reason": "r"}"#, "e").feedback(), Some("r"));
        assert_eq!(judged("", " e \n").feedback(), Some("e"));
        assert_eq!(judged("", "").feedback(), Some("Blocked by hook"));
        let allowed = HookOutcome::judge(1, String::new(), "e".into());
        assert!(allowed.feedback().is_none() && !allowed.success);
    }
}
