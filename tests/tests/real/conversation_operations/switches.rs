//! Switching a running conversation: to the model of a stored profile, to another model of an ACP
//! agent, and to a new plugin.

use std::{fs, path::Path};

use openhands::{
    Agent, Conversation, LocalServer,
    conversation::ErrorKind,
    protocol::{
        Request,
        config::{AcpAgent, AgentContext, Marketplace, Plugin},
    },
    testkit::ScriptedModel,
    transport::Body,
};
use serde_json::{Value, json};

use super::{answers, finishes, is_old, llm, says, started, workspace};

/// Sends a request for which this library has no call.
pub(super) async fn tell(server: &LocalServer, method: http::Method, path: &str, what: &Value) {
    let mut request = Request::new(method, path).json(what).unwrap();
    let json = http::HeaderValue::from_static("application/json");
    request.headers.insert(http::header::CONTENT_TYPE, json);
    let body = Body::from(request.body.take().unwrap());
    let answer = server.client().stream(request, body).await.unwrap();
    server.client().accepted(answer).await.unwrap();
}

pub(super) async fn the_model_of_a_stored_profile_is_used(server: &LocalServer) {
    let (first, second) = (
        says("The first model.").await,
        says("The profile's model.").await,
    );
    let profile = json!({"llm": {
        "model": ScriptedModel::MODEL,
        "base_url": second.base_url().to_string(),
        "api_key": "scripted",
        "num_retries": 1,
    }});
    tell(server, http::Method::POST, "/api/profiles/other", &profile).await;
    let conversation = started(server, &first).await;
    conversation.send("Who are you?").await.unwrap();
    finishes(&conversation).await;
    let switched = conversation.settings().switch_profile("other").await;
    if is_old(server).await {
        // An older server searches for profiles only in the home directory.
        assert_eq!(switched.unwrap_err().kind(), ErrorKind::NotFound);
        return conversation.delete().await.unwrap();
    }
    switched.unwrap();
    answers(&conversation, "And now?", "The profile's model.").await;
    assert_eq!(first.requests().len(), 1);
    conversation.delete().await.unwrap();
}

pub(super) async fn an_agent_of_others_takes_another_model(server: &LocalServer) {
    let agent = || AcpAgent::new([env!("CARGO_BIN_EXE_acp_agent")]);
    let conversation = Conversation::builder(&workspace(server), agent())
        .start()
        .await
        .unwrap();
    answers(&conversation, "Who are you?", "I am small.").await;
    conversation
        .settings()
        .switch_acp_model("large")
        .await
        .unwrap();
    answers(&conversation, "And now?", "I am large.").await;
    // A model that the agent does not have: the agent keeps its current one.
    let error = conversation
        .settings()
        .switch_acp_model("huge")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation, "{error:?}");
    answers(&conversation, "And now?", "I am large.").await;
    conversation.delete().await.unwrap();
    // Before the agent has started, the choice is stored for its start.
    let conversation = Conversation::builder(&workspace(server), agent())
        .start()
        .await
        .unwrap();
    conversation
        .settings()
        .switch_acp_model("large")
        .await
        .unwrap();
    answers(&conversation, "Who are you?", "I am large.").await;
    conversation.delete().await.unwrap();
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Creates a marketplace with one plugin, `greeter`, whose skill is triggered by the word
/// "captain".
fn marketplace() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let entry = json!({
        "name": "ours",
        "owner": {"name": "us"},
        "plugins": [{"name": "greeter", "source": "./greeter"}],
    });
    let at = |path: &str| place.path().join(path);
    write(&at(".plugin/marketplace.json"), &entry.to_string());
    let manifest = json!({"name": "greeter", "version": "1.0.0", "description": "greets"});
    write(&at("greeter/.plugin/plugin.json"), &manifest.to_string());
    let skill = "---\nname: greeting\ndescription: How one greets.\ntriggers:\n- captain\n---\n\
                 Here one says ahoy.\n";
    write(&at("greeter/skills/greeting/SKILL.md"), skill);
    place
}

pub(super) async fn a_plugin_comes_with_the_start_or_later(server: &LocalServer) {
    let place = marketplace();
    let model = says("Ahoy.").await;
    let greeted = async |conversation: &Conversation| {
        conversation.send("Hello, captain.").await.unwrap();
        finishes(conversation).await;
        let asked = model.requests().last().unwrap().body().to_string();
        asked.contains("Here one says ahoy.")
    };
    // Set at the start and loaded by the first message. A local plugin does not appear in the tags.
    let plugin = Plugin::new(place.path().join("greeter").to_str().unwrap());
    let agent = || Agent::default_preset(llm(&model)).cli_mode(true);
    let conversation = Conversation::builder(&workspace(server), agent())
        .plugin(plugin)
        .start()
        .await
        .unwrap();
    assert!(greeted(&conversation).await);
    assert!(conversation.state().tags().is_empty());
    conversation.delete().await.unwrap();
    // Loaded later, by its name in a marketplace of the agent.
    let ours = Marketplace::new("ours", place.path().to_str().unwrap());
    let agent = agent().agent_context(AgentContext::new().marketplace(ours));
    let conversation = Conversation::builder(&workspace(server), agent)
        .start()
        .await
        .unwrap();
    assert!(!greeted(&conversation).await);
    for unknown in ["rude@ours", "greeter@theirs"] {
        let error = conversation
            .settings()
            .load_plugin(unknown)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    }
    conversation
        .settings()
        .load_plugin("greeter@ours")
        .await
        .unwrap();
    assert!(greeted(&conversation).await);
    conversation.delete().await.unwrap();
}
