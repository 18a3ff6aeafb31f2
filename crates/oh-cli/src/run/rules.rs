//! Rules that approve actions without a question.

use openhands::conversation::PendingAction;
use serde_json::Value;

use crate::exit::{Exit, Failure};

/// Characters by which a shell command can do more than its beginning says.
const OPERATORS: &[char] = &[
    ';', '&', '|', '<', '>', '$', '`', '(', ')', '{', '}', '\\', '\'', '"', '*', '?', '[', ']',
    '~', '#', '!', '=', '%', '^',
];

/// A rule: a tool, and the `command` of its actions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    tool: String,
    command: Command,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Command {
    Any,
    Exactly(String),
    BeginsWith(String),
}

impl Rule {
    /// Parses `TOOL`, `TOOL:COMMAND` or `TOOL:BEGINNING*`.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let (tool, command) = match text.split_once(':') {
            None => (text, Command::Any),
            Some((tool, command)) => match command.strip_suffix('*') {
                Some(beginning) => (tool, Command::BeginsWith(beginning.to_owned())),
                None => (tool, Command::Exactly(command.to_owned())),
            },
        };
        let empty = match &command {
            Command::Any => false,
            Command::Exactly(text) | Command::BeginsWith(text) => text.trim().is_empty(),
        };
        if tool.is_empty() || tool.contains(['*', ' ']) || empty {
            return Err(Exit::Usage.because(format!(
                "the rule `{text}` is not valid: write TOOL, TOOL:COMMAND or TOOL:BEGINNING*"
            )));
        }
        Ok(Self {
            tool: tool.to_owned(),
            command,
        })
    }

    /// Returns whether the rule approves an action of this tool, with these arguments.
    fn approves(&self, tool: &str, arguments: &Value) -> bool {
        if tool != self.tool {
            return false;
        }
        let Value::Object(arguments) = arguments else {
            return false;
        };
        let Some(command) = arguments.get("command").and_then(Value::as_str) else {
            return self.command == Command::Any;
        };
        match &self.command {
            Command::Any => true,
            // Input for a program that runs is not a command.
            _ if arguments
                .get("is_input")
                .is_some_and(|is| is != &Value::Bool(false)) =>
            {
                false
            }
            Command::Exactly(text) => command == text,
            Command::BeginsWith(beginning) => {
                let rest = command.strip_prefix(beginning.as_str());
                rest.is_some_and(|rest| {
                    !rest.contains(OPERATORS) && !rest.contains(char::is_control)
                })
            }
        }
    }
}

/// Returns whether each action is approved by a rule.
pub(super) fn approve_all(rules: &[Rule], actions: &[PendingAction]) -> bool {
    let approved = |action: &PendingAction| {
        let event: Value = serde_json::from_str(action.event().as_json()).unwrap_or_default();
        let arguments = &event["action"];
        rules
            .iter()
            .any(|rule| rule.approves(action.tool_name(), arguments))
    };
    !actions.is_empty() && actions.iter().all(approved)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_approves_the_commands_that_it_describes_and_no_others() {
        for (rule, tool, command, approved) in [
            ("terminal", "terminal", "anything; at all", true),
            ("terminal", "file_editor", "view", false),
            ("file_editor:view", "file_editor", "view", true),
            ("file_editor:view", "file_editor", "create", false),
            ("terminal:cargo test", "terminal", "cargo test", true),
            ("terminal:cargo test", "terminal", "cargo test ", false),
            ("terminal:cargo *", "terminal", "cargo test --all", true),
            ("terminal:cargo *", "terminal", "cargo", false),
            (
                "terminal:cargo *",
                "terminal",
                "cargo test; rm -rf x",
                false,
            ),
            ("terminal:cargo *", "terminal", "cargo test && rm x", false),
            ("terminal:cargo *", "terminal", "cargo test | sh", false),
            ("terminal:cargo *", "terminal", "cargo test\nrm x", false),
            ("terminal:cargo *", "terminal", "cargo test $(rm x)", false),
            ("terminal:cargo *", "terminal", "cargo test `rm x`", false),
            ("terminal:cargo *", "terminal", "cargo test > /etc/x", false),
            (
                "terminal:cargo *",
                "terminal",
                "cargo --config 'a=b' test",
                false,
            ),
            ("terminal:cargo *", "terminal", " cargo test", false),
            ("terminal:a;b *", "terminal", "a;b c", true),
        ] {
            let rule = Rule::parse(rule).unwrap();
            let arguments = json!({"kind": "X", "command": command, "is_input": false});
            assert_eq!(
                rule.approves(tool, &arguments),
                approved,
                "{rule:?} {command}"
            );
        }
    }

    #[test]
    fn input_for_a_program_and_other_arguments_are_not_a_command() {
        let rule = Rule::parse("terminal:y").unwrap();
        assert!(!rule.approves("terminal", &json!({"command": "y", "is_input": true})));
        assert!(!rule.approves("terminal", &json!({"command": "y", "is_input": "yes"})));
        assert!(!rule.approves("terminal", &json!({"text": "y"})));
        assert!(!rule.approves("terminal", &json!(null)));
        let any = Rule::parse("search").unwrap();
        assert!(any.approves("search", &json!({"query": "x"})));
        assert!(!any.approves("search", &json!(null)));
    }

    #[test]
    fn rules_that_could_approve_more_than_they_say_are_rejected() {
        for text in [
            "",
            "*",
            "*:x",
            ":x",
            "terminal:",
            "terminal:*",
            "terminal: *",
            "a b:c",
        ] {
            Rule::parse(text).unwrap_err();
        }
    }
}
