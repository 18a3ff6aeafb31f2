//! Conversations to which a client returns.

use std::time::Duration;

use openhands::{
    Conversation, Cursor, ErrorKind, WorkspaceExt as _,
    protocol::calls::conversations::Get,
    testkit::{Script, ScriptedModel, Step},
};
use serde_json::json;

use super::{
    error::{SceneError, ensure},
    stage::{Stage, agent, ids},
};

/// Starts a conversation, and lets its agent finish once.
async fn finished(stage: &Stage, name: &str) -> Result<(ScriptedModel, Conversation), SceneError> {
    let step = Step::call("terminal", json!({"command": "echo one"}));
    let script = Script::new().step(step).finish("One.").finish("Two.");
    let (model, builder) = stage.conversation(name, script).await?;
    let conversation = builder.start().await?;
    run(&conversation, "Say one.").await?;
    Ok((model, conversation))
}

async fn run(conversation: &Conversation, message: &str) -> Result<(), SceneError> {
    conversation.send(message).await?;
    let outcome = conversation.run().await?;
    ensure(outcome.is_finished(), || outcome.to_string())
}

pub(super) async fn attach(stage: &Stage) -> Result<(), SceneError> {
    let (_model, first) = finished(stage, "attach").await?;
    let second = Conversation::attach(stage.server().client(), first.id()).await?;
    let mut events = second.subscribe(Cursor::Start);
    run(&first, "Say two.").await?;
    let log = stage.log(first.id()).await?;
    let mut seen = Vec::new();
    while seen.len() < log.len() {
        match events.next().await {
            Some(event) => seen.push(event?.id().to_owned()),
            None => break,
        }
    }
    ensure(seen == log, || format!("{seen:?} instead of {log:?}"))?;
    first.close().await?;
    Ok(second.close().await?)
}

pub(super) async fn tail(stage: &Stage) -> Result<(), SceneError> {
    let (_model, first) = finished(stage, "tail").await?;
    let second = Conversation::attach(stage.server().client(), first.id())
        .tail(2)
        .await?;
    let log = stage.log(first.id()).await?;
    let seen = ids(&second.events());
    ensure(!seen.is_empty() && log.ends_with(&seen), || {
        format!("{seen:?} instead of the end of {log:?}")
    })?;
    first.close().await?;
    Ok(second.close().await?)
}

pub(super) async fn restart(stage: &Stage) -> Result<(), SceneError> {
    const GRACE: Duration = Duration::from_secs(10);
    let state = stage.server().workspace_dir().join("state");
    let start = async || stage.another().state_dir(&state).start().await;
    let server = start().await?;
    let script = Script::new().finish("One.").finish("Two.");
    let (_model, agent) = agent(script).await?;
    let workspace = server.workspace(server.workspace_dir());
    let conversation = Conversation::builder(&workspace, agent).start().await?;
    run(&conversation, "Say one.").await?;
    let before = ids(&conversation.events());
    conversation.close().await?;
    server.shutdown(GRACE).await?;
    let server = start().await?;
    let conversation = Conversation::attach(server.client(), conversation.id()).await?;
    let after = ids(&conversation.events());
    ensure(after.starts_with(&before), || {
        format!("{after:?} instead of {before:?}")
    })?;
    run(&conversation, "Say two.").await?;
    conversation.close().await?;
    server.shutdown(GRACE).await?;
    Ok(())
}

pub(super) async fn fork(stage: &Stage) -> Result<(), SceneError> {
    let (_model, first) = finished(stage, "fork").await?;
    let copy = first.branches().fork().await?;
    let (original, copied) = (ids(&first.events()), ids(&copy.events()));
    ensure(
        copy.id() != first.id() && copied.len() >= original.len(),
        || format!("{copied:?} instead of {original:?}"),
    )?;
    copy.close().await?;
    Ok(first.close().await?)
}

pub(super) async fn title(stage: &Stage) -> Result<(), SceneError> {
    let (_model, first) = finished(stage, "title").await?;
    first.title().set("A title").await?;
    let get = Get::new(first.id());
    let info = stage.server().client().call(&get).await?;
    let title = info.title().map(|title| title.to_string());
    ensure(title.as_deref() == Some("A title"), || format!("{title:?}"))?;
    Ok(first.close().await?)
}

pub(super) async fn delete(stage: &Stage) -> Result<(), SceneError> {
    let (_model, first) = finished(stage, "delete").await?;
    first.delete().await?;
    let error = Conversation::attach(stage.server().client(), first.id()).await;
    let kind = error
        .err()
        .map(|error| openhands::Error::from(error).kind());
    ensure(kind == Some(ErrorKind::Gone), || format!("{kind:?}"))
}
