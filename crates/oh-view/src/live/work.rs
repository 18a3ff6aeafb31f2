//! The message that the model is writing, and the running actions.

use std::{collections::VecDeque, time::Instant};

use oh_protocol::{
    Event, ExecutionStatus, Payload, Source,
    event::{Action, StateChange},
};

use crate::{
    Part, Style, View, elapsed,
    live::writing::Writing,
    wrap::{self, Break, Span},
};

/// The number of finished items that are remembered: late pieces of them are not shown.
const FINISHED: usize = 16;

/// A row of the live area.
pub(super) type Row = Vec<Span<Style>>;

/// The current work of an agent.
#[derive(Debug)]
pub(super) struct Work {
    status: Status,
    /// When the model was probably asked.
    asked: Instant,
    actions: Vec<Running>,
    writing: Option<Writing>,
    finished: VecDeque<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Idle,
    Running,
    /// Actions wait for approval.
    Waiting,
}

/// An action without a result.
#[derive(Debug)]
struct Running {
    call: Box<str>,
    /// The tool and its input, cleaned. `None` if the view does not show the action.
    label: Option<(String, String)>,
    begun: Instant,
}

impl Work {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            status: Status::Idle,
            asked: now,
            actions: Vec::new(),
            writing: None,
            finished: VecDeque::new(),
        }
    }

    /// Takes an event into account that is about to be printed.
    pub(super) fn event(&mut self, event: &Event, view: &View, now: Instant) {
        match event.payload() {
            Payload::Action(body) => {
                self.finish(event.id());
                self.writing = None;
                let takes_no_time = matches!(
                    body.action,
                    None | Some(Action::Finish(_) | Action::Think(_))
                );
                if !takes_no_time {
                    self.actions.push(Running {
                        call: body.tool_call_id.as_str().into(),
                        label: label(event, view),
                        begun: now,
                    });
                }
            }
            Payload::Message(_) if *event.source() == Source::Agent => {
                self.finish(event.id());
                self.writing = None;
            }
            Payload::Observation(body) => self.end(&body.tool_call_id, now),
            Payload::UserReject(body) => self.end(&body.tool_call_id, now),
            Payload::AgentError(body) => self.end(&body.tool_call_id, now),
            Payload::ConversationStateUpdate(update) => match &update.change {
                StateChange::ExecutionStatus(status) => self.status(status, now),
                StateChange::FullState(state) => self.status(&state.execution_status(), now),
                _ => {}
            },
            _ => {}
        }
    }

    fn end(&mut self, call: &str, now: Instant) {
        self.actions.retain(|action| *action.call != *call);
        self.asked = now;
    }

    fn status(&mut self, status: &ExecutionStatus, now: Instant) {
        match status {
            ExecutionStatus::Running => {
                if self.status == Status::Waiting {
                    for action in &mut self.actions {
                        action.begun = now;
                    }
                }
                if self.status != Status::Running {
                    self.asked = now;
                }
                self.status = Status::Running;
            }
            ExecutionStatus::WaitingForConfirmation => self.status = Status::Waiting,
            // A paused agent still completes its current step.
            ExecutionStatus::Paused => self.status = Status::Idle,
            _ => self.clear(),
        }
    }

    /// Forgets all work.
    pub(super) fn clear(&mut self) {
        self.status = Status::Idle;
        self.actions.clear();
        self.writing = None;
    }

    /// Adds a piece of text.
    #[cfg_attr(not(feature = "conversation"), allow(dead_code, reason = "no tokens"))]
    pub(super) fn piece(&mut self, item: &str, is_reasoning: bool, text: &str, view: &View) {
        if self.finished.iter().any(|id| **id == *item) {
            return;
        }
        // The answer replaces the reasoning before it.
        let same =
            |writing: &Writing| *writing.item == *item && writing.is_reasoning == is_reasoning;
        match &mut self.writing {
            Some(writing) if same(writing) => writing.push(text),
            writing => writing
                .insert(Writing::new(item, is_reasoning, view.redactor()))
                .push(text),
        }
    }

    /// Marks the text of an item as incomplete.
    #[cfg_attr(not(feature = "conversation"), allow(dead_code, reason = "no tokens"))]
    pub(super) fn lagged(&mut self, item: &str) {
        if let Some(writing) = self
            .writing
            .as_mut()
            .filter(|writing| *writing.item == *item)
        {
            writing.cut();
        }
    }

    /// Forgets the text of an item: it starts again, was aborted, or its event has the text.
    #[cfg_attr(not(feature = "conversation"), allow(dead_code, reason = "no tokens"))]
    pub(super) fn forget(&mut self, item: &str) {
        self.writing.take_if(|writing| *writing.item == *item);
    }

    fn finish(&mut self, item: &str) {
        if self.finished.len() == FINISHED {
            self.finished.pop_front();
        }
        self.finished.push_back(item.into());
    }

    /// Returns at most `count` rows of `columns`. Empty if nothing is under way.
    pub(super) fn rows(&self, columns: usize, count: usize, now: Instant) -> Vec<Row> {
        let mut below: Vec<Row> = Vec::new();
        for action in &self.actions {
            let Some((tool, input)) = &action.label else {
                continue;
            };
            let state = match self.status {
                Status::Waiting => "  waits for approval".to_owned(),
                _ => format!(
                    "  {}",
                    elapsed::whole(now.saturating_duration_since(action.begun))
                ),
            };
            below.push(vec![
                (Style::Action, tool.clone()),
                (Style::Quiet, state),
                (Style::Plain, format!("  {input}")),
            ]);
        }
        // The newest actions matter most, if there is no room for all.
        below.drain(..below.len().saturating_sub(count));
        let count_above = count - below.len();
        let mut rows = match &self.writing {
            Some(writing) => writing.rows(columns, count_above),
            None => Vec::new(),
        };
        let is_idle = self.status != Status::Running || !self.actions.is_empty();
        if rows.is_empty() && below.is_empty() && !is_idle && count > 0 {
            let waited = elapsed::whole(now.saturating_duration_since(self.asked));
            below.push(vec![(
                Style::Quiet,
                format!("waiting for the model  {waited}"),
            )]);
        }
        rows.extend(below.into_iter().map(|row| cut(row, columns)));
        rows
    }
}

