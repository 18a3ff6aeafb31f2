//! Automation environments, as far as several crates need them: the tags that the environment
//! requests, and the conversations of this process for the report at its end. Not public.

use std::{
    collections::BTreeMap,
    env,
    sync::{
        Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use oh_protocol::ConversationId;
use serde_json::Value;

/// The maximum length of a tag's value, in characters.
const LONGEST: usize = 256;

/// The conversations of this process.
static LEDGER: Mutex<Ledger> = Mutex::new(Ledger::new());

/// Whether the end of this process's work is reported already, or will be.
static CLAIMED: AtomicBool = AtomicBool::new(false);

/// Returns an environment variable that is set and not empty.
pub fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns the tags that the environment requests for every conversation. Values that are too long
/// for a tag are cut, so that they cannot prevent a start.
pub fn tags() -> BTreeMap<String, String> {
    let read = |name: &str| env::var(name).ok();
    tags_of(read("AUTOMATION_EVENT_PAYLOAD"), read("AUTOMATION_RUN_ID"))
}

fn tags_of(payload: Option<String>, run_id: Option<String>) -> BTreeMap<String, String> {
    let payload = payload.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let payload = payload.unwrap_or_default();
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let fields = [
        ("automationtrigger", text(&payload["trigger"])),
        ("automationid", text(&payload["automation_id"])),
        ("automationname", text(&payload["automation_name"])),
        ("automationrunid", run_id),
    ];
    let requested = fields.into_iter().filter_map(|(tag, value)| {
        let value: String = value?.chars().take(LONGEST).collect();
        (!value.is_empty()).then(|| (tag.to_owned(), value))
    });
    requested.collect()
}

/// Returns whether the environment requests a report, so that conversations are recorded.
pub fn is_requested() -> bool {
    variable("AUTOMATION_CALLBACK_URL").is_some()
}

/// Returns true for the first caller in this process: it reports the end of the work.
pub fn claim() -> bool {
    !CLAIMED.swap(true, Ordering::AcqRel)
}

/// A conversation whose cost may change.
pub trait Metered: Send + Sync {
    /// Returns the cost in US dollars, if the server has reported it.
    fn cost(&self) -> Option<f64>;
}

/// How the newest run of a conversation has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedRun {
    /// A short code.
    pub code: String,
    /// The description, without secrets.
    pub detail: String,
}

impl FailedRun {
    /// Describes a failure.
    pub fn new(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            detail: detail.into(),
        }
    }
}

/// A conversation of this process.
struct Entry {
    live: Weak<dyn Metered>,
    /// The cost when it was last read.
    cost: Option<f64>,
    /// The part of the cost that belongs to another conversation, of which this is a copy.
    before: f64,
    failed: Option<FailedRun>,
}

impl Entry {
    fn update(&mut self) {
        let now = self.live.upgrade().and_then(|live| live.cost());
        self.cost = now.or(self.cost);
    }
}

struct Ledger {
    entries: BTreeMap<String, Entry>,
    newest: Option<ConversationId>,
}

impl Ledger {
    const fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            newest: None,
        }
    }

    fn add(&mut self, id: ConversationId, live: Weak<dyn Metered>, before: f64, child: bool) {
        if !child || self.newest.is_none() {
            self.newest = Some(id);
        }
        let entry = self.entries.entry(id.to_string());
        let entry = entry.or_insert_with(|| Entry {
            live: live.clone(),
            cost: None,
            before,
            failed: None,
        });
        entry.update();
        entry.live = live;
    }

    fn cost(&mut self) -> Option<f64> {
        let costs = self.entries.values_mut().filter_map(|entry| {
            entry.update();
            Some((entry.cost? - entry.before).max(0.0))
        });
        costs.fold(None, |sum, cost| Some(sum.unwrap_or(0.0) + cost))
    }

    fn failed_run(&self) -> Option<FailedRun> {
        self.entries.values().find_map(|entry| entry.failed.clone())
    }
}

