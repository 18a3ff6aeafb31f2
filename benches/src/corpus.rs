//! Provides any number of events of a real server: a recorded conversation, repeated with new ids
//! and timestamps.

use std::fs;

use bytes::Bytes;

use crate::Outcome;

const RECORDED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../crates/oh-protocol/fixtures/1.58.2/conversation.jsonl"
);

/// Recorded events, split at their ids and timestamps.
#[derive(Debug)]
pub struct Corpus {
    /// The text after the timestamp: up to the parent's id, and after it.
    tails: Vec<[String; 2]>,
}

impl Corpus {
    /// Loads the recording. Omits three kinds of events: the system prompt, which would outweigh
    /// the rest; client tool calls, which the Python SDK cannot decode without the tools; and
    /// status changes, which would start and end runs.
    ///
    /// # Errors
    ///
    /// Returns an error if the recording has an unexpected format.
    pub fn recorded() -> Outcome<Self> {
        let mut tails = Vec::new();
        for line in fs::read_to_string(RECORDED)?.lines() {
            let foreign = line.contains("ClientAction_") || line.contains("\"ClientTool\"");
            if foreign || line.contains("\"key\":\"execution_status\"") || line.len() > 8192 {
                continue;
            }
            let after = |part: &str| line.find(part).map(|at| at + part.len());
            let from = after("\"timestamp\":\"").ok_or("an event without a timestamp")?;
            let rest = &line[from..];
            let to = rest.find('"').ok_or("a timestamp without an end")?;
            if !line.starts_with("{\"id\":\"") {
                return Err("an event that does not begin with its id".into());
            }
            let tail = &rest[to..];
            let parent = "\"parent_id\":\"";
            let Some((before, after)) = tail.split_once(parent) else {
                continue;
            };
            let after = after.split_once('"').ok_or("a parent without an end")?.1;
            tails.push([format!("{before}{parent}"), format!("\"{after}")]);
        }
        Self { tails }.long_enough()
    }

    /// Omits events of tools that an agent does not have by default, because a server that has not
    /// loaded a tool ignores its events.
    ///
    /// # Errors
    ///
    /// Returns an error if too few events are left.
    pub fn of_default_tools(mut self) -> Outcome<Self> {
        const TOOLS: [&str; 5] = ["terminal", "file_editor", "task_tracker", "finish", "think"];
        self.tails.retain(|[_, tail]| {
            let name = tail.split_once("\"tool_name\":\"");
            let name = name.and_then(|(_, rest)| rest.split_once('"'));
            name.is_none_or(|(name, _)| TOOLS.contains(&name))
        });
        self.long_enough()
    }

    fn long_enough(self) -> Outcome<Self> {
        match self.tails.len() {
            0..40 => Err("the recording is too short".into()),
            _ => Ok(self),
        }
    }

    /// Returns the first `count` events of a long conversation, a millisecond apart.
    pub fn events(&self, count: usize) -> impl Iterator<Item = Bytes> + Send + 'static {
        let tails = self.tails.clone();
        (0..count).map(move |number| {
            let [before, after] = &tails[number % tails.len()];
            let parent = match number.checked_sub(1) {
                Some(parent) => id(parent),
                None => "__root__".to_owned(),
            };
            let (seconds, milliseconds) = (number / 1000, number % 1000);
            let (minutes, seconds) = (seconds / 60, seconds % 60);
            let (hours, minutes) = (minutes / 60, minutes % 60);
            let (day, hour) = (1 + hours / 24, hours % 24);
            Bytes::from(format!(
                "{{\"id\":\"{}\",\"timestamp\":\"2026-01-{day:02}T{hour:02}:{minutes:02}:\
                 {seconds:02}.{milliseconds:03}000{before}{parent}{after}",
                id(number)
            ))
        })
    }

    /// Returns the total size of the first `count` events in bytes.
    pub fn bytes(&self, count: usize) -> usize {
        self.events(count).map(|event| event.len()).sum()
    }
}

fn id(number: usize) -> String {
    format!("{number:08x}-0000-4000-8000-{number:012x}")
}
