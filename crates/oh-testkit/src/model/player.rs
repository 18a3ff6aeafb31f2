//! Plays scripts: which step answers a request, and what went against the script.

use std::{
    collections::HashMap,
    fmt::Write as _,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{ModelRequest, Script, Step};
use crate::{Error, Result};

pub(crate) type Wants = Arc<dyn Fn(&ModelRequest) -> bool + Send + Sync>;

/// One script and the requests it is for.
pub(crate) struct Track {
    pub(crate) name: String,
    pub(crate) wants: Option<Wants>,
    pub(crate) script: Script,
    /// Steps left over are no failure: nobody knows how often such requests come.
    pub(crate) optional: bool,
}

pub(crate) struct Player {
    tracks: Vec<Track>,
    /// Next step, by track and conversation.
    places: HashMap<(usize, String), usize>,
    requests: Vec<ModelRequest>,
    failures: Vec<String>,
    /// Nobody has asked yet how it went.
    unheard: bool,
}

/// A step and how to speak of it.
struct Turn {
    step: Step,
    name: String,
    asked: String,
}

/// The step for this request. Objections become a step that fails with 400: clients take that
/// for final, where they would retry a 500 for minutes.
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
    // A chosen step may itself choose; each level needs its own checks.
    for _ in 0..16 {
        for check in &step.checks {
            attempt(|| check(request))
                .and_then(|outcome| outcome)
                .map_err(|objection| format!("{asked} breaks {name}: {objection}"))?;
        }
        let Some(choose) = step.choose.clone() else {
            return Ok(step);
        };
        step = attempt(|| choose(request))
            .map_err(|panic| format!("{asked} cannot be answered by {name}: {panic}"))?;
    }
    Err(format!("{name} never decides"))
}

/// Calls what a test wrote. A panic in it, such as a failed `assert_eq!`, becomes what it said:
/// unwinding would take the connection along and leave the client to guess.
pub(crate) fn attempt<T>(closure: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(closure)).map_err(|payload| {
        let said = payload.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| payload.downcast_ref::<&str>().copied());
        format!("it panicked: {}", said.unwrap_or("(no message)"))
    })
}

/// A panic in a test's own check must not hide the log of the requests.
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
            unheard: true,
        }
    }

    /// One script for everything.
    pub(crate) fn single(script: Script) -> Self {
        Self::new(vec![Track {
            name: "script".into(),
            wants: None,
            script,
            optional: false,
        }])
    }

    /// The step whose turn it is. The closures in it are not called: nobody else waits for them.
    fn turn(&mut self, request: &ModelRequest) -> Result<Turn, String> {
        self.requests.push(request.clone());
        let number = self.requests.len();
        let index = self
            .tracks
            .iter()
            .position(|track| track.wants.as_ref().is_none_or(|wants| wants(request)))
            .ok_or_else(|| format!("request {number} fits no track of the scripted model"))?;
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
            let last = script.steps.last().map(|step| format!(", {step:?} last"));
            return Err(format!(
                "request {number}{who} finds script `{}` dry: it has {} step(s), all played{}; \
                 the newest message was {:?}",
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

    /// What went against the script, unless [`verify`](Self::verify) was asked before: a test
    /// that forgot to ask should still see it.
    pub(crate) fn unheard(&self) -> Option<String> {
        let unheard = self.unheard && !self.failures.is_empty();
        unheard.then(|| {
            format!(
                "the script was contradicted:\n- {}",
                self.failures.join("\n- ")
            )
        })
    }

    pub(crate) fn verify(&mut self) -> Result<()> {
        self.unheard = false;
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
                    "\n- script `{}`{} stopped after {place} of {wanted} step(s); next would be \
                     {:?}",
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
            "the scripted model and its client disagree (after {} request(s)):{report}",
            self.requests.len()
        )))
    }
}

/// Names a conversation where there is more than one.
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
