//! The output of a run: text for people, or a JSON object a line for programs.

use std::{
    env,
    io::{self, IsTerminal as _, Stdout, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use openhands::{
    Conversation, ConversationId, Event, Llm, SecurityRisk,
    conversation::{PendingAction, Token},
    protocol::printable,
    view::{Live, Printer as _, Terminal},
};
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use tokio::{task::JoinHandle, time};

use crate::{
    records::{Record, clean},
    show::view,
};

/// The version of the schema of the lines. Programs must ignore unknown types and fields; the
/// version changes only if a known one changes.
const SCHEMA: u32 = 1;

/// The time between two drawings of the live area.
const REFRESH: Duration = Duration::from_millis(100);

/// A line of the output for programs.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    /// The first line: the server and the conversation are being started.
    Starting {
        schema: u32,
        conversation: ConversationId,
        directory: &'a str,
        record: &'a str,
    },
    /// The conversation has started, or is continued.
    Started {
        schema: u32,
        conversation: ConversationId,
        directory: &'a str,
        server_version: &'a str,
        record: Option<&'a str>,
    },
    /// An event of the conversation, with its place in the log.
    Event { seq: u64, event: &'a RawValue },
    /// Actions wait for one answer, which names them all.
    ApprovalRequested { actions: Vec<Asked<'a>> },
    /// Actions that a rule of this program approves.
    ApprovedByRule { actions: &'a [String] },
    /// Actions that no longer wait: they were answered here, or by another program.
    ApprovalClosed { actions: &'a [String] },
    /// An input line was not understood, or came too late. It had no effect.
    InputRejected { message: &'a str },
    /// The agent does nothing more until somebody sends a message or lets it go on.
    RunEnded {
        status: &'a str,
        exit_code: u8,
        error: Option<&'a str>,
    },
    /// The model has judged a round of a goal.
    GoalRound {
        round: u64,
        rounds: u64,
        score: f64,
        missing: &'a str,
    },
    /// A goal has ended.
    GoalEnded { status: &'a str, rounds: u64 },
    /// The last line.
    Ended {
        record: &'a Record,
        answer: Option<&'a str>,
    },
}

/// An action that waits for approval.
#[derive(Serialize)]
struct Asked<'a> {
    id: &'a str,
    tool: &'a str,
    summary: Option<&'a str>,
    risk: SecurityRisk,
    event: &'a RawValue,
}

/// The output. Clones write to the same place.
#[derive(Clone)]
pub(crate) struct Output {
    json: bool,
    out: Arc<Mutex<Out>>,
}

struct Out {
    /// Set when nobody reads stdout any more. The run goes on without output.
    closed: bool,
    terminal: Live<Stdout>,
    /// Whether the live area is in use.
    watched: bool,
    /// Whether a question is open, which the live area would cover.
    asking: bool,
}

/// Shows in the live area what is under way, until it is dropped.
pub(crate) struct Watching {
    task: JoinHandle<()>,
    output: Output,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
        self.output.write(|out| {
            out.watched = false;
            out.terminal.hide()
        });
    }
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let mut terminal = Terminal::stdout(view()).live();
        // Writes nothing, because nothing is drawn yet.
        let closed = terminal.hide().is_err();
        let out = Out {
            closed,
            terminal,
            watched: false,
            asking: false,
        };
        let out = Arc::new(Mutex::new(out));
        Self { json, out }
    }

    /// Writes a line to stderr: progress, and what a person must know.
    pub(crate) fn note(&self, text: &str) {
        self.above(|out| {
            // The note begins on a new line if a question has no answer yet.
            let start = if out.watched && out.asking { "\n" } else { "" };
            let _ = writeln!(io::stderr(), "{start}oh: {text}");
        });
    }

    /// Makes the model stream its text if that text is shown and LLM_STREAM does not decide.
    pub(crate) fn streaming(&self, llm: Llm) -> Llm {
        let is_shown = !self.json && io::stdout().is_terminal();
        match is_shown && env::var_os("LLM_STREAM").is_none() {
            true => llm.stream(true),
            false => llm,
        }
    }

    /// Shows in the live area what is under way in the conversation. Only for programs at whose
    /// terminal nobody types meanwhile. `None` if the output is for programs.
    pub(crate) fn watch(&self, conversation: &Conversation) -> Option<Watching> {
        if self.json {
            return None;
        }
        let mut tokens = conversation.tokens();
        let output = self.clone();
        let task = tokio::spawn(async move {
            let mut ticks = time::interval(REFRESH);
            loop {
                tokio::select! {
                    token = tokens.next() => match token {
                        Some(token) => output.token(&token),
                        None => return,
                    },
                    _ = ticks.tick() => output.write(|out| out.terminal.refresh()),
                }
            }
        });
        self.write(|out| {
            out.watched = true;
            out.terminal.show()
        });
        let output = self.clone();
        Some(Watching { task, output })
    }

    fn token(&self, token: &Token) {
        self.write(|out| {
            out.terminal.token(token);
            Ok(())
        });
    }

    /// Writes to stderr while the live area is removed.
    fn above(&self, write: impl FnOnce(&mut Out)) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // A closed stdout is noticed by the next event.
        let _ = out.terminal.hide();
        write(&mut out);
        if out.watched && !out.asking {
            let _ = out.terminal.show();
        }
    }

    pub(crate) fn starting(&self, record: &Record, place: &str) {
        match self.json {
            true => self.line(&Line::Starting {
                schema: SCHEMA,
                conversation: record.conversation,
                directory: &record.directory,
                record: place,
            }),
            false => self.note(&format!("starting in {}", clean(&record.directory))),
        }
    }

    pub(crate) fn started(&self, record: &Record, place: Option<&str>) {
        match self.json {
            true => self.line(&Line::Started {
                schema: SCHEMA,
                conversation: record.conversation,
                directory: &record.directory,
                server_version: &record.server_version,
                record: place,
            }),
            false => self.note(&format!("conversation {}", record.conversation)),
        }
    }

    pub(crate) fn event(&self, seq: u64, event: &Event) {
        if !self.json {
            return self.write(|out| out.terminal.print(event));
        }
        // An event that is no JSON is not sent by a server. It is in the file of events.
        if let Ok(event) = serde_json::from_str(event.as_json()) {
            self.line(&Line::Event { seq, event });
        }
    }

    pub(crate) fn approval_requested(&self, actions: &[PendingAction], question: &str) {
        if self.json {
            let actions = actions.iter().filter_map(|action| {
                Some(Asked {
                    id: action.id(),
                    tool: action.tool_name(),
                    summary: action.summary(),
                    risk: action.risk(),
                    event: serde_json::from_str(action.event().as_json()).ok()?,
                })
            });
            let actions = actions.collect();
            return self.line(&Line::ApprovalRequested { actions });
        }
        self.note("these actions wait for approval:");
        self.above(|out| {
            for action in actions {
                let _ = writeln!(io::stderr(), "{}", whole(action.event()));
            }
            let _ = write!(io::stderr(), "{question}");
            let _ = io::stderr().flush();
            out.asking = !question.is_empty();
        });
    }

    pub(crate) fn approved_by_rule(&self, actions: &[String]) {
        match self.json {
            true => self.line(&Line::ApprovedByRule { actions }),
            false => self.note("approved by a rule"),
        }
    }

    pub(crate) fn approval_closed(&self, actions: &[String]) {
        if self.json {
            return self.line(&Line::ApprovalClosed { actions });
        }
        self.above(|out| out.asking = false);
    }

    /// Shows that another program has answered.
    pub(crate) fn approval_withdrawn(&self, actions: &[String]) {
        if !self.json {
            self.note("another program has answered");
        }
        self.approval_closed(actions);
    }

    pub(crate) fn input_rejected(&self, message: &str) {
        match self.json {
            true => self.line(&Line::InputRejected { message }),
            false => self.note(message),
        }
    }

    pub(crate) fn ended(&self, record: &Record, answer: Option<&str>) {
        if self.json {
            return self.line(&Line::Ended { record, answer });
        }
        self.write(|out| out.terminal.finish());
        let reason = record
            .error
            .as_deref()
            .map_or(String::new(), |error| format!(": {}", clean(error)));
        let cost = record
            .cost
            .map_or("cost unknown".to_owned(), |cost| format!("${cost:.4}"));
        let (status, events, seconds) = (&record.status, record.events, record.seconds);
        self.note(&format!(
            "{status}{reason} ({events} events, {cost}, {seconds:.1} s)"
        ));
    }

    /// Shows the judgment about a round of a goal.
    pub(crate) fn goal_round(&self, round: u64, rounds: u64, score: f64, missing: &str) {
        if self.json {
            return self.line(&Line::GoalRound {
                round,
                rounds,
                score,
                missing,
            });
        }
        let missing = match missing {
            "" => String::new(),
            missing => format!("; missing: {}", clean(missing)),
        };
        self.note(&format!("round {round} of {rounds}: {score:.2}{missing}"));
    }

    /// Shows how a goal has ended.
    pub(crate) fn goal_ended(&self, status: &str, rounds: u64) {
        match self.json {
            true => self.line(&Line::GoalEnded { status, rounds }),
            false => self.note(&format!("{} after {rounds} rounds", clean(status))),
        }
    }

    /// Shows that a run has ended, while this program goes on.
    pub(crate) fn run_ended(&self, status: &str, exit_code: u8, error: Option<&str>) {
        if self.json {
            return self.line(&Line::RunEnded {
                status,
                exit_code,
                error,
            });
        }
        let reason = error.map_or(String::new(), |error| format!(": {}", clean(error)));
        self.note(&format!("{status}{reason}"));
    }

    /// Returns whether nobody reads stdout any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.out
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed
    }

    fn line(&self, line: &Line<'_>) {
        // The types above always have a JSON form.
        if let Ok(line) = serde_json::to_string(line) {
            self.write(|_| {
                let mut out = io::stdout().lock();
                writeln!(out, "{line}").and_then(|()| out.flush())
            });
        }
    }

    fn write(&self, write: impl FnOnce(&mut Out) -> io::Result<()>) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if !out.closed {
            out.closed = write(&mut out).is_err();
        }
    }
}

/// Returns an action as it will be executed, in full: a summary could hide what is approved.
fn whole(action: &Event) -> String {
    let json = action.as_json();
    let mut event: Value = serde_json::from_str(json).unwrap_or_default();
    let arguments = match event["action"].take() {
        Value::Null => json.to_owned(),
        arguments => format!("{arguments:#}"),
    };
    let tool = event["tool_name"].as_str().unwrap_or_default();
    let risk = event["security_risk"].as_str().unwrap_or("UNKNOWN");
    printable(&format!("{tool} ({risk})\n{arguments}")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_shows_the_whole_action_and_not_its_summary() {
        let command = format!("rm -rf ~ # {}\u{1b}[2K\u{202e}", "x".repeat(500));
        let event = serde_json::json!({
            "id": "a", "timestamp": "", "source": "agent", "kind": "ActionEvent",
            "tool_name": "terminal", "summary": "lists files", "security_risk": "LOW",
            "action": {"kind": "TerminalAction", "command": command},
        });
        let shown = whole(&Event::from_json(event.to_string()).unwrap());
        assert!(shown.starts_with("terminal (LOW)\n"), "{shown}");
        assert!(
            shown.contains("rm -rf ~") && shown.contains(&"x".repeat(500)),
            "{shown}"
        );
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
        let unknown = r#"{"id":"a","timestamp":"","source":"agent","kind":"ActionEvent","x":"y"}"#;
        assert!(whole(&Event::from_json(unknown).unwrap()).contains(r#""x":"y""#));
    }
}
