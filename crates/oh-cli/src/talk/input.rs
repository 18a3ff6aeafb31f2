//! Lines of stdin, and the answers to approvals in them.

use std::io::{self, IsTerminal as _};

use openhands::conversation::PendingAction;
use serde::Deserialize;
use tokio::sync::mpsc;

/// An answer of a program: a line of JSON. It names the actions that the program has seen, so that
/// an early or late line approves nothing else.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    /// The ids of all actions of the request.
    pub(crate) actions: Vec<String>,
    pub(crate) approve: bool,
    /// Why the actions are rejected, for the agent.
    pub(crate) reason: Option<String>,
}

impl Answer {
    /// Returns the approval of these actions.
    pub(crate) fn approval(actions: &[PendingAction]) -> Self {
        let actions = actions.iter().map(PendingAction::id);
        Self {
            actions: actions.map(str::to_owned).collect(),
            approve: true,
            reason: None,
        }
    }

    /// Decodes a line of a program, which must name exactly these actions.
    pub(crate) fn of_program(line: &str, actions: &[String]) -> Result<Self, String> {
        let answer: Self = serde_json::from_str(line).map_err(|error| {
            format!(
                "the line is no answer, such as {{\"actions\": [\"ID\"], \"approve\": true}}: \
                 {error}"
            )
        })?;
        answer.about(actions)
    }

    /// Returns the answer if it names exactly these actions.
    pub(crate) fn about(self, actions: &[String]) -> Result<Self, String> {
        let mut named = self.actions.clone();
        let mut asked = actions.to_vec();
        named.sort_unstable();
        asked.sort_unstable();
        match named == asked {
            true => Ok(self),
            false => {
                Err("other actions wait than those that the line names: nothing was done".into())
            }
        }
    }

    /// Returns what a person has answered to the question about these actions.
    fn of_person(line: &str, actions: &[String]) -> Self {
        let text = line.trim();
        let (approve, reason) = match text.to_lowercase().as_str() {
            "y" | "yes" => (true, None),
            "" | "n" | "no" => (false, None),
            _ => (false, Some(text.to_owned())),
        };
        Self {
            actions: actions.to_vec(),
            approve,
            reason,
        }
    }
}

/// The source of lines.
pub(crate) enum Input {
    /// Lines of JSON.
    Program(mpsc::Receiver<String>),
    /// Lines of a person at a terminal.
    Person(mpsc::Receiver<String>),
    /// There is no source of lines.
    Nobody,
}

impl Input {
    /// Reads stdin, if somebody there can know the questions.
    pub(crate) fn new(json: bool) -> Self {
        match json {
            true => Self::Program(lines()),
            false if io::stdin().is_terminal() && io::stderr().is_terminal() => {
                Self::Person(lines())
            }
            false => Self::Nobody,
        }
    }

    /// Forgets what a person has typed before the question.
    pub(crate) fn forget(&mut self) {
        while self.early().is_some() {}
    }

    /// Takes a line that a person has typed already.
    pub(crate) fn early(&mut self) -> Option<String> {
        match self {
            Self::Person(lines) => lines.try_recv().ok(),
            Self::Program(_) | Self::Nobody => None,
        }
    }

    /// Waits for the next line. `None` if there will be no more lines.
    pub(crate) async fn line(&mut self) -> Option<String> {
        match self {
            Self::Program(lines) | Self::Person(lines) => lines.recv().await,
            Self::Nobody => None,
        }
    }

    /// Waits for the next answer about these actions. The error says why a line is not valid.
    /// `None` if there will be no more lines.
    pub(crate) async fn next(&mut self, actions: &[String]) -> Option<Result<Answer, String>> {
        let line = self.line().await?;
        Some(match self {
            Self::Program(_) => Answer::of_program(&line, actions),
            Self::Person(_) | Self::Nobody => Ok(Answer::of_person(&line, actions)),
        })
    }
}

/// Reads stdin in a separate thread, which does not keep the program from ending.
fn lines() -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if send.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_about_the_waiting_actions_counts() {
        let waiting = ["a".to_owned(), "b".to_owned()];
        let line = r#"{"actions": ["b", "a"], "approve": true}"#;
        assert!(Answer::of_program(line, &waiting).unwrap().approve);
        for line in [
            r#"{"actions": ["a"], "approve": true}"#,
            r#"{"actions": ["a", "b", "c"], "approve": true}"#,
            r#"{"actions": ["a", "b", "b"], "approve": true}"#,
            r#"{"actions": [], "approve": true}"#,
            r#"{"approve": true}"#,
            r#"{"actions": ["a", "b"], "approve": "true"}"#,
            r#"{"actions": ["a", "b"], "approve": true, "all": true}"#,
            "yes",
            "",
        ] {
            Answer::of_program(line, &waiting).unwrap_err();
        }
    }

    #[test]
    fn a_person_approves_with_yes_only() {
        for (line, approve, reason) in [
            ("y", true, None),
            (" YES ", true, None),
            ("", false, None),
            ("n", false, None),
            ("yes, but not now", false, Some("yes, but not now")),
        ] {
            let answer = Answer::of_person(line, &["a".to_owned()]);
            assert_eq!(
                (answer.approve, answer.reason.as_deref()),
                (approve, reason)
            );
        }
    }

    #[tokio::test]
    async fn lines_typed_before_the_question_are_forgotten() {
        let (send, lines) = mpsc::channel(2);
        let mut input = Input::Person(lines);
        send.send("y".to_owned()).await.unwrap();
        input.forget();
        send.send("no".to_owned()).await.unwrap();
        assert!(!input.next(&[]).await.unwrap().unwrap().approve);
    }
}
