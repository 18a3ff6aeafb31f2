//! Plays scripts: which step answers a request, and what went against the script.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

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
}

impl Player {
    pub(crate) fn new(tracks: Vec<Track>) -> Self {
        Self {
            tracks,
            places: HashMap::new(),
            requests: Vec::new(),
            failures: Vec::new(),
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

    /// The step for this request. Objections become a step that fails with 400: clients take
    /// that for final, where they would retry a 500 for minutes.
    pub(crate) fn play(&mut self, request: ModelRequest) -> Step {
        let number = self.requests.len() + 1;
        self.requests.push(request.clone());
        match self.choose(number, &request) {
            Ok(step) => step,
            Err(objection) => {
                self.failures.push(objection.clone());
                Step::fail(400, objection)
            }
        }
    }

    fn choose(&mut self, number: usize, request: &ModelRequest) -> Result<Step, String> {
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
        let place = self.places.entry((index, conversation)).or_default();
        if *place >= script.steps.len()
            && let Some(from) = script.again_from
        {
            *place = from;
        }
        let Some(step) = script.steps.get(*place) else {
            return Err(format!(
                "request {number} finds script `{}` dry: it has {} step(s), all played; the \
                 newest message was {:?}",
                track.name,
                script.steps.len(),
                shorten(&request.last_text()),
            ));
        };
        *place += 1;
        let place = *place;
        let name = &track.name;
        let mut step = step.clone();
        // A chosen step may itself choose; each level needs its own checks.
        for _ in 0..16 {
            for check in &step.checks {
                check(request).map_err(|objection| {
                    format!("request {number} breaks step {place} of `{name}`: {objection}")
                })?;
            }
            match step.choose.clone() {
                Some(choose) => step = choose(request),
                None => return Ok(step),
            }
        }
        Err(format!("step {place} of `{name}` never decides"))
    }

    pub(crate) fn object(&mut self, objection: String) {
        self.failures.push(objection);
    }

    pub(crate) fn requests(&self) -> Vec<ModelRequest> {
        self.requests.clone()
    }

    pub(crate) fn verify(&self) -> Result<()> {
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
                .map(|(_, place)| *place)
                .collect();
            if places.is_empty() {
                places.push(0);
            }
            for place in places.into_iter().filter(|place| *place < wanted) {
                let _ = write!(
                    report,
                    "\n- script `{}` stopped after {place} of {wanted} step(s); next would be {:?}",
                    track.name, script.steps[place],
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

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(200).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
