//! Single-line display of events, for terminals.

use std::fmt;

use super::{Event, Payload, text_of};
use crate::{printable, redact::Redactor};

/// The maximum number of characters in a summary.
const WIDTH: usize = 120;
/// The maximum number of bytes of a text that are processed for a summary.
const LOOKED_AT: usize = 16 * 1024;
/// The state keys whose values are shown. Their values are words or numbers; other values may be
/// secret or long.
const SHOWN_STATE: &[&str] = &[
    "execution_status",
    "max_iterations",
    "stuck_detection",
    "title",
];

/// Formats an event as one line: time, source, kind and [`summary`](Event::summary), such as
/// `12:34:56 agent  ActionEvent: terminal: ls -l`.
///
/// Secrets that [`redact`](crate::redact) detects by name or shape are hidden, and terminal control
/// sequences cannot take effect. A secret without a typical name or shape is not detected: use a
/// [`Redactor`] to hide known values.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.timestamp().get(11..19).unwrap_or("--:--:--");
        let source = one_line(self.source().as_str());
        write!(
            f,
            "{} {source:<11} {}",
            one_line(time),
            one_line(self.kind())
        )?;
        match self.summary() {
            summary if summary.is_empty() => Ok(()),
            summary => write!(f, ": {summary}"),
        }
    }
}

impl Event {
    /// Returns a summary of the event: one line of at most 120 characters. Decodes the event.
    ///
    /// The summary of an action contains the name of the tool and the purpose of the call. The
    /// summary is empty if the kind has no further content. Secrets are hidden and control
    /// characters are made visible, as in `Display`.
    pub fn summary(&self) -> String {
        let summary = one_line(&summary(self.payload()));
        match self.payload() {
            Payload::Malformed(_) => summary,
            _ => match self.malformed() {
                Some(flaw) if summary.is_empty() => one_line(&flaw.to_string()),
                _ => summary,
            },
        }
    }
}

fn summary(payload: &Payload) -> String {
    match payload {
        Payload::Message(message) => {
            format!(
                "[{}] {}",
                message.llm_message.role,
                message.llm_message.text()
            )
        }
        Payload::Action(action) => {
            let thought = || Some(text_of(&action.thought)).filter(|text| !text.trim().is_empty());
            let said = (action.summary.as_deref().map(str::to_owned))
                .or_else(thought)
                .or_else(|| Some(action.tool_call.as_ref()?.arguments.to_string()))
                .unwrap_or_default();
            // The server's own summary already begins with the tool's name.
            let said = said
                .strip_prefix(&*action.tool_name)
                .map_or(&*said, |rest| {
                    rest.strip_prefix(':').map_or(&*said, str::trim_start)
                });
            match said.trim().is_empty() {
                true => action.tool_name.to_string(),
                false => format!("{}: {said}", action.tool_name),
            }
        }
        Payload::Observation(seen) => {
            let failed = if seen.is_error() { "FAILED " } else { "" };
            format!("{} {failed}{}", seen.tool_name, seen.text())
        }
        Payload::UserReject(refused) => {
            format!(
                "{} rejected: {}",
                refused.tool_name, refused.rejection_reason
            )
        }
        Payload::AgentError(error) => format!("{} {}", error.tool_name, error.error),
        Payload::ConversationError(error) => format!("{}: {}", error.code, error.detail),
        Payload::ConversationStateUpdate(update) if update.is_full_state() => {
            let status = update.value.get("execution_status");
            let status = status.and_then(|status| status.as_text());
            format!("full_state, {}", status.as_deref().unwrap_or("?"))
        }
        Payload::ConversationStateUpdate(update) if SHOWN_STATE.contains(&&*update.key) => {
            format!("{} = {}", update.key, update.value)
        }
        // Show only the key and the length, because a configuration contains headers and addresses.
        Payload::ConversationStateUpdate(update) => {
            format!("{}, {} bytes", update.key, update.value.as_str().len())
        }
        Payload::HookExecution(hook) => format!(
            "{} `{}` {} (exit {}) {}",
            hook.hook_event_type,
            hook.hook_command,
            if hook.blocked { "DENIED" } else { "allowed" },
            hook.exit_code
                .map_or_else(|| "?".to_owned(), |code| code.to_string()),
            hook.reason.as_deref().unwrap_or_default()
        ),
        Payload::Condensation(condensed) => {
            format!("{} events forgotten", condensed.forgotten_event_ids.len())
        }
        Payload::ServerError(error) => format!("{}: {}", error.code, error.detail),
        Payload::Malformed(why) => why.to_string(),
        _ => String::new(),
    }
}

