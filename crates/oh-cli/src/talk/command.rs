//! Commands to an agent in lines of a person or a program.

use serde::Deserialize;

use super::input::Answer;

/// The commands of a person, for `/help`.
pub(crate) const HELP: &str = "\
type a message to the agent, or one of these:
  /pause            stop the agent after its current step
  /interrupt        stop the agent at once
  /run              let the agent go on
  /approve          execute the actions that were shown
  /reject [REASON]  do not execute them, and tell the agent why
  /quit             leave; the agent goes on";

/// A command to the agent or to this program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Send a message, and let the agent answer it.
    Message(String),
    Pause,
    Interrupt,
    Run,
    /// Answer the waiting actions.
    Answer(Answer),
    Help,
    Quit,
    /// An empty line.
    Nothing,
}

/// The commands of a program. A line has exactly one of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    message: Option<String>,
    pause: Option<bool>,
    interrupt: Option<bool>,
    run: Option<bool>,
    actions: Option<Vec<String>>,
    approve: Option<bool>,
    reason: Option<String>,
}

const EXPECTED: &str = "expected one of {\"message\": \"TEXT\"}, {\"pause\": true}, \
    {\"interrupt\": true}, {\"run\": true} and {\"actions\": [\"ID\"], \"approve\": true}";

impl Command {
    /// Decodes a line of a program. Answers must name exactly the actions that this program has
    /// shown. The error says why the line does nothing.
    pub(crate) fn of_program(line: &str, shown: &[String]) -> Result<Self, String> {
        let line: Line =
            serde_json::from_str(line).map_err(|error| format!("{error}: {EXPECTED}"))?;
        let command = match line {
            Line {
                message: Some(text),
                pause: None,
                interrupt: None,
                run: None,
                actions: None,
                approve: None,
                reason: None,
            } => Self::Message(text),
            Line {
                message: None,
                pause,
                interrupt,
                run,
                actions: None,
                approve: None,
                reason: None,
            } => match (pause, interrupt, run) {
                (Some(true), None, None) => Self::Pause,
                (None, Some(true), None) => Self::Interrupt,
                (None, None, Some(true)) => Self::Run,
                _ => return Err(EXPECTED.to_owned()),
            },
            Line {
                message: None,
                pause: None,
                interrupt: None,
                run: None,
                actions: Some(actions),
                approve: Some(approve),
                reason,
            } => {
                let answer = Answer {
                    actions,
                    approve,
                    reason,
                };
                Self::Answer(answer.about(shown)?)
            }
            _ => return Err(EXPECTED.to_owned()),
        };
        match &command {
            Self::Message(text) if text.trim().is_empty() => Err("the message is empty".to_owned()),
            Self::Answer(answer) if answer.actions.is_empty() => Err(NOTHING_WAITS.to_owned()),
            _ => Ok(command),
        }
    }

    /// Decodes a line of a person. Answers are about the actions that this program has shown.
    pub(crate) fn of_person(line: &str, shown: &[String]) -> Result<Self, String> {
        let text = line.trim();
        let Some(word) = text.strip_prefix('/') else {
            return Ok(match text.is_empty() {
                true => Self::Nothing,
                false => Self::Message(text.to_owned()),
            });
        };
        let (word, rest) = word.split_once(char::is_whitespace).unwrap_or((word, ""));
        let rest = rest.trim();
        let answer = |approve, reason: Option<&str>| {
            if shown.is_empty() {
                return Err(NOTHING_WAITS.to_owned());
            }
            Ok(Self::Answer(Answer {
                actions: shown.to_vec(),
                approve,
                reason: reason.map(str::to_owned),
            }))
        };
        match (word, rest) {
            ("pause", "") => Ok(Self::Pause),
            ("interrupt", "") => Ok(Self::Interrupt),
            ("run", "") => Ok(Self::Run),
            ("approve", "") => answer(true, None),
            ("reject", "") => answer(false, None),
            ("reject", reason) => answer(false, Some(reason)),
            ("help", "") => Ok(Self::Help),
            ("quit" | "exit", "") => Ok(Self::Quit),
            _ => Err(format!("`/{word}` is no command here: see /help")),
        }
    }

    /// Returns whether the command answers a question, so that it must follow the question.
    pub(crate) fn is_answer(line: &str) -> bool {
        let word = line.split_whitespace().next();
        matches!(word, Some("/approve" | "/reject"))
    }
}

const NOTHING_WAITS: &str = "no action waits for approval: nothing was done";

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> Vec<String> {
        vec!["a".to_owned(), "b".to_owned()]
    }

    #[test]
    fn a_line_of_a_program_is_one_command_or_does_nothing() {
        let command = |line| Command::of_program(line, &shown()).unwrap();
        assert_eq!(
            command(r#"{"message": "Go on."}"#),
            Command::Message("Go on.".to_owned())
        );
        assert_eq!(command(r#"{"pause": true}"#), Command::Pause);
        assert_eq!(command(r#"{"interrupt": true}"#), Command::Interrupt);
        assert_eq!(command(r#"{"run": true}"#), Command::Run);
        let answer = command(r#"{"actions": ["b", "a"], "approve": false, "reason": "No."}"#);
        assert!(matches!(answer, Command::Answer(answer) if !answer.approve));
        for line in [
            "",
            "pause",
            "[]",
            "{}",
            r#"{"pause": false}"#,
            r#"{"pause": "true"}"#,
            r#"{"pause": true, "interrupt": true}"#,
            r#"{"pause": true, "message": "x"}"#,
            r#"{"message": " "}"#,
            r#"{"message": "x", "approve": true}"#,
            r#"{"message": "x", "then": "y"}"#,
            r#"{"approve": true}"#,
            r#"{"actions": ["a", "b"]}"#,
            r#"{"actions": ["a"], "approve": true}"#,
            r#"{"actions": ["a", "b"], "approve": true, "pause": true}"#,
        ] {
            Command::of_program(line, &shown()).expect_err(line);
        }
        Command::of_program(r#"{"actions": [], "approve": true}"#, &[]).unwrap_err();
    }

    #[test]
    fn a_person_approves_only_with_the_command_and_only_shown_actions() {
        let command = |line| Command::of_person(line, &shown());
        let Ok(Command::Answer(answer)) = command(" /approve ") else {
            panic!("no answer");
        };
        assert!(answer.approve && answer.actions == shown());
        let Ok(Command::Answer(answer)) = command("/reject not  here") else {
            panic!("no answer");
        };
        assert_eq!(
            (answer.approve, answer.reason.as_deref()),
            (false, Some("not  here"))
        );
        assert_eq!(command("y"), Ok(Command::Message("y".to_owned())));
        assert_eq!(command("/pause"), Ok(Command::Pause));
        assert_eq!(command(""), Ok(Command::Nothing));
        for line in ["/approve all", "/approved", "/", "/pause now", "/run x"] {
            command(line).expect_err(line);
        }
        Command::of_person("/approve", &[]).unwrap_err();
        Command::of_person("/reject", &[]).unwrap_err();
    }
}
