//! Observations: the result of each tool.

use oh_protocol::{
    Text,
    event::{EditorCommand, Observation, ObservationEvent, TerminalObservation},
};

use super::{
    texts::{added, tasks},
    values,
};
use crate::{Block, Exit, Part, Tone};

/// Members that are shown in another form, or are too large to show.
const NOT_FIELDS: &[&str] = &[
    "content",
    "is_error",
    "screenshot_data",
    "old_content",
    "new_content",
];

pub(super) fn block(body: &ObservationEvent) -> Block {
    let failed = body.is_error();
    let (tone, title) = match failed {
        true => (Tone::Error, format!("{} failed", body.tool_name)),
        false => (Tone::Result, format!("{} result", body.tool_name)),
    };
    // The results of these tools repeat their actions.
    let repeats = matches!(
        body.observation,
        Observation::Think(_) | Observation::Finish(_) | Observation::TaskTracker(_)
    );
    Block::new(tone, title)
        .parts(match failed {
            true => failure(body),
            false => result(&body.observation, body.text()),
        })
        .parts(added(&body.extended_content))
        .only_full(repeats && !failed)
}

fn failure(body: &ObservationEvent) -> Vec<Part> {
    match &body.observation {
        Observation::Terminal(terminal) => vec![output(terminal, body.text())],
        observation if body.text().trim().is_empty() => {
            vec![values::fields(observation, NOT_FIELDS)]
        }
        _ => vec![Part::Error(body.text())],
    }
}

fn result(observation: &Observation, text: String) -> Vec<Part> {
    match observation {
        Observation::Terminal(body) => vec![output(body, text)],
        Observation::FileEditor(body) => file(
            &body.command,
            body.path.as_ref(),
            body.old_content.as_ref(),
            body.new_content.as_ref(),
            text,
        ),
        Observation::PlanningFileEditor(body) => file(
            &body.command,
            body.path.as_ref(),
            body.old_content.as_ref(),
            body.new_content.as_ref(),
            text,
        ),
        Observation::Edit(body) => {
            let (old, new) = (body.old_content.as_ref(), body.new_content.as_ref());
            change(body.file_path.as_ref(), old, new, text)
        }
        Observation::WriteFile(body) => {
            let (old, new) = (body.old_content.as_ref(), body.new_content.as_ref());
            change(body.file_path.as_ref(), old, new, text)
        }
        Observation::ReadFile(body) => vec![
            Part::Fields(vec![("path".to_owned(), body.file_path.to_string())]),
            Part::code("", &*body.file_content),
        ],
        Observation::TaskTracker(body) => vec![tasks(&body.task_list)],
        Observation::Finish(_) | Observation::Think(_) | Observation::ClientTool(_) => {
            vec![Part::Markdown(text)]
        }
        Observation::AskOracle(_) | Observation::Task(_) | Observation::VisionInspect(_) => vec![
            values::fields(observation, NOT_FIELDS),
            Part::Markdown(text),
        ],
        Observation::Glob(_) | Observation::Grep(_) | Observation::ListDirectory(_) => {
            vec![Part::Text(text)]
        }
        Observation::Malformed(body) => vec![
            Part::Error(body.to_string()),
            values::json_text(body.json.as_str()),
        ],
        Observation::Unknown(body) if text.is_empty() => {
            vec![values::json_text(body.json.as_str())]
        }
        other => vec![Part::Text(text), values::fields(other, NOT_FIELDS)],
    }
}

fn output(body: &TerminalObservation, text: String) -> Part {
    let code = body.exit_code;
    let exit = match code {
        // The server also uses −1 for a closed terminal, which is an error.
        Some(-1) if !body.is_error => Exit::Running,
        Some(code) => Exit::Code(code),
        None if body.timeout => Exit::Running,
        None => Exit::Unknown,
    };
    Part::Terminal {
        command: String::new(),
        output: text.trim_end().to_owned(),
        exit,
    }
}

fn file(
    command: &EditorCommand,
    path: Option<&Text>,
    old: Option<&Text>,
    new: Option<&Text>,
    text: String,
) -> Vec<Part> {
    match command {
        EditorCommand::View => vec![Part::code("", text)],
        _ => change(path, old, new, text),
    }
}

/// Returns a change with its context in the file. For a new file, returns only the text of the
/// result, because the action has the content.
fn change(path: Option<&Text>, old: Option<&Text>, new: Option<&Text>, text: String) -> Vec<Part> {
    match (path, old, new) {
        (Some(path), Some(old), Some(new)) => {
            vec![Part::diff(path.as_str(), old.as_str(), new.as_str())]
        }
        _ => vec![Part::Text(text)],
    }
}
