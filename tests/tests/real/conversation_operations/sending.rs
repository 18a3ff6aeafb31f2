//! Messages with images, usage and cost, completion logs, and stopping a run.

use std::time::Duration;

use openhands::{
    Agent, Conversation, Cursor, LocalServer, RunStatus,
    conversation::{ErrorKind, completion_log},
    testkit::{Script, Step},
    workspace::CompletionCallback,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{sleep, timeout},
};

use super::{LONG, agent, llm, messages, model, next, outcome, says, started, workspace};

/// A single pixel.
const IMAGE: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg==";

pub(super) async fn a_picture_reaches_a_model_that_sees_and_no_other(server: &LocalServer) {
    // A model declared as having no vision.
    let blind = says("I see nothing.").await;
    let agent_of = |llm| Agent::default_preset(llm).cli_mode(true);
    let said = agent_of(llm(&blind).disable_vision(true));
    let conversation = Conversation::builder(&workspace(server), said)
        .start()
        .await
        .unwrap();
    let error = conversation.send("Look.").image(IMAGE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoVision, "{error:?}");
    assert!(
        conversation
            .events()
            .of_kind("MessageEvent")
            .next()
            .is_none()
    );
    conversation.close().await.unwrap();
    // The server assumes that the model has no vision. It answers itself and reports finished.
    let conversation = started(server, &blind).await;
    conversation
        .send("Look.")
        .image(IMAGE)
        .sender("someone")
        .await
        .unwrap();
    let ended = outcome(&conversation).await;
    assert!(
        ended.is_finished() && ended.report().image_unseen(),
        "{ended}"
    );
    assert!(blind.requests().is_empty(), "nobody was asked");
    conversation.send("Never mind.").await.unwrap();
    let ended = outcome(&conversation).await;
    assert!(
        ended.is_finished() && !ended.report().image_unseen(),
        "{ended}"
    );
    conversation.close().await.unwrap();
    // A model with vision, recognized by its name.
    let seeing = model(Script::new().forever(|s| s.text("A pixel."))).await;
    let named = llm(&seeing).set("model", "openai/gpt-4o");
    let conversation = Conversation::builder(&workspace(server), agent_of(named))
        .start()
        .await
        .unwrap();
    conversation.send("Look.").image(IMAGE).await.unwrap();
    let ended = outcome(&conversation).await;
    assert!(
        ended.is_finished() && !ended.report().image_unseen(),
        "{ended}"
    );
    assert_eq!(messages(&conversation.events()).last().unwrap(), "A pixel.");
    let asked = seeing.requests().last().unwrap().body().to_string();
    assert!(
        asked.contains("data:image/png"),
        "the picture is in the request"
    );
    conversation.close().await.unwrap();
}

pub(super) async fn usage_is_reported_by_id_live_per_run_and_at_the_end(server: &LocalServer) {
    let call = |cost| {
        Step::call("think", json!({"thought": "hm"}))
            .usage(100, 10)
            .cost(cost)
    };
    let script = Script::new()
        .step(call(0.25))
        .step(Step::text("One.").usage(200, 20).cost(0.5))
        .step(Step::text("Two.").usage(300, 30).cost(1.0));
    let model = model(script).await;
    let conversation = Conversation::builder(&workspace(server), agent(&model))
        .start()
        .await
        .unwrap();
    let before = conversation.usage().current();
    assert_eq!(before.cost().unwrap_or_default(), 0.0);
    let mut changes = conversation.usage().changes();
    conversation.send("First.").await.unwrap();
    let first = outcome(&conversation).await;
    let close = |cost: f64, to: f64| (cost - to).abs() < 1e-9;
    assert!(
        first.cost().is_some_and(|cost| close(cost, 0.75)),
        "{:?}",
        first.cost()
    );
    assert_eq!(first.report().usage().prompt_tokens(), 300);
    conversation.send("Second.").await.unwrap();
    let second = outcome(&conversation).await;
    assert!(
        second.cost().is_some_and(|cost| close(cost, 1.0)),
        "{:?}",
        second.cost()
    );
    assert_eq!(second.report().usage().completion_tokens(), 30);
    let ids: Vec<_> = second
        .report()
        .usage()
        .iter()
        .map(|(id, _)| id.to_owned())
        .collect();
    assert_eq!(ids, ["default"], "the condenser had nothing to do");
    // The cost grows with each step.
    let mut seen = 0.0;
    while seen < 1.74 {
        let usage = next(&mut changes).await.unwrap();
        let cost = usage.cost().unwrap_or_default();
        assert!(cost >= seen, "{cost} after {seen}");
        seen = cost;
    }
    conversation.close().await.unwrap();
    assert!(close(conversation.usage().current().cost().unwrap(), 1.75));
    let by_id = conversation.usage().current();
    assert_eq!(by_id.by_id("default").unwrap().prompt_tokens(), 600);
    while next(&mut changes).await.is_some() {}
    // A closed handle returns an error.
    let error = conversation.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
}

