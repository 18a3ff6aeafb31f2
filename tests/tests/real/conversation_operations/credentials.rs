//! The login of an ACP agent that is kept at a URL.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use openhands::{
    Conversation, LocalServer,
    conversation::ErrorKind,
    protocol::{calls::conversations::BindCredential, config::AcpAgent},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers::any};

use super::{LONG, finishes, workspace};

/// The login that the URL returns. Its version is its number of renewals.
struct Login {
    value: String,
    version: u64,
    /// The key that may read and renew it.
    key: &'static str,
}

/// A service that keeps a login.
struct Keeper {
    login: Arc<Mutex<Login>>,
    /// The version, whenever it changes.
    versions: watch::Receiver<u64>,
    server: MockServer,
}

impl Keeper {
    async fn start() -> Self {
        let value = json!({
            "auth_mode": "chatgpt",
            "account": "acme",
            "tokens": {"refresh_token": "canary-first"},
        });
        let login = Arc::new(Mutex::new(Login {
            value: value.to_string(),
            version: 0,
            key: "first key",
        }));
        let (announce, versions) = watch::channel(0);
        let kept = login.clone();
        let answer = move |request: &Request| {
            let mut login = kept.lock().unwrap();
            if request
                .headers
                .get("x-key")
                .is_none_or(|key| key != login.key)
            {
                return ResponseTemplate::new(403);
            }
            if request.method == "PUT" {
                let body: Value = request.body_json().unwrap();
                let expected = body["expected_version"].as_str();
                if expected.and_then(|version| version.parse().ok()) != Some(login.version) {
                    return ResponseTemplate::new(409);
                }
                body["value"].as_str().unwrap().clone_into(&mut login.value);
                login.version += 1;
                announce.send_replace(login.version);
            }
            let (value, version) = (&login.value, login.version.to_string());
            let body = json!({"value": value, "version": version});
            ResponseTemplate::new(200).set_body_json(body)
        };
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(answer).mount(&server).await;
        Self {
            login,
            versions,
            server,
        }
    }

    fn url(&self) -> String {
        self.server.uri() + "/login?of=canary-url"
    }

    /// Returns the login of this version, as soon as it is there.
    async fn renewed(&mut self, version: u64) -> String {
        let wait = self.versions.wait_for(|now| *now == version);
        drop(timeout(LONG, wait).await.unwrap().unwrap());
        self.login.lock().unwrap().value.clone()
    }
}

async fn bind(conversation: &Conversation, url: String, key: &str) -> Result<(), ErrorKind> {
    let secrets = conversation.secrets();
    let bound = secrets.bind(BindCredential::CODEX, url, [("X-Key", key)]);
    bound.await.map_err(|error| {
        assert!(
            !format!("{error:?} {error}").contains("canary"),
            "{error:?}"
        );
        error.kind()
    })
}

pub(super) async fn the_login_of_an_agent_is_kept_at_a_url(server: &LocalServer) {
    let mut keeper = Keeper::start().await;
    let agent = AcpAgent::new([env!("CARGO_BIN_EXE_acp_agent")]);
    let started = Conversation::builder(&workspace(server), agent).start();
    let conversation = started.await.unwrap();
    let wrong = bind(&conversation, keeper.url(), "wrong key").await;
    assert_eq!(wrong, Err(ErrorKind::Forbidden));
    bind(&conversation, keeper.url(), "first key")
        .await
        .unwrap();

    conversation.send("Ask for a new token.").await.unwrap();
    finishes(&conversation).await;
    let answer = conversation.agent().final_response().await.unwrap();
    let (text, directory) = answer.rsplit_once(' ').unwrap();
    assert_eq!(text, "I am small. I work for acme at");
    assert!(Path::new(directory).join("auth.json").exists(), "{answer}");
    let renewed = keeper.renewed(1).await;
    assert!(renewed.contains("canary-first, renewed"), "{renewed}");

    // A key expires: the same URL with another key is no other login.
    keeper.login.lock().unwrap().key = "second key";
    let elsewhere = bind(&conversation, keeper.server.uri() + "/other", "second key").await;
    assert_eq!(elsewhere, Err(ErrorKind::Conflict));
    bind(&conversation, keeper.url(), "second key")
        .await
        .unwrap();
    conversation.send("Ask for a new token.").await.unwrap();
    finishes(&conversation).await;
    let renewed = keeper.renewed(2).await;
    assert!(
        renewed.contains("canary-first, renewed, renewed"),
        "{renewed}"
    );

    for event in &conversation.events() {
        let event = String::from_utf8_lossy(event.raw());
        assert!(!event.contains("canary"), "{event}");
    }
    conversation.delete().await.unwrap();
    assert!(!Path::new(directory).exists(), "{directory}");
}
