//! Playback of scripts: selects the step for each request and records deviations.

use std::{
    collections::HashMap,
    fmt::Write as _,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{ModelRequest, Script, Step};
use crate::{Error, Result};

pub(crate) type Wants = Arc<dyn Fn(&ModelRequest) -> bool + Send + Sync>;

/// A script and the requests it applies to.
pub(crate) struct Track {
    pub(crate) name: String,
    pub(crate) wants: Option<Wants>,
    pub(crate) script: Script,
    /// Whether remaining steps are allowed. Set for requests whose number is not predictable.
    pub(crate) optional: bool,
}

pub(crate) struct Player {
    tracks: Vec<Track>,
    /// The index of the next step, by track and conversation.
    places: HashMap<(usize, String), usize>,
    requests: Vec<ModelRequest>,
    failures: Vec<String>,
    /// Whether `verify` has not been called yet.
    unreported: bool,
}

/// A step and how messages name it.
struct Turn {
    step: Step,
    name: String,
    asked: String,
}

/// Returns the step for a request. Failures become a step that returns 400, which clients treat as
/// final; they would retry a 500 for minutes.
pub(crate) fn play(player: &Mutex<Player>, request: &ModelRequest) -> Step {
    let turn = lock(player).turn(request);
    match turn.and_then(|turn| decide(turn, request)) {
        Ok(step) => step,
        Err(objection) => {
            lock(player).object(objection.clone());
            Step::fail(400, objection)
        }
    }
}

fn decide(turn: Turn, request: &ModelRequest) -> Result<Step, String> {
    let Turn {
        mut step,
        name,
        asked,
    } = turn;
    // A chosen step may itself choose, and each level has its own checks.
    for _ in 0..16 {
        for check in &step.checks {
            attempt(|| check(request))
                .and_then(|outcome| outcome)
                .map_err(|objection| format!("{asked} fails a check of {name}: {objection}"))?;
        }
        let Some(choose) = step.choose.clone() else {
            return Ok(step);
        };
        step = attempt(|| choose(request))
            .map_err(|panic| format!("{asked} cannot be answered by {name}: {panic}"))?;
    }
    Err(format!("{name} does not decide within 16 nested choices"))
}

/// Calls a closure of the test and converts a panic, such as a failed `assert_eq!`, to its message.
/// Unwinding would close the connection, and the client would not see the reason.
pub(crate) fn attempt<T>(closure: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(closure)).map_err(|payload| {
        let said = payload.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| payload.downcast_ref::<&str>().copied());
        format!(
            "the test's closure panicked: {}",
            said.unwrap_or("(no message)")
        )
    })
}

/// Ignores poisoning: a panic in a test's check must not hide the log of requests.
pub(crate) fn lock(player: &Mutex<Player>) -> MutexGuard<'_, Player> {
    player.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Player {
    pub(crate) fn new(tracks: Vec<Track>) -> Self {
        Self {
            tracks,
            places: HashMap::new(),
            requests: Vec::new(),
            failures: Vec::new(),
            unreported: true,
        }
    }

    /// Creates a player with one script for all requests.
    pub(crate) fn single(script: Script) -> Self {
        Self::new(vec![Track {
            name: "script".into(),
            wants: None,
            script,
            optional: false,
        }])
    }

    /// Returns the next step without calling its closures, because the player is locked.
    fn turn(&mut self, request: &ModelRequest) -> Result<Turn, String> {
        self.requests.push(request.clone());
        let number = self.requests.len();
        let index = self
            .tracks
            .iter()
            .position(|track| track.wants.as_ref().is_none_or(|wants| wants(request)))
            .ok_or_else(|| format!("request {number} matches no track of the scripted model"))?;
        let track = &self.tracks[index];
        let script = &track.script;
        let conversation = if script.each_conversation {
            request.conversation()
        } else {
            String::new()
        };
        let who = of_conversation(&conversation);
        let place = self.places.entry((index, conversation)).or_default();
        if *place >= script.steps.len()
            && let Some(from) = script.again_from
        {
            *place = from;
        }
        let Some(step) = script.steps.get(*place) else {
            let last = script.steps.last().map(|step| format!(" (last: {step:?})"));
            return Err(format!(
                "request {number}{who} found no step left in script `{}`: its {} step(s) were all \
                 played{}; the newest message was {:?}",
                track.name,
                script.steps.len(),
                last.unwrap_or_default(),
                shorten(&request.last_text()),
            ));
        };
        *place += 1;
        Ok(Turn {
            step: step.clone(),
            name: format!("step {place} of `{}` ({step:?})", track.name),
            asked: format!("request {number}{who}"),
        })
    }

    pub(crate) fn object(&mut self, objection: String) {
        self.failures.push(objection);
    }

    pub(crate) fn requests(&self) -> Vec<ModelRequest> {
        self.requests.clone()
    }

    /// Returns the recorded failures, unless [`verify`](Self::verify) has been called. Used for
    /// tests that do not call it.
    pub(crate) fn unreported(&self) -> Option<String> {
        let unreported = self.unreported && !self.failures.is_empty();
        unreported.then(|| {
            format!(
                "the requests did not follow the script:\n- {}",
                self.failures.join("\n- ")
            )
        })
    }

    pub(crate) fn verify(&mut self) -> Result<()> {
        self.unreported = false;
        let mut report = String::new();
        for failure in &self.failures {
            let _ = write!(report, "\n- {failure}");
        }
        for (index, track) in self.tracks.iter().enumerate() {
            let script = &track.script;
            let wanted = script.again_from.unwrap_or(script.steps.len());
            if track.optional {
                continue;
            }
            let mut places: Vec<_> = self
                .places
                .iter()
                .filter(|((of, _), _)| *of == index)
                .map(|((_, conversation), place)| (conversation.as_str(), *place))
                .collect();
            if places.is_empty() {
                places.push(("", 0));
            }
            places.sort_unstable();
            for (conversation, place) in places.into_iter().filter(|(_, place)| *place < wanted) {
                let _ = write!(
                    report,
                    "\n- script `{}`{} stopped after {place} of {wanted} step(s); the next step \
                     is {:?}",
                    track.name,
                    of_conversation(conversation),
                    script.steps[place],
                );
            }
        }
        if report.is_empty() {
            return Ok(());
        }
        Err(Error::unmet(format!(
            "the client did not follow the script of the model (after {} request(s)):{report}",
            self.requests.len()
        )))
    }
}

/// Names a conversation, unless the script is shared by all.
fn of_conversation(conversation: &str) -> String {
    match conversation {
        "" => String::new(),
        some => format!(" of conversation {:?}", shorten(some)),
    }
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(200).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
