//! The calls that this process has dispatched. They ensure that each call is executed once, even if
//! a conversation is attached again, or twice.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use oh_protocol::ConversationId;
use tokio::time::Instant;

use crate::lock::lock;

/// Maximum number of conversations without attached handles whose claims are kept.
const REMEMBERED: usize = 1_000;

/// The claims and the time of their last use, by a server's URL and a conversation's id.
type Dispatched = HashMap<(Box<str>, ConversationId), (Instant, Arc<Claims>)>;

/// The calls dispatched in one conversation of a server.
#[derive(Debug)]
pub(crate) struct Claims {
    /// The last `seq` that was history when this process first attached: calls up to it are
    /// executed only on request. −1 for a conversation whose whole log is new.
    history: i64,
    /// Whether the call's handler is still running, by the id of the action.
    calls: Mutex<HashMap<Box<str>, bool>>,
}

static DISPATCHED: LazyLock<Mutex<Dispatched>> = LazyLock::new(Mutex::default);

/// The exclusive right to execute a call, until dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Arc<Claims>,
    action: Box<str>,
}

impl Claims {
    /// Returns the claims in a conversation of the server with this URL. `history` is called only
    /// when this process has no claims there yet.
    pub(crate) fn of(server: &str, id: ConversationId, history: impl FnOnce() -> i64) -> Arc<Self> {
        let now = Instant::now();
        let mut all = lock(&DISPATCHED);
        let (used, claims) = all.entry((server.into(), id)).or_insert_with(|| {
            let claims = Self {
                history: history(),
                calls: Mutex::default(),
            };
            (now, Arc::new(claims))
        });
        *used = now;
        let claims = claims.clone();
        let unused = |claims: &Arc<Self>| Arc::strong_count(claims) == 1;
        if all.values().filter(|(_, claims)| unused(claims)).count() > REMEMBERED {
            let oldest = all.iter().filter(|(_, (_, claims))| unused(claims));
            let oldest = oldest.min_by_key(|(_, (used, _))| *used);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                all.remove(&key);
            }
        }
        claims
    }

    pub(crate) fn history(&self) -> i64 {
        self.history
    }

    /// Claims a call. Returns `None` if it has been dispatched. With `again`, a call whose handler
    /// was interrupted can be claimed again.
    pub(crate) fn claim(self: &Arc<Self>, action: &str, again: bool) -> Option<Claim> {
        let mut calls = lock(&self.calls);
        match calls.get(action) {
            Some(at_work) if *at_work || !again => return None,
            _ => {}
        }
        calls.insert(action.into(), true);
        Some(Claim {
            claims: self.clone(),
            action: action.into(),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(at_work) = lock(&self.claims.calls).get_mut(&self.action) {
            *at_work = false;
        }
    }
}

/// Removes the claims of a deleted conversation, because its id may be used again.
pub(crate) fn forget(server: &str, id: ConversationId) {
    lock(&DISPATCHED).remove(&(server.into(), id));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "http://a.test/";

    #[test]
    fn a_call_is_claimed_once_and_resumed_only_on_request_after_a_cut() {
        let id = ConversationId::random();
        let claims = Claims::of(SERVER, id, || 4);
        assert_eq!(claims.history(), 4);
        let again = Claims::of(SERVER, id, || 9);
        assert_eq!(again.history(), 4, "history is what was found first");
        let first = claims.claim("a", false).unwrap();
        assert!(again.claim("a", false).is_none());
        assert!(again.claim("a", true).is_none(), "it is at work");
        drop(first);
        assert!(claims.claim("a", false).is_none());
        assert!(claims.claim("a", true).is_some());
        forget(SERVER, id);
        let claims = Claims::of(SERVER, id, || -1);
        assert_eq!(claims.history(), -1);
        assert!(claims.claim("a", false).is_some());
    }

    #[test]
    fn conversations_with_one_id_on_two_servers_are_separate() {
        let id = ConversationId::random();
        let one = Claims::of(SERVER, id, || 1);
        let other = Claims::of("http://b.test/", id, || 2);
        assert_eq!((one.history(), other.history()), (1, 2));
        let _first = one.claim("a", false).unwrap();
        assert!(other.claim("a", false).is_some());
    }

    #[test]
    fn only_claims_of_detached_conversations_are_forgotten() {
        let server = "http://many.test/";
        let id = ConversationId::random();
        let held = Claims::of(server, id, || 7);
        for _ in 0..REMEMBERED * 2 {
            Claims::of(server, ConversationId::random(), || 0);
        }
        let all = lock(&DISPATCHED);
        let ours = all.keys().filter(|(its, _)| **its == *server).count();
        drop(all);
        assert!(ours <= REMEMBERED + 2, "{ours}");
        assert_eq!(Claims::of(server, id, || 0).history(), held.history());
    }
}