pub(super) async fn model_calls_are_kept_where_asked_for(server: &LocalServer) {
    let model = says("Grüße, 世界.").await;
    let kept = tempfile::tempdir().unwrap();
    let logged = Agent::default_preset(llm(&model).log_completions(true)).cli_mode(true);
    let conversation = Conversation::builder(&workspace(server), logged)
        .on_event_blocking(completion_log(kept.path()).unwrap())
        .start()
        .await
        .unwrap();
    conversation.send("Hello.").await.unwrap();
    assert!(outcome(&conversation).await.is_finished());
    // Closing waits for callbacks, but the event may arrive after the end of the run.
    let came = async {
        while conversation
            .events()
            .of_kind("LLMCompletionLogEvent")
            .next()
            .is_none()
        {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, came).await.unwrap();
    conversation.close().await.unwrap();
    let files: Vec<_> = std::fs::read_dir(kept.path()).unwrap().collect();
    assert_eq!(files.len(), 1);
    let text = std::fs::read_to_string(files[0].as_ref().unwrap().path()).unwrap();
    let call: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(call.to_string().contains("Grüße, 世界."), "{text}");
}

pub(super) async fn an_automation_receives_its_conversation_and_cost(server: &LocalServer) {
    let script = Script::new().step(Step::text("Done.").cost(0.25));
    let model = model(script).await;
    let conversation = Conversation::builder(&workspace(server), agent(&model))
        .tags([("trigger", "cron"), ("automationrunid", "from outside")])
        .tag("automationrunid", "r-1")
        .start()
        .await
        .unwrap();
    conversation.send("Work.").await.unwrap();
    assert!(outcome(&conversation).await.is_finished());
    conversation.close().await.unwrap();
    // The two crates are independent: the program passes values from one to the other.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/done", listener.local_addr().unwrap());
    let mut callback = CompletionCallback::new(&url)
        .unwrap()
        .conversation(conversation.id());
    if let Some(cost) = conversation.usage().current().cost() {
        callback = callback.cost(cost);
    }
    let reported = tokio::spawn(callback.completed());
    let (mut stream, _) = timeout(LONG, listener.accept()).await.unwrap().unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        let mut piece = [0; 1024];
        let read = timeout(LONG, stream.read(&mut piece))
            .await
            .unwrap()
            .unwrap();
        request.extend_from_slice(&piece[..read]);
        assert!(read > 0, "{}", String::from_utf8_lossy(&request));
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(answer).await.unwrap();
    timeout(LONG, reported).await.unwrap().unwrap().unwrap();
    let request = String::from_utf8(request).unwrap();
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["conversation_id"], conversation.id().to_string());
    assert_eq!(
        (&body["status"], &body["cost"]),
        (&json!("COMPLETED"), &json!(0.25))
    );
}

pub(super) async fn an_interrupt_ends_one_run_and_not_the_next(server: &LocalServer) {
    let script = Script::new()
        .step(Step::text("Never said.").delay(Duration::from_secs(90)))
        .step(Step::call("terminal", json!({"command": "sleep 1"})))
        .text("Said.");
    let model = model(script).await;
    let conversation = started(server, &model).await;
    conversation.send("Think long.").await.unwrap();
    let running = tokio::spawn({
        let conversation = conversation.clone();
        async move { conversation.run().await }
    });
    while model.requests().is_empty() {
        sleep(Duration::from_millis(20)).await;
    }
    conversation.interrupt().await.unwrap();
    let ended = timeout(LONG, running).await.unwrap().unwrap().unwrap();
    assert_eq!(ended.status(), RunStatus::Paused, "{ended}");
    // The server sends the paused state twice. The second one must not end the next run.
    let ended = outcome(&conversation).await;
    assert!(ended.is_finished(), "{ended}");
    assert_eq!(messages(&conversation.events()), ["Think long.", "Said."]);
    conversation.close().await.unwrap();
}

pub(super) async fn a_pause_lets_the_step_end_and_a_run_goes_on(server: &LocalServer) {
    let place = tempfile::tempdir().unwrap();
    let paused = place.path().join("paused");
    let command = format!(
        "while [ ! -e '{}' ]; do sleep 0.05; done; echo slept",
        paused.display()
    );
    let script = Script::new()
        .call("terminal", json!({ "command": command }))
        .text("Awake.");
    let model = model(script).await;
    let conversation = started(server, &model).await;
    let mut events = conversation.subscribe(Cursor::Now);
    conversation.send("Sleep.").await.unwrap();
    let running = tokio::spawn({
        let conversation = conversation.clone();
        async move { conversation.run().await }
    });
    while next(&mut events).await.unwrap().unwrap().kind() != "ActionEvent" {}
    conversation.pause().await.unwrap();
    std::fs::write(paused, "").unwrap();
    // The server sends the paused state at once, while the tool is still running. The run ends when
    // it sends the state again.
    let ended = timeout(LONG, running).await.unwrap().unwrap().unwrap();
    assert_eq!(ended.status(), RunStatus::Paused, "{ended}");
    let held = conversation.events();
    assert_eq!(held.of_kind("PauseEvent").count(), 1);
    let seen = held.of_kind("ObservationEvent").next_back().unwrap();
    assert!(seen.as_json().contains("slept"), "{seen}");
    assert_eq!(model.requests().len(), 1, "no step after it");
    let ended = outcome(&conversation).await;
    assert!(ended.is_finished(), "{ended}");
    assert_eq!(messages(&conversation.events()), ["Sleep.", "Awake."]);
    // With no active run, a pause only sets a flag that the next run clears.
    conversation.pause().await.unwrap();
    conversation.delete().await.unwrap();
}
