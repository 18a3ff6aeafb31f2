//! Changes of a conversation's state, typed by their key during decoding.

use crate::{
    ConversationState, Error, ExecutionStatus, Json, Result, Stats, Text,
    json::{
        scan::{Span, Stop},
        untyped::Malformed,
        wire::{Members, Reader, Wire},
    },
    state::GoalStatus,
};

/// A change of the conversation's state: a single key, or the whole state with the key
/// `full_state`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ConversationStateUpdateEvent {
    /// The key that changed.
    pub key: Text,
    /// The new value, as JSON.
    pub value: Json,
    /// The new value, typed by the key.
    pub change: StateChange,
}

/// A typed change of the state.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StateChange {
    /// The whole state.
    FullState(ConversationState),
    /// The execution status.
    ExecutionStatus(ExecutionStatus),
    /// Cost, tokens and latencies.
    Stats(Stats),
    /// The status of the goal.
    Goal(Box<GoalStatus>),
    /// A key that has no type in this version. The event's `value` contains its JSON.
    Other,
    /// A key that has a type, but whose value could not be decoded. Contains the reason.
    Malformed(Box<Malformed>),
}

impl StateChange {
    /// Returns the value that could not be decoded, if any.
    pub fn malformed(&self) -> Option<&Malformed> {
        match self {
            Self::Malformed(malformed) => Some(malformed),
            _ => None,
        }
    }

    /// Decodes the value of `key`, and returns it with its original JSON.
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
    /// Returns whether this change is a snapshot of the whole state.
    pub fn is_full_state(&self) -> bool {
        &*self.key == "full_state"
    }
}

impl ConversationState {
    /// Applies an update: a snapshot replaces all fields that it contains, and a single key
    /// replaces its field.
    ///
    /// # Errors
    ///
    /// Returns an error if a snapshot is not an object; the state is then unchanged. A single key
    /// accepts any value, but a value of an unexpected type is treated as absent.
    /// [`Event::malformed`](crate::Event::malformed) reports both cases.
    pub fn apply(&mut self, update: &ConversationStateUpdateEvent) -> Result<()> {
        match &update.change {
            StateChange::FullState(state) => self.take(state),
            StateChange::Malformed(malformed) if update.is_full_state() => {
                return Err(Error::decode("full_state", &*malformed.reason));
            }
            _ => self.set(&update.key, update.value.clone()),
        }
        Ok(())
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
                    // The server sends the key first. If a value came earlier, it was decoded for a
                    // different, duplicate key and must be decoded again.
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
            return reader.scanner.stop_at("missing field `key`", start);
        };
        let (value, change) = match (read, value_at) {
            (Some(read), _) => read,
            (None, Some(at)) => reader.elsewhere(at, |reader| StateChange::read(reader, &key))?,
            (None, None) => (Json::default(), StateChange::Other),
        };
        Ok(Self { key, value, change })
    }
}
