//! Tests of secrets that a server looks up on itself: which servers get their session key for the
//! lookup, and that no other host gets it.

use oh_conversation::{Conversation, Secret};
use oh_protocol::config::{Agent, AgentContext, Llm, SecretSource};
use serde_json::{Value, json};

use crate::mock::{Mock, Place, soon};

const OWN: &str = "/api/settings/secrets/A";
const ELSEWHERE: &str = "https://vault.example/api/settings/secrets/A";

/// Returns the session key at each of these places in the last request body.
fn keys(mock: &Mock, places: &[&str]) -> Vec<Option<String>> {
    let bodies = mock.bodies();
    let sent: Value = serde_json::from_str(bodies.last().unwrap()).unwrap();
    let key = |place: &&str| {
        let key = sent.pointer(&format!("{place}/headers/X-Session-API-Key"))?;
        Some(key.as_str().unwrap().to_owned())
    };
    places.iter().map(key).collect()
}

fn key_of(version: &str) -> Option<String> {
    ["1.43.1", "1.46.0", "1.49.0"]
        .contains(&version)
        .then(|| "key".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_conversation_starts_with_the_key_that_older_servers_need() {
    for version in ["1.43.1", "1.49.0", "1.50.0", "1.58.2", "main"] {
        let (mock, _dials) = Mock::new();
        mock.set_version(version);
        // The client rejects this response only after the request was sent.
        let found = json!({"id": mock.id.to_string(), "agent": {"kind": "ACPAgent"}});
        mock.plan("/api/conversations", Ok((200, found)));
        let context = AgentContext::new().secret("A", SecretSource::lookup(OWN));
        let agent = Agent::new(Llm::new("m")).agent_context(context);
        let start = Conversation::builder(&Place(mock.client()), agent)
            .secret("A", SecretSource::lookup(OWN))
            .secret("B", SecretSource::lookup(ELSEWHERE))
            .secret("C", "text")
            .start();
        soon(start).await.unwrap_err();
        let (own, inner) = ("/secrets/A", "/agent/agent_context/secrets/A");
        let found = keys(&mock, &[own, inner, "/secrets/B", "/secrets/C"]);
        let key = key_of(version);
        assert_eq!(found, [key.clone(), key, None, None], "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn secrets_set_later_have_the_key_that_older_servers_need() {
    for version in ["1.46.0", "1.58.2"] {
        let (mock, mut dials) = Mock::new();
        mock.set_version(version);
        tokio::spawn({
            let mock = mock.clone();
            async move {
                let dial = dials.recv().await.unwrap();
                let _ = dial.welcome(&mock, "idle").await;
                std::future::pending::<()>().await;
            }
        });
        let conversation = soon(mock.attach()).await.unwrap();
        let secrets = [
            ("A", Secret::lookup(OWN)),
            ("B", Secret::lookup(ELSEWHERE)),
            ("C", Secret::text(OWN)),
        ];
        soon(conversation.secrets().set(secrets)).await.unwrap();
        let found = keys(&mock, &["/secrets/A", "/secrets/B", "/secrets/C"]);
        assert_eq!(found, [key_of(version), None, None], "{version}");
        // A header set by the caller is kept.
        let own = SecretSource::lookup(OWN).header("x-session-api-key", "mine");
        soon(conversation.secrets().set([("A", own)]))
            .await
            .unwrap();
        assert_eq!(keys(&mock, &["/secrets/A"]), [None], "{version}");
    }
}
