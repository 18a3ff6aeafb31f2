//! Actions: the tool, its purpose, its arguments.

use oh_protocol::event::{
    Action, ActionEvent, EditorCommand, FileEditorAction, SecurityRisk, text_of,
};

use super::{
    texts::{tasks, thought},
    values,
};
use crate::{Block, Exit, Part, Tone};

pub(super) fn block(body: &ActionEvent) -> Block {
    let mut notes = Vec::new();
    if let Some(summary) = &body.summary {
        // The server's own summary begins with the tool's name and repeats the arguments.
        let repeats = summary.strip_prefix(&*body.tool_name);
        if !repeats.is_some_and(|rest| rest.starts_with(':')) {
            notes.push(summary.to_string());
        }
    }
    if body.security_risk != SecurityRisk::Unknown {
        notes.push(format!(
            "risk: {}",
            body.security_risk.as_str().to_lowercase()
        ));
    }
    if let Some(critic) = &body.critic_result {
        notes.push(format!("critic: {:.2}", critic.score));
    }
    let finishes = matches!(body.action, Some(Action::Finish(_)));
    let tone = if finishes {
        Tone::Success
    } else {
        Tone::Action
    };
    Block::new(tone, &*body.tool_name)
        .note(notes.join(", "))
        .part(thought(
            body.reasoning_content.as_deref(),
            &body.thinking_blocks,
            body.responses_reasoning_item.as_ref(),
        ))
        .part(Part::Markdown(text_of(&body.thought)))
        .parts(match &body.action {
            Some(action) => arguments(action),
            None => call(body),
        })
}

/// Returns the arguments of an invalid call, as the model wrote them.
fn call(body: &ActionEvent) -> Vec<Part> {
    let arguments = body.tool_call.as_ref().map(|call| &*call.arguments);
    vec![
        Part::text("The call is invalid."),
        values::json_text(arguments.unwrap_or_default()),
    ]
}

fn arguments(action: &Action) -> Vec<Part> {
    match action {
        Action::Terminal(body) => {
            let command = match (body.reset, body.is_input) {
                (true, _) if body.command.is_empty() => "(reset the terminal)".to_owned(),
                (_, true) => format!("(input) {}", body.command),
                _ => body.command.to_string(),
            };
            vec![
                Part::Terminal {
                    command,
                    output: String::new(),
                    exit: Exit::Unknown,
                },
                values::fields(body, &["command", "is_input", "reset"]),
            ]
        }
        Action::FileEditor(body) | Action::PlanningFileEditor(body) => editor(body),
        Action::Edit(body) => vec![
            Part::diff(&*body.file_path, &*body.old_string, &*body.new_string),
            values::fields(body, &["file_path", "old_string", "new_string"]),
        ],
        Action::WriteFile(body) => vec![Part::diff(&*body.file_path, "", &*body.content)],
        Action::ApplyPatch(body) => vec![Part::code("diff", &*body.patch)],
        Action::TaskTracker(body) => vec![tasks(&body.task_list)],
        Action::Think(body) => vec![Part::Thought(body.thought.to_string())],
        Action::Finish(body) => vec![Part::Markdown(body.message.to_string())],
        Action::Task(body) => vec![
            values::fields(body, &["prompt"]),
            Part::Markdown(body.prompt.to_string()),
        ],
        Action::Workflow(body) => vec![
            values::fields(body, &["script"]),
            Part::code("", &*body.script),
        ],
        Action::McpTool(body) => vec![values::fields(&body.data, &[])],
        Action::Malformed(body) => vec![
            Part::Error(body.to_string()),
            values::json_text(body.json.as_str()),
        ],
        Action::Unknown(body) => vec![values::json_text(body.json.as_str())],
        other => vec![values::fields(other, &[])],
    }
}

fn editor(body: &FileEditorAction) -> Vec<Part> {
    let text = |text: &Option<oh_protocol::Text>| text.as_deref().unwrap_or_default().to_owned();
    match body.command {
        EditorCommand::Create => vec![Part::diff(&*body.path, "", text(&body.file_text))],
        EditorCommand::StrReplace => {
            vec![Part::diff(
                &*body.path,
                text(&body.old_str),
                text(&body.new_str),
            )]
        }
        EditorCommand::Insert => vec![
            values::fields(body, &["new_str"]),
            Part::code("", text(&body.new_str)),
        ],
        _ => vec![values::fields(body, &[])],
    }
}
