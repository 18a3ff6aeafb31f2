//! Settings that are changed during a conversation.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use openhands::{
    Agent, Conversation, LocalServer, Payload,
    conversation::{ErrorKind, Secret},
    protocol::{
        config::{AgentContext, ConfirmationPolicy, SecretSource, Skill},
        hooks::{Hook, HookConfig},
        state::ConversationState,
    },
    testkit::{Script, ScriptedModel},
};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{
    LONG, agent, answers, finishes, is_old, llm, model, says, started, switches::tell, workspace,
};

pub(super) async fn the_state_names_hooks_secrets_and_skills(server: &LocalServer) {
    let script = Script::new()
        .call("invoke_skill", json!({"name": "polish"}))
        .finish("Done.");
    let model = model(script).await;
    let hooks = HookConfig::new().stop(Hook::command("true"));
    let skill = Skill::new("polish", "Rub it.")
        .description("How to polish.")
        .is_agentskills_format(true);
    let context = AgentContext::new().skill(skill);
    let conversation =
        Conversation::builder(&workspace(server), agent(&model).agent_context(context))
            .secret("FIRST", "canary-first")
            .hooks(hooks.clone())
            .start()
            .await
            .unwrap();
    conversation
        .secrets()
        .set([("SECOND", "canary-second")])
        .await
        .unwrap();
    conversation.send("Polish it.").await.unwrap();
    finishes(&conversation).await;
    assert!(!conversation.state().may_ask_for_confirmation());
    let policy = ConfirmationPolicy::always();
    conversation.approvals().set_policy(policy).await.unwrap();
    let other = Conversation::attach(server.client(), conversation.id())
        .await
        .unwrap();
    for state in [
        conversation.state().as_ref(),
        other.state().as_ref(),
        conversation.info().await.unwrap().state(),
    ] {
        assert!(state.may_ask_for_confirmation());
        assert_eq!(state.hook_config().as_ref(), Some(&hooks));
        assert_eq!(state.invoked_skills(), ["polish"]);
    }
    // The REST API and each snapshot have the names; no state has a value.
    assert_eq!(other.state().secret_names(), ["FIRST", "SECOND"]);
    let whole = serde_json::to_string(other.state().as_ref()).unwrap();
    assert!(
        whole.contains("FIRST") && !whole.contains("canary"),
        "{whole}"
    );
    let again: ConversationState = serde_json::from_str(&whole).unwrap();
    assert_eq!(&again, other.state().as_ref());
    other.close().await.unwrap();
    conversation.delete().await.unwrap();
}

pub(super) async fn secrets_are_given_as_text_looked_up_and_computed(server: &LocalServer) {
    let script = Script::new()
        .call(
            "terminal",
            json!({"command": "echo [$TEXT][$COMPUTED][$LOOKED_UP][$EARLY]"}),
        )
        .forever(|s| s.finish("Done."));
    let model = model(script).await;
    let kept = json!({"name": "KEPT", "value": "canary-kept"});
    tell(server, http::Method::PUT, "/api/settings/secrets", &kept).await;
    let conversation = Conversation::builder(&workspace(server), agent(&model))
        .secret("EARLY", "canary-early")
        .start()
        .await
        .unwrap();
    let computed = Arc::new(AtomicU32::new(0));
    let counter = computed.clone();
    let secret = Secret::computed(move || {
        let n = counter.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, std::io::Error>(format!("canary-computed-{n}")) }
    });
    conversation
        .secrets()
        .set([("TEXT", "canary-text")])
        .await
        .unwrap();
    let kept = workspace(server).secrets(&["KEPT"]).await.unwrap();
    let kept = kept["KEPT"].clone();
    conversation
        .secrets()
        .set([("COMPUTED", secret), ("LOOKED_UP", kept.into())])
        .await
        .unwrap();
    assert_eq!(computed.load(Ordering::SeqCst), 1);
    let error = conversation
        .secrets()
        .set([("1TOKEN", SecretSource::fixed("x"))])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(format!("{error:?}").contains("1TOKEN"));
    let failing = Secret::computed(|| async { Err::<String, _>("the vault is shut") });
    let error = conversation
        .secrets()
        .set([("TOKEN", failing)])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "the vault is shut");

    conversation.send("Use them.").await.unwrap();
    finishes(&conversation).await;
    let events = conversation.events();
    let seen = events
        .iter()
        .any(|event| event.as_json().contains("canary-"));
    assert!(!seen, "the values of secrets are masked in what is logged");
    // An older server is sent its session key, so that it can look up its stored secrets.
    let key = server.session_api_key().expose_secret();
    assert!(events.iter().all(|event| !event.as_json().contains(key)));
    for path in files(server.state_dir()) {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let held = bytes.windows(key.len()).any(|part| part == key.as_bytes());
        assert!(!held, "the session key is in {}", path.display());
    }
    let hidden = "[<secret-hidden>][<secret-hidden>][<secret-hidden>][<secret-hidden>]";
    let ran = events.iter().any(|event| match event.payload() {
        Payload::Observation(body) => body.tool_name == "terminal" && body.text().contains(hidden),
        _ => false,
    });
    let shown: Vec<_> = events.iter().map(ToString::to_string).collect();
    assert!(ran, "the command had all of them: {shown:#?}");
    conversation.close().await.unwrap();
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let (mut found, mut todo) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => todo.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

