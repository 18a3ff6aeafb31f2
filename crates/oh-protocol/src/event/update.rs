//! A change of a conversation's state, typed by its key while it is read.

use super::untyped::Malformed;
use crate::{
    ConversationState, ExecutionStatus, Json, Stats, Text,
    scan::{Span, Stop},
    state::GoalStatus,
    wire::{Members, Reader, Wire},
};

/// A change of the conversation's state: one key, or all of it under the key `full_state`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ConversationStateUpdateEvent {
    /// Which part.
    pub key: Text,
    /// Its new value, as it came.
    pub value: Json,
    /// Its new value, typed by the key.
    pub change: StateChange,
}

/// What a change of the state is, where it has a type.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StateChange {
    /// All of the state.
    FullState(ConversationState),
    /// What the conversation is doing.
    ExecutionStatus(ExecutionStatus),
    /// Cost, tokens and latencies.
    Stats(Stats),
    /// How far the goal is.
    Goal(Box<GoalStatus>),
    /// A key this version has no type for: see the event's `value`.
    Other,
    /// One of these keys with a value that does not read, and why.
    Malformed(Box<Malformed>),
}

impl StateChange {
    /// What of the value does not read, if anything.
    pub fn malformed(&self) -> Option<&Malformed> {
        match self {
            Self::Malformed(malformed) => Some(malformed),
            _ => None,
        }
    }

    /// Reads the value that stands under `key`; and it, as it came.
    fn read(reader: &mut Reader<'_>, key: &str) -> Result<(Json, Self), Stop> {
        let (start, flaws) = (reader.scanner.at(), reader.flaws());
        let typed = match key {
            "full_state" => ConversationState::read(reader).map(Self::FullState),
            "execution_status" => ExecutionStatus::read(reader).map(Self::ExecutionStatus),
            "stats" => Stats::read(reader).map(Self::Stats),
            "goal" => GoalStatus::read(reader).map(|goal| Self::Goal(Box::new(goal))),
            _ => return Json::read(reader).map(|value| (value, Self::Other)),
        };
        match typed {
            Ok(change) => {
                let span = Span::new(start, reader.scanner.at());
                Ok((Json::new(reader.piece(span)), change))
            }
            Err(Stop) => {
                let reason = reader.scanner.flaw().to_string().into();
                reader.scanner.go(start);
                reader.forget(flaws);
                let json = Json::read(reader)?;
                let malformed = Malformed {
                    kind: key.into(),
                    reason,
                    json: json.clone(),
                };
                Ok((json, Self::Malformed(Box::new(malformed))))
            }
        }
    }
}

impl ConversationStateUpdateEvent {
    /// Whether this is a snapshot of the whole state.
    pub fn is_full_state(&self) -> bool {
        &*self.key == "full_state"
    }
}

impl Wire for ConversationStateUpdateEvent {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        let more = reader.scanner.object()?;
        Self::members(reader, more)
    }
}

impl Members for ConversationStateUpdateEvent {
    fn members(reader: &mut Reader<'_>, mut more: bool) -> Result<Self, Stop> {
        let (start, flaws) = (reader.scanner.at(), reader.flaws());
        let (mut key, mut read, mut value_at) = (None, None, None);
        while more {
            match &*reader.key()? {
                "key" => {
                    key = Some(Text::read(reader)?);
                    // The server writes it first: a value that is read already was another's.
                    read = None;
                    reader.forget(flaws);
                }
                "value" => {
                    value_at = Some(reader.scanner.at());
                    match &key {
                        Some(key) => read = Some(StateChange::read(reader, key)?),
                        None => drop(reader.scanner.value()?),
                    }
                }
                _ => drop(reader.scanner.value()?),
            }
            more = reader.scanner.more_members()?;
        }
        let Some(key) = key else {
            return reader.scanner.stop_at("no `key` in the object", start);
        };
        let (value, change) = match (read, value_at) {
            (Some(read), _) => read,
            (None, Some(at)) => reader.elsewhere(at, |reader| StateChange::read(reader, &key))?,
            (None, None) => (Json::default(), StateChange::Other),
        };
        Ok(Self { key, value, change })
    }
}