fn ledger() -> MutexGuard<'static, Ledger> {
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records a conversation. `before` is the part of its cost that does not count. A child of another
/// conversation is not reported as the conversation of the work.
pub fn add(id: ConversationId, live: Weak<dyn Metered>, before: f64, child: bool) {
    ledger().add(id, live, before, child);
}

/// Reads the cost of a conversation while it is known, before its handle ends.
pub fn update(id: ConversationId) {
    if let Some(entry) = ledger().entries.get_mut(&id.to_string()) {
        entry.update();
    }
}

/// Records how the newest run of a conversation has ended.
pub fn ran(id: ConversationId, failed: Option<FailedRun>) {
    if let Some(entry) = ledger().entries.get_mut(&id.to_string()) {
        entry.update();
        entry.failed = failed;
    }
}

/// Returns the newest conversation.
pub fn conversation() -> Option<ConversationId> {
    ledger().newest
}

/// Returns the sum of all costs in US dollars, or `None` if no cost is known.
pub fn cost() -> Option<f64> {
    ledger().cost()
}

/// Returns the failure of a conversation whose newest run has failed, if there is one.
pub fn failed_run() -> Option<FailedRun> {
    ledger().failed_run()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn requested(payload: &str, run_id: Option<&str>) -> String {
        let tags = tags_of(Some(payload.to_owned()), run_id.map(str::to_owned));
        let tags: Vec<_> = tags
            .iter()
            .map(|(tag, value)| format!("{tag}={value}"))
            .collect();
        tags.join(" ")
    }

    #[test]
    fn tags_are_read_from_the_payload_and_the_run_id() {
        let payload = r#"{"trigger":"cron","automation_id":7,"automation_name":"n","run_id":"x"}"#;
        assert_eq!(
            requested(payload, Some("r")),
            "automationid=7 automationname=n automationrunid=r automationtrigger=cron"
        );
        for nothing in [
            "",
            "{",
            "[1]",
            "null",
            r#"{"trigger":null,"automation_id":""}"#,
        ] {
            assert_eq!(requested(nothing, None), "", "{nothing}");
            assert_eq!(
                requested(nothing, Some("r")),
                "automationrunid=r",
                "{nothing}"
            );
        }
        assert!(tags_of(None, Some(String::new())).is_empty());
        // A longer value would be rejected.
        let long = tags_of(None, Some("é".repeat(300)));
        assert_eq!(long["automationrunid"].chars().count(), LONGEST);
    }

    struct Cost(Option<f64>);

    impl Metered for Cost {
        fn cost(&self) -> Option<f64> {
            self.0
        }
    }

    fn weak(cost: &Arc<Cost>) -> Weak<dyn Metered> {
        let cost: Arc<dyn Metered> = cost.clone();
        Arc::downgrade(&cost)
    }

    #[test]
    fn costs_are_summed_up_once_for_each_conversation() {
        let mut ledger = Ledger::new();
        let ids = [(); 4].map(|()| ConversationId::random());
        assert_eq!((ledger.newest, ledger.cost()), (None, None));
        let unknown = Arc::new(Cost(None));
        ledger.add(ids[0], weak(&unknown), 0.0, false);
        // An unknown cost is not zero.
        assert_eq!(ledger.cost(), None);
        let one = Arc::new(Cost(Some(1.0)));
        ledger.add(ids[1], weak(&one), 0.0, false);
        ledger.add(ids[1], weak(&one), 0.0, false);
        let copy = Arc::new(Cost(Some(1.5)));
        ledger.add(ids[2], weak(&copy), 1.0, false);
        let child = Arc::new(Cost(Some(0.25)));
        ledger.add(ids[3], weak(&child), 0.0, true);
        assert_eq!(ledger.newest, Some(ids[2]));
        assert_eq!(ledger.cost(), Some(1.75));
        // The costs of handles that have ended stay.
        drop((one, copy, child));
        assert_eq!(ledger.cost(), Some(1.75));
    }
}
