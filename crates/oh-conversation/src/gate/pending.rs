//! An action that waits for approval. Contains no I/O.

use std::fmt;

use oh_protocol::{
    Event, Payload,
    event::{Action, ActionEvent, SecurityRisk},
};

/// An action that waits for approval.
#[derive(Debug, Clone)]
pub struct PendingAction {
    event: Event,
}

impl PendingAction {
    pub(crate) fn new(event: Event) -> Self {
        Self { event }
    }

    /// Returns the action's event, an `ActionEvent`.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Returns the event's id, which identifies the action.
    pub fn id(&self) -> &str {
        self.event.id()
    }

    /// Returns the name of the tool that would run.
    pub fn tool_name(&self) -> &str {
        self.body().map_or("", |body| body.tool_name.as_str())
    }

    /// Returns the action itself, typed by its tool. `None` if this version has no type for it.
    pub fn action(&self) -> Option<&Action> {
        self.body()?.action.as_ref()
    }

    /// Returns the risk of the action, as assessed by the agent's model or the conversation's
    /// security analyzer.
    pub fn risk(&self) -> SecurityRisk {
        self.body()
            .map_or(SecurityRisk::Unknown, |body| body.security_risk.clone())
    }

    /// Returns the model's short summary of the action, if there is one.
    pub fn summary(&self) -> Option<&str> {
        self.body()?.summary.as_deref()
    }

    fn body(&self) -> Option<&ActionEvent> {
        match self.event.payload() {
            Payload::Action(body) => Some(body),
            _ => None,
        }
    }
}

/// Two pending actions are equal if they have the same id.
impl PartialEq for PendingAction {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for PendingAction {}

/// Shows the tool, the risk, and what the tool would do, in one line: the model's summary, its
/// thought, or the arguments of the call. Hides secrets and control characters as
/// [`Event::summary`] does.
///
/// The line is too little for a decision: the model writes its summary, which may differ from the
/// action. Show a person the whole [`action`](PendingAction::action) before an approval.
impl fmt::Display for PendingAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = self.event.summary();
        let (tool, said) = match summary.split_once(": ") {
            Some((tool, said)) if tool == self.tool_name() => (tool, Some(said)),
            _ => (&*summary, None),
        };
        write!(f, "{tool} ({})", self.risk())?;
        match said {
            Some(said) => write!(f, ": {said}"),
            None => Ok(()),
        }
    }
}
