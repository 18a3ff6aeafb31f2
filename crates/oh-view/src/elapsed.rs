//! The time between an action and its result.

use std::{collections::HashMap, time::Duration};

use jiff::civil::DateTime;
use oh_protocol::{Event, ExecutionStatus, Payload, event::StateChange};

use crate::Block;

/// Shorter times are not shown.
const NOTABLE: Duration = Duration::from_secs(1);
/// The number of actions without a result that are remembered. An agent has a few at a time.
const ACTIONS: usize = 1000;

/// The actions of a conversation that have no result yet.
#[derive(Debug, Default)]
pub(crate) struct Elapsed {
    begun: HashMap<Box<str>, DateTime>,
    is_waiting: bool,
}

impl Elapsed {
    /// Takes an event into account. If the event is the result of an action, adds its time to the
    /// first of the event's blocks.
    pub(crate) fn add(&mut self, event: &Event, blocks: &mut [Block]) {
        let (Some(time), Some(block)) = (self.take(event), blocks.first_mut()) else {
            return;
        };
        if time >= NOTABLE {
            let separator = if block.note.is_empty() { "" } else { ", " };
            block.note += &format!("{separator}{}", exact(time));
        }
    }

    /// Returns the time of the action whose result the event is.
    fn take(&mut self, event: &Event) -> Option<Duration> {
        let call = match event.payload() {
            Payload::Action(body) => {
                if self.begun.len() == ACTIONS {
                    self.begun.clear();
                }
                let begun = time(event)?;
                self.begun.insert(body.tool_call_id.as_str().into(), begun);
                return None;
            }
            Payload::ConversationStateUpdate(update) => {
                if let StateChange::ExecutionStatus(status) = &update.change {
                    self.status(status, time(event)?);
                }
                return None;
            }
            Payload::UserReject(body) => {
                self.begun.remove(body.tool_call_id.as_str());
                return None;
            }
            Payload::Observation(body) => &body.tool_call_id,
            Payload::AgentError(body) => &body.tool_call_id,
            _ => return None,
        };
        let begun = self.begun.remove(call.as_str())?;
        // Clocks can be set back.
        time(event)?.duration_since(begun).try_into().ok()
    }

    fn status(&mut self, status: &ExecutionStatus, now: DateTime) {
        // The time of an approval does not count.
        if self.is_waiting && *status == ExecutionStatus::Running {
            self.begun.values_mut().for_each(|begun| *begun = now);
        }
        self.is_waiting = *status == ExecutionStatus::WaitingForConfirmation;
    }
}

/// Returns the server's local time of an event.
fn time(event: &Event) -> Option<DateTime> {
    event.timestamp().parse().ok()
}

/// Formats a duration, with tenths of a second below a minute.
fn exact(duration: Duration) -> String {
    match duration.as_millis() {
        // Rounding must not result in `60.0 s`.
        millis @ ..59_950 => format!("{:.1} s", millis as f64 / 1000.0),
        _ => whole(duration),
    }
}

/// Formats a duration in whole seconds.
pub(crate) fn whole(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tone;

    fn event(kind: &str, time: &str, rest: &str) -> Event {
        let event = format!(
            r#"{{"id":"e","timestamp":"2026-01-02T03:{time}","source":"agent","kind":"{kind}",{rest}}}"#
        );
        Event::from_json(event).unwrap()
    }

    fn action(time: &str) -> Event {
        event("ActionEvent", time, r#""tool_name":"t","tool_call_id":"c""#)
    }

    fn status(time: &str, status: &str) -> Event {
        let rest = format!(r#""key":"execution_status","value":"{status}""#);
        event("ConversationStateUpdateEvent", time, &rest)
    }

    /// Returns the note of a result at this time.
    fn note(elapsed: &mut Elapsed, time: &str) -> String {
        let rest = r#""tool_name":"t","tool_call_id":"c","error":"e""#;
        let mut blocks = [Block::new(Tone::Result, "t")];
        elapsed.add(&event("AgentErrorEvent", time, rest), &mut blocks);
        blocks[0].note.clone()
    }

    #[test]
    fn a_result_has_the_time_since_its_action() {
        let mut elapsed = Elapsed::default();
        for (begun, ended, shown) in [
            ("04:05.250000", "04:06.249999", ""),
            ("04:05.250000", "04:06.250000", "1.0 s"),
            ("04:05", "05:04.940000", "59.9 s"),
            ("04:05", "05:04.960000", "59 s"),
            ("04:05", "06:07", "2 min 02 s"),
            ("04:05", "04:01", ""),
            ("04:05", "later", ""),
        ] {
            elapsed.add(&action(begun), &mut []);
            assert_eq!(note(&mut elapsed, ended), shown, "{begun} {ended}");
            // The action is over.
            assert_eq!(note(&mut elapsed, "59:59"), "", "{begun} {ended}");
        }
    }

    #[test]
    fn the_time_of_an_approval_does_not_count() {
        let mut elapsed = Elapsed::default();
        elapsed.add(&action("04:05"), &mut []);
        elapsed.add(&status("04:05", "waiting_for_confirmation"), &mut []);
        elapsed.add(&status("10:00", "running"), &mut []);
        elapsed.add(&status("10:01", "running"), &mut []);
        assert_eq!(note(&mut elapsed, "10:04"), "4.0 s");
    }
}