/// Returns a text as one line: without secrets and terminal control sequences, with single spaces,
/// and truncated to the width of a summary.
fn one_line(text: &str) -> String {
    let all = text.len() <= LOOKED_AT;
    let text = match all {
        true => text,
        false => {
            &text[..(0..=LOOKED_AT)
                .rev()
                .find(|at| text.is_char_boundary(*at))
                .unwrap_or(0)]
        }
    };
    // Remove styles before redaction: a colour sequence inside a name must not prevent its
    // detection.
    let text = printable(text);
    let mut stream = Redactor::new().stream();
    let mut shown = stream.push(&text);
    if all {
        shown.push_str(&stream.finish());
    }
    let mut line = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = line.char_indices().nth(WIDTH) {
        line.truncate(at);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(kind: &str, body: Value) -> Event {
        let mut event = json!({
            "id": "e", "timestamp": "2026-01-02T03:04:05", "source": "agent", "kind": kind,
        });
        if let (Value::Object(event), Value::Object(body)) = (&mut event, body) {
            event.extend(body);
        }
        Event::from_json(event.to_string()).unwrap()
    }

    #[test]
    fn secrets_of_the_state_are_not_shown() {
        for (key, value) in [
            (
                "agent",
                json!({"llm": {"extra_headers": {"x-key": "canary"}}}),
            ),
            ("brand_new", json!("canary")),
            (
                "secret_registry",
                json!({"secret_sources": {"A": {"value": "canary"}}}),
            ),
            ("mcp", json!({"url": "https://h/canary"})),
        ] {
            let shown = event(
                "ConversationStateUpdateEvent",
                json!({"key": key, "value": value}),
            );
            let shown = shown.to_string();
            assert!(!shown.contains("canary"), "{shown}");
            assert!(shown.contains(key) && shown.contains("bytes"), "{shown}");
        }
        let status = json!({"key": "execution_status", "value": "running"});
        assert_eq!(
            event("ConversationStateUpdateEvent", status).to_string(),
            "03:04:05 agent       ConversationStateUpdateEvent: execution_status = \"running\""
        );
    }

    #[test]
    fn secrets_in_texts_are_not_shown() {
        for text in [
            "export API_KEY=canary",
            "api_\x1b[1;31mkey\x1b[0m=canary",
            "clone https://u:canary?x@host/p",
            "curl -H 'Authorization: Bearer canary'",
            "{\"password\": \"canary\"}",
        ] {
            for shown in [
                event(
                    "AgentErrorEvent",
                    json!({"tool_name": "t", "tool_call_id": "c", "error": text}),
                ),
                event(
                    "ConversationErrorEvent",
                    json!({"code": text, "detail": text}),
                ),
                event(
                    "HookExecutionEvent",
                    json!({"hook_event_type": "Stop", "hook_command": text, "reason": text}),
                ),
                event(
                    "MessageEvent",
                    json!({"llm_message": {
                    "role": "user", "content": [{"type": "text", "text": text}]}}),
                ),
            ] {
                let shown = shown.to_string();
                assert!(!shown.contains("canary"), "{shown}");
            }
        }
    }

    #[test]
    fn terminal_control_characters_are_not_shown() {
        let bad = "a\x1b]0;title\x07\x1b[2J\r\u{9b}31m\u{202e}\u{2066}b\0\x08";
        let mut events = vec![
            event(
                "ActionEvent",
                json!({"tool_name": bad, "tool_call_id": "c", "summary": bad}),
            ),
            event(
                "MessageEvent",
                json!({"llm_message": {"role": bad, "content": [{"type": "text", "text": bad}]}}),
            ),
            event(
                "ConversationErrorEvent",
                json!({"code": bad, "detail": bad}),
            ),
            event(
                "ConversationStateUpdateEvent",
                json!({"key": bad, "value": bad}),
            ),
            event(
                "ConversationStateUpdateEvent",
                json!({"key": "title", "value": bad}),
            ),
            event("ServerErrorEvent", json!({"code": bad, "detail": bad})),
            event(
                "UserRejectObservation",
                json!({"action_id": "a", "tool_name": bad, "rejection_reason": bad}),
            ),
            event(bad, json!({})),
        ];
        let timestamp = format!("0123456789T\x1b\x07\r\n\x1b\x1b\x1b\x1b{bad}");
        let header = json!({"id": "e", "kind": "X", "source": bad, "timestamp": timestamp});
        events.push(Event::from_json(header.to_string()).unwrap());
        for event in events {
            for shown in [event.to_string(), event.summary()] {
                let acts = |letter: char| {
                    letter.is_control() || ('\u{202a}'..='\u{2069}').contains(&letter)
                };
                assert!(!shown.contains(acts), "{shown:?}");
            }
        }
    }

    #[test]
    fn an_action_is_displayed_once_and_briefly() {
        let summary = "finish: {\"message\": \"done\"}";
        let finish = json!({"tool_name": "finish", "tool_call_id": "c", "summary": summary});
        let finish = event("ActionEvent", finish);
        assert_eq!(finish.summary(), "finish: {\"message\": \"done\"}");
        assert_eq!(
            finish.to_string(),
            "03:04:05 agent       ActionEvent: finish: {\"message\": \"done\"}"
        );
        // Without a summary: the arguments of the call, or else the tool alone.
        let call = json!({"id": "c", "name": "terminal", "arguments": "{\"command\": \"ls\"}"});
        let call = json!({"tool_name": "terminal", "tool_call_id": "c", "tool_call": call});
        assert_eq!(
            event("ActionEvent", call).summary(),
            "terminal: {\"command\": \"ls\"}"
        );
        let bare = json!({"tool_name": "terminal", "tool_call_id": "c"});
        assert_eq!(event("ActionEvent", bare).summary(), "terminal");
        let long = json!({"tool_name": "t", "tool_call_id": "c", "summary": "x ".repeat(1 << 20)});
        assert_eq!(
            event("ActionEvent", long).summary().chars().count(),
            WIDTH + 1
        );
    }

    #[test]
    fn a_cut_text_shows_no_part_of_a_secret() {
        let text = format!("{}https://canary", " ".repeat(LOOKED_AT - 10));
        let event = event(
            "AgentErrorEvent",
            json!({"tool_name": "t", "tool_call_id": "c", "error": text + ":secret@host"}),
        );
        assert_eq!(event.summary(), "t");
    }
}
