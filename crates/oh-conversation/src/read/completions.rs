//! Saving the model calls that the server reports: each in a file, in the server's own format.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use oh_protocol::{Event, Payload};

/// Returns a callback that writes every `LLMCompletionLogEvent` to a file in a directory, which is
/// created. Servers send these events for models with `log_completions`.
///
/// ```no_run
/// # async fn keep(workspace: &impl oh_transport::WorkspaceHandle) -> Result<(), Box<dyn std::error::Error>> {
/// use oh_conversation::{Conversation, completion_log};
/// use oh_protocol::config::{Agent, Llm};
///
/// let llm = Llm::new("openai/gpt-5").api_key("sk-…").log_completions(true);
/// let conversation = Conversation::builder(workspace, Agent::default_preset(llm))
///     .on_event_blocking(completion_log("completions")?)
///     .start()
///     .await?;
/// # Ok(()) }
/// ```
///
/// The files contain the complete input of the model, and may contain secrets. A file that cannot
/// be written is logged as a warning, and the conversation continues.
///
/// # Errors
///
/// Returns an error if the directory cannot be created.
pub fn completion_log(
    directory: impl Into<PathBuf>,
) -> io::Result<impl FnMut(&Event) + Send + 'static> {
    let directory = directory.into();
    fs::create_dir_all(&directory)?;
    Ok(move |event: &Event| {
        if event.kind() != "LLMCompletionLogEvent" {
            return;
        }
        let Payload::LlmCompletionLog(log) = event.payload() else {
            return;
        };
        let path = directory.join(file_name(&log.filename, event.id()));
        if let Err(error) = fs::write(&path, log.log_data.as_bytes()) {
            tracing::warn!(path = %path.display(), %error, "cannot write the log of a model call");
        }
    })
}

/// Returns only the file name, so that a name from the server cannot lead out of the directory.
fn file_name(given: &str, event_id: &str) -> String {
    let name = Path::new(given).file_name().and_then(|name| name.to_str());
    let plain = |c: char| if c == '\\' || c.is_control() { '_' } else { c };
    match name {
        Some(name) => name.chars().map(plain).collect(),
        None => format!("{}.json", event_id.replace(['/', '\\'], "_")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(filename: &str, data: &str) -> Event {
        let event = json!({"kind": "LLMCompletionLogEvent", "id": "e1", "filename": filename,
            "log_data": data, "model_name": "m", "usage_id": "default"});
        Event::from_json(event.to_string()).unwrap()
    }

    #[test]
    fn each_model_call_is_a_utf_8_file_in_the_directory() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("a/b");
        let mut keep = completion_log(&directory).unwrap();
        keep(&event("m-1.json", r#"{"say": "grüß 你好"}"#));
        keep(&event("../../out.json", "{}"));
        keep(&event("..", "{}"));
        keep(&Event::from_json(r#"{"kind":"PauseEvent","id":"1"}"#).unwrap());
        let kept = fs::read_to_string(directory.join("m-1.json")).unwrap();
        assert_eq!(kept, r#"{"say": "grüß 你好"}"#);
        let mut names: Vec<_> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["e1.json", "m-1.json", "out.json"]);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
