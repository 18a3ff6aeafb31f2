//! An event in one line, for people at a terminal.

use std::fmt;

use super::{Event, Payload, text_of};

const WIDTH: usize = 120;

/// `12:34:56 agent  ActionEvent terminal: ls -l`
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.timestamp().get(11..19).unwrap_or("--:--:--");
        write!(f, "{time} {:<11} {}", self.source(), self.kind())?;
        let summary = summary(self.payload());
        if summary.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", one_line(&summary))
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
            let said = action
                .summary
                .as_deref()
                .map_or_else(|| text_of(&action.thought), str::to_owned);
            format!("{} {said}", action.tool_name)
        }
        Payload::Observation(seen) => {
            let failed = if seen.is_error() { "FAILED " } else { "" };
            format!("{} {failed}{}", seen.tool_name, seen.text())
        }
        Payload::UserReject(refused) => {
            format!(
                "{} refused: {}",
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
        Payload::ConversationStateUpdate(update) => format!("{} = {}", update.key, update.value),
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

/// White space folded, cut to a terminal's width.
fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = line.char_indices().nth(WIDTH) {
        line.truncate(at);
        line.push('…');
    }
    line
}
