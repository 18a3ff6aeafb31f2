//! Runs of an agent.

use std::{sync::mpsc, time::Duration};

use openhands::{
    ClientTool, ConfirmationPolicy, Conversation, Cursor, Hook, HookConfig, Payload, RunStatus,
    conversation::Token,
    testkit::{Gate, Script, Step},
};
use serde_json::json;

use super::{
    error::{SceneError, ensure},
    stage::{Stage, ids},
};

/// Ends a scene unless the run has finished.
async fn finishes(conversation: &Conversation) -> Result<(), SceneError> {
    let outcome = conversation.run().await?;
    ensure(outcome.is_finished(), || outcome.to_string())
}

fn terminal(command: &str) -> Step {
    Step::call("terminal", json!({ "command": command }))
}

pub(super) async fn send_and_run(stage: &Stage) -> Result<(), SceneError> {
    let script = Script::new()
        .step(terminal("echo made >made.txt"))
        .finish("Done.");
    let (_model, builder) = stage.conversation("run", script).await?;
    let conversation = builder.start().await?;
    conversation.send("Make a file.").await?;
    finishes(&conversation).await?;
    let made = stage.server().workspace_dir().join("run/made.txt");
    ensure(made.exists(), || "the agent has made no file".to_owned())?;
    let answer = conversation.agent().final_response().await?;
    ensure(answer == "Done.", || answer.clone())?;
    Ok(conversation.close().await?)
}

pub(super) async fn events(stage: &Stage) -> Result<(), SceneError> {
    let mut script = Script::new();
    for n in 0..5 {
        script = script.step(terminal(&format!("echo {n}")));
    }
    let (_model, builder) = stage.conversation("events", script.finish("Done.")).await?;
    let (seen, received) = mpsc::channel();
    let conversation = builder
        .on_event(move |event| drop(seen.send(event.id().to_owned())))
        .start()
        .await?;
    conversation.send("Take five steps.").await?;
    finishes(&conversation).await?;
    let log = stage.log(conversation.id()).await?;
    let mirrored = ids(&conversation.events());
    ensure(mirrored == log, || {
        format!("{mirrored:?} instead of {log:?}")
    })?;
    conversation.close().await?;
    let called: Vec<_> = received.iter().collect();
    ensure(called == log, || format!("{called:?} instead of {log:?}"))
}

pub(super) async fn tokens(stage: &Stage) -> Result<(), SceneError> {
    let script = Script::new().text("Word by word.");
    let (_model, builder) = stage.conversation("tokens", script).await?;
    let conversation = builder.start().await?;
    let mut tokens = conversation.tokens();
    conversation.send("Speak.").await?;
    finishes(&conversation).await?;
    let mut typed = String::new();
    while !typed.ends_with("Word by word.") {
        let token = tokio::time::timeout(Duration::from_secs(10), tokens.next()).await;
        match token {
            Ok(Some(Token::Started { .. } | Token::Aborted { .. })) => typed.clear(),
            Ok(Some(Token::Text { content, .. })) => typed.push_str(&content),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => {
                return Err(SceneError::Unexpected(format!(
                    "the tokens end after `{typed}`"
                )));
            }
        }
    }
    Ok(conversation.close().await?)
}

pub(super) async fn denial(stage: &Stage) -> Result<(), SceneError> {
    let script = Script::new().finish("Done.").finish("Done now.");
    let (model, builder) = stage.conversation("denial", script).await?;
    let hook = "test -e denied && exit 0; touch denied; echo 'not yet' >&2; exit 2";
    let conversation = builder
        .hooks(HookConfig::new().stop(Hook::command(hook)))
        .start()
        .await?;
    conversation.send("Finish.").await?;
    finishes(&conversation).await?;
    let blocked: Vec<_> = conversation
        .events()
        .iter()
        .filter_map(|event| match event.payload() {
            Payload::HookExecution(hook) => Some(hook.blocked),
            _ => None,
        })
        .collect();
    let asked = model.requests().len();
    ensure(blocked == [true, false] && asked == 2, || {
        format!("verdicts {blocked:?}, {asked} requests to the model")
    })?;
    Ok(conversation.close().await?)
}