/// Returns the tool of an action, and the beginning of its input.
fn label(event: &Event, view: &View) -> Option<(String, String)> {
    let block = view.blocks(event).into_iter().next()?;
    let input = block.parts.iter().find_map(|part| match part {
        Part::Terminal { command, .. } => Some(format!("$ {}", first_line(command))),
        Part::Diff { path, .. } => Some(path.clone()),
        Part::Fields(fields) => {
            let (name, value) = fields.first()?;
            Some(format!("{name}: {}", first_line(value)))
        }
        _ => None,
    });
    Some((block.title, input.unwrap_or(block.note)))
}

fn first_line(text: &str) -> &str {
    text.trim_start().lines().next().unwrap_or_default()
}

/// Shortens a row to the width.
pub(super) fn cut(row: Row, columns: usize) -> Row {
    let mut rows = wrap::rows(&row, columns, Break::Anywhere).into_iter();
    match (rows.next(), rows.next()) {
        (Some(whole), None) => whole,
        _ => {
            let shorter = wrap::rows(&row, columns.saturating_sub(1).max(1), Break::Anywhere);
            let mut first = shorter.into_iter().next().unwrap_or_default();
            first.push((Style::Quiet, "…".to_owned()));
            first
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn event(kind: &str, rest: &str) -> Event {
        let event =
            format!(r#"{{"id":"{kind}","timestamp":"","source":"agent","kind":"{kind}",{rest}}}"#);
        Event::from_json(event).unwrap()
    }

    fn status(status: &str) -> Event {
        let change = format!(r#""key":"execution_status","value":"{status}""#);
        event("ConversationStateUpdateEvent", &change)
    }

    fn action() -> Event {
        event(
            "ActionEvent",
            r#""tool_name":"terminal","tool_call_id":"c",
            "action":{"command":"make\nx","kind":"TerminalAction"}"#,
        )
    }

    /// Returns the rows after a number of seconds.
    fn shown(work: &Work, start: Instant, seconds: u64) -> Vec<String> {
        let rows = work.rows(60, 3, start + Duration::from_secs(seconds));
        let rows = rows.into_iter();
        rows.map(|row| row.into_iter().map(|(_, text)| text).collect())
            .collect()
    }

    #[test]
    fn an_action_has_its_time_until_its_result_arrives() {
        let (view, start) = (View::new(), Instant::now());
        let mut work = Work::new(start);
        assert_eq!(shown(&work, start, 5), [""; 0]);
        work.event(&status("running"), &view, start + Duration::from_secs(10));
        assert_eq!(shown(&work, start, 15), ["waiting for the model  5 s"]);
        work.event(&action(), &view, start + Duration::from_secs(20));
        let later = |time: &str| [format!("terminal  {time}  $ make")];
        assert_eq!(shown(&work, start, 79), later("59 s"));
        assert_eq!(shown(&work, start, 82), later("1 min 02 s"));
        assert_eq!(shown(&work, start, 20 + 3720), later("1 h 02 min"));
        // The time of an approval does not count.
        let waiting = status("waiting_for_confirmation");
        work.event(&waiting, &view, start + Duration::from_secs(21));
        assert_eq!(shown(&work, start, 50), later("waits for approval"));
        work.event(&status("running"), &view, start + Duration::from_secs(60));
        assert_eq!(shown(&work, start, 61), later("1 s"));
        // A paused agent completes its step.
        work.event(&status("paused"), &view, start + Duration::from_secs(62));
        assert_eq!(shown(&work, start, 63), later("3 s"));
        let error = r#""tool_name":"t","tool_call_id":"c","error":"e""#;
        work.event(&event("AgentErrorEvent", error), &view, start);
        assert_eq!(shown(&work, start, 64), [""; 0]);
        work.event(&status("running"), &view, start);
        work.event(&action(), &view, start);
        work.event(&status("finished"), &view, start);
        assert_eq!(shown(&work, start, 64), [""; 0]);
    }

    #[test]
    fn a_text_is_shown_until_its_event_is_printed() {
        let (view, start) = (View::new(), Instant::now());
        let mut work = Work::new(start);
        work.event(&status("running"), &view, start);
        work.piece("m", true, "thinking ", &view);
        assert_eq!(shown(&work, start, 0), ["thinking"]);
        work.piece("m", false, "an answer\nwith 2 lines ", &view);
        assert_eq!(shown(&work, start, 0), ["an answer", "with 2 lines"]);
        work.forget("m");
        work.piece("MessageEvent", false, "again\n", &view);
        work.lagged("MessageEvent");
        work.piece("MessageEvent", false, "lost\n", &view);
        assert_eq!(shown(&work, start, 0), ["again …"]);
        let message = r#""llm_message":{"role":"assistant","content":[]}"#;
        work.event(&event("MessageEvent", message), &view, start);
        // Pieces that arrive after the event are late.
        work.piece("MessageEvent", false, "late ", &view);
        assert_eq!(shown(&work, start, 0), ["waiting for the model  0 s"]);
    }
}
