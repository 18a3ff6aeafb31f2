//! Which calls this process has dispatched: what makes "once" hold for a conversation that is
//! attached again, or twice. Knows no handlers.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use oh_protocol::ConversationId;

/// What has been dispatched in one conversation.
struct Entry {
    /// The last `seq` that was history when this process first looked: nothing up to it is
    /// dispatched unasked. −1 for a conversation whose whole log is new.
    history: i64,
    /// By the id of the action: whether its handler is still at work.
    calls: HashMap<Box<str>, bool>,
}

static DISPATCHED: LazyLock<Mutex<HashMap<ConversationId, Entry>>> = LazyLock::new(Mutex::default);

fn entries() -> MutexGuard<'static, HashMap<ConversationId, Entry>> {
    DISPATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is history: as this process found it first, or now as given.
pub(super) fn begin(id: ConversationId, history: impl FnOnce() -> i64) -> i64 {
    let mut entries = entries();
    let entry = entries.entry(id).or_insert_with(|| Entry {
        history: history(),
        calls: HashMap::new(),
    });
    entry.history
}

/// A call that is this caller's to carry out, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    id: ConversationId,
    action: Box<str>,
}

/// Claims a call; none if it has been dispatched. `again`: also one whose handler was cut off.
pub(super) fn claim(id: ConversationId, action: &str, again: bool) -> Option<Claim> {
    let mut entries = entries();
    let calls = &mut entries.get_mut(&id)?.calls;
    match calls.get(action) {
        Some(at_work) if *at_work || !again => return None,
        _ => {}
    }
    calls.insert(action.into(), true);
    let action = action.into();
    Some(Claim { id, action })
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(entry) = entries().get_mut(&self.id)
            && let Some(at_work) = entry.calls.get_mut(&self.action)
        {
            *at_work = false;
        }
    }
}

/// Forgets a conversation that was deleted: its id may come to stand for another.
pub(crate) fn forget(id: ConversationId) {
    entries().remove(&id);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_claimed_once_and_taken_up_only_when_asked_and_cut_off() {
        let id = ConversationId::random();
        assert!(claim(id, "a", false).is_none(), "nobody has begun");
        assert_eq!(begin(id, || 4), 4);
        assert_eq!(begin(id, || 9), 4, "history is what was found first");
        let first = claim(id, "a", false).unwrap();
        assert!(claim(id, "a", false).is_none());
        assert!(claim(id, "a", true).is_none(), "it is at work");
        drop(first);
        assert!(claim(id, "a", false).is_none());
        assert!(claim(id, "a", true).is_some());
        forget(id);
        assert_eq!(begin(id, || -1), -1);
        assert!(claim(id, "a", false).is_some());
    }
}
