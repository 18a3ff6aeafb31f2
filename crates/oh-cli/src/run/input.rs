//! Answers to approvals, from stdin.

use std::io::{self, IsTerminal as _};

use serde::Deserialize;
use tokio::sync::mpsc;

/// An answer of a program: a line of JSON. It names the actions that the program has seen, so that
/// an early or late line approves nothing else.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    /// The ids of all actions of the request.
    pub(super) actions: Vec<String>,
    pub(super) approve: bool,
    /// Why the actions are rejected, for the agent.
    pub(super) reason: Option<String>,
}

/// Where answers come from.
pub(super) enum Input {
    /// Lines of JSON.
    Program(mpsc::Receiver<String>),
    /// Lines of a person at a terminal.
    Person(mpsc::Receiver<String>),
    /// There is no source of answers.
    Nobody,
}

impl Input {
    /// Reads stdin, if somebody there can know the questions.
    pub(super) fn new(json: bool) -> Self {
        match json {
            true => Self::Program(lines()),
            false if io::stdin().is_terminal() && io::stderr().is_terminal() => {
                Self::Person(lines())
            }
            false => Self::Nobody,
        }
    }

    /// Forgets what a person has typed before the question.
    pub(super) fn forget(&mut self) {
        if let Self::Person(lines) = self {
            while lines.try_recv().is_ok() {}
        }
    }

    /// Waits for the next answer about these actions. The error says why a line is not valid.
    /// `None` if there will be no more lines.
    pub(super) async fn next(&mut self, actions: &[String]) -> Option<Result<Answer, String>> {
        match self {
            Self::Program(lines) => Some(of_program(&lines.recv().await?, actions)),
            Self::Person(lines) => Some(Ok(of_person(&lines.recv().await?, actions))),
            Self::Nobody => None,
        }
    }
}

fn of_program(line: &str, actions: &[String]) -> Result<Answer, String> {
    let answer: Answer = serde_json::from_str(line).map_err(|error| {
        format!(
            "the line is no answer, such as {{\"actions\": [\"ID\"], \"approve\": true}}: {error}"
        )
    })?;
    let mut named = answer.actions.clone();
    let mut asked = actions.to_vec();
    named.sort_unstable();
    asked.sort_unstable();
    match named == asked {
        true => Ok(answer),
        false => Err("other actions wait than those that the line names: nothing was done".into()),
    }
}

fn of_person(line: &str, actions: &[String]) -> Answer {
    let text = line.trim();
    let (approve, reason) = match text.to_lowercase().as_str() {
        "y" | "yes" => (true, None),
        "" | "n" | "no" => (false, None),
        _ => (false, Some(text.to_owned())),
    };
    Answer {
        actions: actions.to_vec(),
        approve,
        reason,
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
        assert!(of_program(line, &waiting).unwrap().approve);
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
            of_program(line, &waiting).unwrap_err();
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
            let answer = of_person(line, &["a".to_owned()]);
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
