//! Tests of what every body and every call can do: be made, compared, serialized and deserialized,
//! without showing a secret.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Debug;

use oh_protocol::{
    ConversationState,
    calls::{
        Unreadable, bash, conversations as conversation, events, files, git, init, profiles,
        server, settings, skills, tools, vscode,
    },
    config::{Llm, SecretSource},
    state::ConversationInfo,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Makes a body from JSON, and compares it with itself after a round trip.
fn round_trip<T: Clone + Debug + PartialEq + Serialize + DeserializeOwned>(json: Value) {
    let body: T = serde_json::from_value(json.clone()).unwrap();
    let written = serde_json::to_string(&body).unwrap();
    let again: T = serde_json::from_str(&written).unwrap();
    assert_eq!(again, body.clone(), "{json}");
    let debug = format!("{body:?}");
    assert!(!debug.contains("canary"), "{debug}");
}

#[test]
fn bodies_survive_a_round_trip_and_hide_secrets() {
    let id = "00000000-0000-4000-8000-000000000001";
    let command = json!({"id": "1", "command": "echo canary", "timeout": 3});
    let output = json!({"command_id": "1", "exit_code": 0, "stdout": "canary"});
    let event = json!({"kind": "New", "id": "1", "source": "user", "x": [1.0]});
    let info = json!({"id": id, "execution_status": "idle", "title": "t"});
    let child = json!({"conversation_id": id, "parent_conversation_id": id, "status": "idle"});
    let unreadable = json!({"index": 3, "reason": "why", "json": {"a": 1}});
    round_trip::<Unreadable>(unreadable.clone());
    round_trip::<ConversationInfo>(info.clone());
    round_trip::<ConversationState>(info.clone());
    round_trip::<conversation::Created>(json!({"info": info, "is_new": true}));
    round_trip::<conversation::Page>(
        json!({"items": [info], "unreadable": [unreadable], "next_page_id": "2"}),
    );
    round_trip::<conversation::RuntimeInfo>(
        json!({"runtime_status": "missing", "can_resume": false,
            "runtime_error": {"code": "a", "message": "b"}}),
    );
    round_trip::<conversation::Child>(child);
    round_trip::<events::EventPage>(
        json!({"items": [event], "unreadable": [], "next_page_id": null}),
    );
    round_trip::<events::UserContent>(json!({"type": "image", "image_urls": ["data:"]}));
    round_trip::<bash::ExecuteRequest>(json!({"command": "echo canary", "timeout": 300}));
    round_trip::<bash::BashCommand>(command.clone());
    round_trip::<bash::BashOutput>(output.clone());
    round_trip::<bash::BashPage>(
        json!({"items": [{"kind": "BashCommand", "id": "1", "command": "canary"}],
            "next_page_id": null}),
    );
    round_trip::<bash::OutputPage>(json!({"items": [output], "next_page_id": "x"}));
    round_trip::<init::InitStatus>(json!({"state": "dormant", "error": "e"}));
    round_trip::<server::ServerInfo>(json!({"version": "1.58.2"}));
    round_trip::<settings::Settings>(
        json!({"agent_settings": {"llm": {"api_key": "canary"}}, "conversation_settings": {}}),
    );
    round_trip::<profiles::Profile>(json!({"name": "p", "config": {"api_key": "canary"}}));
    round_trip::<settings::SecretInfo>(json!({"name": "n"}));
    round_trip::<vscode::VscodeStatus>(json!({"running": true}));
    round_trip::<files::UploadResult>(json!({"success": true, "file_size": 3}));
    round_trip::<git::GitCommitsPage>(json!({"commits": []}));
    round_trip::<git::GitRepositoryPage>(json!({"items": []}));
    round_trip::<tools::CatalogEntry>(json!({"name": "t"}));
    round_trip::<skills::LoadedSkills>(json!({"skills": []}));
}

#[test]
fn calls_are_equal_if_the_server_would_get_the_same() {
    let init = || init::Init::new("canary").env("A", "canary-b");
    assert_eq!(init(), init());
    assert_ne!(init(), init().env("A", "canary-c"));
    assert_ne!(init(), init::Init::new("other").env("A", "canary-b"));
    let upload = |content: &'static str| files::Upload::new("/a", content);
    assert_eq!(upload("canary"), upload("canary"));
    assert_ne!(upload("canary"), upload("other"));
    let id = oh_protocol::ConversationId::random();
    let llm = |key: &str| conversation::SwitchLlm::new(id, Llm::new("m").api_key(key));
    assert_eq!(llm("canary"), llm("canary"));
    assert_ne!(llm("canary"), llm("canary-2"));
    let secrets =
        |value: &str| conversation::SetSecrets::new(id).secret("A", SecretSource::fixed(value));
    assert_eq!(secrets("canary"), secrets("canary"));
    assert_ne!(secrets("canary"), secrets("canary-2"));
    let shown = format!(
        "{:?} {:?} {:?} {:?}",
        init(),
        upload("canary"),
        llm("canary"),
        secrets("canary")
    );
    assert!(!shown.contains("canary"), "{shown}");
}
