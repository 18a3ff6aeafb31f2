//! Provides any number of events of a real server: a recorded conversation, repeated with new ids
//! and timestamps.

use std::fs;

use bytes::Bytes;

use crate::Outcome;

const RECORDED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../crates/oh-protocol/fixtures/1.58.2/conversation.jsonl"
);

/// Text that precedes the id of another event.
const KEYS: [&str; 2] = [PARENT, "\"action_id\":\""];
const PARENT: &str = "\"parent_id\":\"";

/// Recorded events, which refer to each other as the events of a real conversation do.
#[derive(Debug)]
pub struct Corpus {
    events: Vec<Recorded>,
}

/// A recorded event, after its timestamp.
#[derive(Debug)]
struct Recorded {
    id: String,
    /// The text up to an id, and the recorded event whose id it is. `None` means the parent,
    /// which is always the event before.
    parts: Vec<(String, Option<String>)>,
    rest: String,
    /// The call that an action makes, or that an answer answers.
    call: Option<String>,
    is_action: bool,
    tool: Option<String>,
}

/// A part of an event, and how many places later the event is whose id follows.
type Reference = (String, isize);

impl Corpus {
    /// Loads the recording. Omits three kinds of events: the system prompt, which would outweigh
    /// the rest; client tool calls, which the Python SDK cannot decode without the tools; and
    /// status changes, which would start and end runs.
    ///
    /// # Errors
    ///
    /// Returns an error if the recording has an unexpected format.
    pub fn recorded() -> Outcome<Self> {
        let mut events = Vec::new();
        for line in fs::read_to_string(RECORDED)?.lines() {
            let foreign = line.contains("ClientAction_") || line.contains("\"ClientTool\"");
            if foreign || line.contains("\"key\":\"execution_status\"") || line.len() > 8192 {
                continue;
            }
            events.extend(Recorded::new(line)?);
        }
        Self { events }.consistent()
    }

    /// Omits events of tools that an agent does not have by default, because a server that has not
    /// loaded a tool ignores its events.
    ///
    /// # Errors
    ///
    /// Returns an error if too few events are left.
    pub fn of_default_tools(mut self) -> Outcome<Self> {
        const TOOLS: [&str; 5] = ["terminal", "file_editor", "task_tracker", "finish", "think"];
        self.events.retain(|event| {
            let name = event.tool.as_deref();
            name.is_none_or(|name| TOOLS.contains(&name))
        });
        self.consistent()
    }

    /// Omits answers without their action, and actions without an answer: thousands of repetitions
    /// would leave thousands of actions open, which no agent does.
    fn consistent(mut self) -> Outcome<Self> {
        let is_known = |events: &[Recorded], id: &str| events.iter().any(|it| it.id == id);
        let known = |events: &[Recorded], event: &Recorded| {
            let mut references = event.parts.iter().filter_map(|(_, id)| id.as_deref());
            references.all(|id| is_known(events, id))
        };
        let kept: Vec<bool> = (self.events.iter())
            .map(|event| {
                let answers = |it: &Recorded| !it.is_action && it.call == event.call;
                let answered = !event.is_action || self.events.iter().any(answers);
                answered && known(&self.events, event)
            })
            .collect();
        let mut kept = kept.into_iter();
        self.events.retain(|_| kept.next().unwrap_or(false));
        match self.events.len() {
            0..40 => Err("the recording is too short".into()),
            _ if !self.events.iter().all(|event| known(&self.events, event)) => {
                Err("an event refers to an action that is omitted".into())
            }
            _ => Ok(self),
        }
    }

    /// Returns the first `count` events of a long conversation, a millisecond apart.
    pub fn events(&self, count: usize) -> impl Iterator<Item = Bytes> + Send + 'static {
        let events: Vec<(Vec<Reference>, String)> = (self.events.iter().enumerate())
            .map(|(at, event)| (self.references(at, event), event.rest.clone()))
            .collect();
        (0..count).map(move |number| {
            let (references, rest) = &events[number % events.len()];
            let (seconds, milliseconds) = (number / 1000, number % 1000);
            let (minutes, seconds) = (seconds / 60, seconds % 60);
            let (hours, minutes) = (minutes / 60, minutes % 60);
            let (day, hour) = (1 + hours / 24, hours % 24);
            let mut event = format!(
                "{{\"id\":\"{}\",\"timestamp\":\"2026-01-{day:02}T{hour:02}:{minutes:02}:\
                 {seconds:02}.{milliseconds:03}000",
                id(number)
            );
            for (text, distance) in references {
                event.push_str(text);
                match number.checked_add_signed(*distance) {
                    Some(other) => event.push_str(&id(other)),
                    None => event.push_str("__root__"),
                }
            }
            event.push_str(rest);
            Bytes::from(event)
        })
    }

    /// Returns the parts of the event at a place, with the distances to the events that it names.
    fn references(&self, at: usize, event: &Recorded) -> Vec<Reference> {
        let place = |id: &str| self.events.iter().position(|it| it.id == id);
        let distance = |id: &Option<String>| match id.as_deref().map(place) {
            Some(place) => place.map_or(0, |place| place as isize - at as isize),
            None => -1,
        };
        let parts = event.parts.iter();
        parts
            .map(|(text, id)| (text.clone(), distance(id)))
            .collect()
    }

    /// Returns the total size of the first `count` events in bytes.
    pub fn bytes(&self, count: usize) -> usize {
        self.events(count).map(|event| event.len()).sum()
    }
}

impl Recorded {
    /// Splits an event at the ids that it names. Returns `None` for an event without a parent.
    fn new(line: &str) -> Outcome<Option<Self>> {
        let value = |key: &str| {
            let (_, rest) = line.split_once(&format!("\"{key}\":\""))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let id = value("id").filter(|_| line.starts_with("{\"id\":\""));
        let id = id.ok_or("an event that does not begin with its id")?;
        let timestamp = value("timestamp").ok_or("an event without a timestamp")?;
        let (_, mut rest) = line.split_once(&timestamp).ok_or("no timestamp")?;
        let mut parts = Vec::new();
        let mut has_parent = false;
        while let Some((at, key)) = (KEYS.iter())
            .filter_map(|key| Some((rest.find(key)? + key.len(), *key)))
            .min()
        {
            let (text, after) = rest.split_at(at);
            let (named, _) = after.split_once('"').ok_or("an id without an end")?;
            let is_parent = key == PARENT;
            has_parent |= is_parent;
            parts.push((text.to_owned(), (!is_parent).then(|| named.to_owned())));
            rest = &after[named.len()..];
        }
        Ok(has_parent.then(|| Self {
            id,
            parts,
            rest: rest.to_owned(),
            call: value("tool_call_id"),
            is_action: line.ends_with("\"kind\":\"ActionEvent\"}"),
            tool: value("tool_name"),
        }))
    }
}

fn id(number: usize) -> String {
    format!("{number:08x}-0000-4000-8000-{number:012x}")
}