pub(super) async fn tags_titles_and_models_change(server: &LocalServer) {
    let (first, second) = (
        says("The first model.").await,
        says("The other model.").await,
    );
    let conversation = Conversation::builder(&workspace(server), agent(&first))
        .tags([("run", "7"), ("team", "from outside")])
        .tag("team", "mine")
        .start()
        .await
        .unwrap();
    let tags = conversation.state().get("tags").map(ToString::to_string);
    assert_eq!(tags.as_deref(), Some(r#"{"run":"7","team":"mine"}"#));
    conversation
        .settings()
        .set_tags([("team", "tools")])
        .await
        .unwrap();
    conversation.title().set("A title").await.unwrap();
    let info = conversation.info().await.unwrap();
    assert_eq!(info.title().unwrap(), "A title");
    assert_eq!(
        info.state().get("tags").unwrap().as_str(),
        r#"{"team":"tools"}"#
    );
    let too_long = "x".repeat(201);
    for error in [
        conversation.title().set("").await.unwrap_err(),
        conversation.title().set(" ").await.unwrap_err(),
        conversation.title().set(&too_long).await.unwrap_err(),
        conversation
            .settings()
            .set_tags([("Team", "x")])
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        assert_eq!(error.conversation_id(), Some(conversation.id()));
    }

    conversation
        .settings()
        .switch_llm(llm(&second))
        .await
        .unwrap();
    answers(&conversation, "Who are you?", "The other model.").await;
    // Models can be switched any number of times, and back to an earlier one.
    conversation
        .settings()
        .switch_llm(llm(&first))
        .await
        .unwrap();
    answers(&conversation, "And now?", "The first model.").await;
    conversation
        .settings()
        .switch_llm(llm(&second))
        .await
        .unwrap();
    let events = conversation.events().len();
    assert_eq!(
        conversation.agent().ask("And?").await.unwrap(),
        "The other model."
    );
    let title = conversation
        .title()
        .generate()
        .llm(llm(&first))
        .await
        .unwrap();
    assert_eq!(title, ScriptedModel::TITLE);
    // Neither change adds a message to the log.
    let new = conversation.events().slice(events..);
    assert!(
        new.iter()
            .all(|event| event.kind() == "ConversationStateUpdateEvent")
    );
    conversation.close().await.unwrap();
}

pub(super) async fn an_unknown_profile_is_reported_and_the_model_stays(server: &LocalServer) {
    let model = says("Still here.").await;
    let conversation = started(server, &model).await;
    let error = conversation
        .settings()
        .switch_profile("no-such-profile")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let error = conversation
        .settings()
        .load_plugin("no-such-plugin")
        .await
        .unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Validation),
        "{error:?}"
    );
    let error = conversation
        .settings()
        .switch_acp_model("x")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation, "{error:?}");
    answers(&conversation, "Are you there?", "Still here.").await;
    match is_old(server).await {
        false => {
            let runtime = conversation.runtime().info().await.unwrap();
            assert!(runtime.can_resume);
            assert_eq!(conversation.runtime().reprovision().await.unwrap(), runtime);
        }
        true => {
            let error = conversation.runtime().info().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        }
    }
    conversation.close().await.unwrap();
}

pub(super) async fn condensing_needs_a_condenser(server: &LocalServer) {
    let model = says("A summary, or an answer.").await;
    let conversation = started(server, &model).await;
    for n in 0..5 {
        conversation.send(format!("Message {n}.")).await.unwrap();
        finishes(&conversation).await;
    }
    conversation.agent().condense().await.unwrap();
    let condensed = async {
        while conversation
            .events()
            .of_kind("Condensation")
            .next()
            .is_none()
        {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, condensed).await.unwrap();
    conversation.close().await.unwrap();
    let plain = Conversation::builder(&workspace(server), Agent::new(llm(&model)))
        .start()
        .await
        .unwrap();
    plain.send("Hello.").await.unwrap();
    finishes(&plain).await;
    let error = plain.agent().condense().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    plain.close().await.unwrap();
}