pub(super) async fn approvals(stage: &Stage) -> Result<(), SceneError> {
    let script = Script::new()
        .step(terminal("touch rejected"))
        .step(terminal("touch approved"))
        .finish("Done.");
    let (_model, builder) = stage.conversation("approvals", script).await?;
    let conversation = builder
        .confirmation_policy(ConfirmationPolicy::always())
        .start()
        .await?;
    let approvals = conversation.approvals();
    conversation.send("Make files.").await?;
    let mut answers = 0;
    loop {
        let outcome = conversation.run().await?;
        if outcome.status() != RunStatus::WaitingForConfirmation {
            ensure(outcome.is_finished(), || outcome.to_string())?;
            break;
        }
        let pending = approvals.pending();
        match answers {
            0 => approvals.reject(&pending, "Not this one.").await?,
            _ => approvals.approve(&pending).await?,
        }
        answers += 1;
    }
    let place = stage.server().workspace_dir().join("approvals");
    let (rejected, approved) = (
        place.join("rejected").exists(),
        place.join("approved").exists(),
    );
    ensure(answers >= 2 && approved && !rejected, || {
        format!("{answers} answers; approved {approved}, rejected {rejected}")
    })?;
    Ok(conversation.close().await?)
}

pub(super) async fn pause(stage: &Stage) -> Result<(), SceneError> {
    let gate = Gate::new();
    let script = Script::new()
        .step(terminal("echo one").hold(&gate))
        .finish("Done.");
    let (model, builder) = stage.conversation("pause", script).await?;
    let conversation = builder.start().await?;
    conversation.send("Take two steps.").await?;
    let running = tokio::spawn(conversation.run().into_future());
    while model.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let pausing = tokio::spawn(conversation.pause().into_future());
    tokio::time::sleep(Duration::from_millis(100)).await;
    gate.open();
    joined(pausing.await)??;
    let outcome = joined(running.await)??;
    ensure(outcome.status() == RunStatus::Paused, || {
        outcome.to_string()
    })?;
    finishes(&conversation).await?;
    Ok(conversation.close().await?)
}

pub(super) async fn interrupt(stage: &Stage) -> Result<(), SceneError> {
    let script = Script::new().step(terminal("sleep 1000")).finish("Done.");
    let (_model, builder) = stage.conversation("interrupt", script).await?;
    let conversation = builder.start().await?;
    let mut events = conversation.subscribe(Cursor::Now);
    conversation.send("Sleep.").await?;
    let running = tokio::spawn(conversation.run().into_future());
    while let Some(event) = events.next().await {
        if matches!(event?.payload(), Payload::Action(_)) {
            break;
        }
    }
    conversation.interrupt().await?;
    let outcome = joined(running.await)??;
    ensure(outcome.status() == RunStatus::Paused, || {
        outcome.to_string()
    })?;
    Ok(conversation.close().await?)
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Count {
    table: String,
}

pub(super) async fn client_tool(stage: &Stage) -> Result<(), SceneError> {
    let script = Script::new()
        .call("count", json!({"table": "users"}))
        .finish("Waiting.")
        // Older servers may need a reminder to read the result.
        .forever(|script| script.finish("Two."));
    let (model, builder) = stage.conversation("tools", script).await?;
    let tool = ClientTool::typed::<Count>(
        "count",
        "Counts the rows of a table.",
        |count, _call| async move { Ok(format!("2 rows of {}", count.table)) },
    );
    let conversation = builder.client_tool(tool).start().await?;
    conversation.send("Count.").await?;
    finishes(&conversation).await?;
    let seen = model
        .requests()
        .iter()
        .any(|request| request.body().to_string().contains("2 rows of users"));
    ensure(seen, || "the model has not seen the result".to_owned())?;
    Ok(conversation.close().await?)
}

pub(super) async fn cost(stage: &Stage) -> Result<(), SceneError> {
    let script = Script::new().step(Step::finish("Done.").usage(100, 20));
    let (_model, builder) = stage.conversation("cost", script).await?;
    let conversation = builder.start().await?;
    conversation.send("Finish.").await?;
    finishes(&conversation).await?;
    let usage = conversation.usage().current();
    let (cost, tokens) = (usage.cost(), usage.prompt_tokens());
    ensure(cost.is_some_and(|cost| cost > 0.1) && tokens >= 100, || {
        format!("cost {cost:?}, {tokens} tokens")
    })?;
    Ok(conversation.close().await?)
}

/// Converts a panic of a task.
fn joined<T>(ended: Result<T, tokio::task::JoinError>) -> Result<T, SceneError> {
    ended.map_err(|error| SceneError::Unexpected(error.to_string()))
}
