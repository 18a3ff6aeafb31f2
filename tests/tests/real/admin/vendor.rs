//! The vendor of a subscription: a stand-in on loopback, behind the proxy that the server is
//! configured with.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use openhands::process::LocalServerBuilder;
use openhands_tests::{Answer, StandIn, header};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Notify;

use super::stage::CANARY;

const HOSTS: &[&str] = &["auth.openai.com", "chatgpt.com"];

/// The parts of the vendor that the server uses.
pub(super) struct Vendor {
    stand_in: StandIn,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    approved: AtomicBool,
    fails: AtomicBool,
    model_asked: AtomicBool,
    polled: Notify,
}

impl Vendor {
    /// Starts the stand-in and writes its certificate authority into `home`.
    pub(super) async fn start(home: &TempDir) -> Self {
        let state = Arc::new(State::default());
        let shared = state.clone();
        let stand_in = StandIn::start(home, HOSTS, move |head| answer(head, &shared)).await;
        Self { stand_in, state }
    }

    /// Configures the server to use the stand-in.
    pub(super) fn used_by(&self, server: LocalServerBuilder) -> LocalServerBuilder {
        self.stand_in.used_by(server)
    }

    /// Returns the code that the user enters.
    pub(super) fn code(&self) -> &'static str {
        "ABCD-EFGH"
    }

    /// Waits until the server has asked whether the user has entered the code.
    pub(super) async fn polled(&self) {
        self.state.polled.notified().await;
    }

    /// Enters the code, as the user would.
    pub(super) fn approve(&self) {
        self.state.approved.store(true, Ordering::SeqCst);
    }

    /// Rejects each login from now on.
    pub(super) fn fail(&self) {
        self.state.fails.store(true, Ordering::SeqCst);
    }

    /// Returns whether a model was asked with the token of a login.
    pub(super) fn model_was_asked(&self) -> bool {
        self.state.model_asked.load(Ordering::SeqCst)
    }
}

fn answer(head: &str, state: &State) -> Answer {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match target {
        _ if state.fails.load(Ordering::SeqCst) => ("500 Internal Server Error", json!({})),
        "/api/accounts/deviceauth/usercode" => (
            "200 OK",
            json!({"device_auth_id": "auth-id", "user_code": "ABCD-EFGH", "interval": "1"}),
        ),
        "/api/accounts/deviceauth/token" => {
            state.polled.notify_one();
            match state.approved.load(Ordering::SeqCst) {
                true => (
                    "200 OK",
                    json!({"authorization_code": "c", "code_verifier": "v"}),
                ),
                false => ("403 Forbidden", json!({})),
            }
        }
        "/oauth/token" => (
            "200 OK",
            json!({"access_token": CANARY, "refresh_token": CANARY, "expires_in": 3600}),
        ),
        _ if target.starts_with("/backend-api/") => {
            let known = header(head, "authorization") == Some(&*format!("Bearer {CANARY}"));
            state.model_asked.fetch_or(known, Ordering::SeqCst);
            (
                "401 Unauthorized",
                json!({"error": {"message": "no such account"}}),
            )
        }
        _ => ("404 Not Found", json!({"keys": []})),
    };
    Answer::new(status, body)
}
