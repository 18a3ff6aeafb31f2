//! Messages with images, and what it all costs.

use openhands::{
    Agent, Conversation, LocalServer,
    conversation::ErrorKind,
    testkit::{Script, Step},
};
use serde_json::json;

use super::{agent, llm, messages, model, next, outcome, says, started, workspace};

/// One pixel.
const IMAGE: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg==";

pub(super) async fn a_picture_reaches_a_model_that_sees_and_no_other(server: &LocalServer) {
    // One that is said to see nothing.
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
    // One that the server takes to see nothing: it answers itself, and says finished.
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
    // And one that sees, by its name.
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

pub(super) async fn usage_is_told_by_id_live_per_run_and_at_the_end(server: &LocalServer) {
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
    let before = conversation.usage();
    assert_eq!(before.cost().unwrap_or_default(), 0.0);
    let mut changes = conversation.usage_changes();
    conversation.send("First.").await.unwrap();
    let first = outcome(&conversation).await;
    let close = |cost: f64, to: f64| (cost - to).abs() < 1e-9;
    assert!(
        close(first.report().cost(), 0.75),
        "{}",
        first.report().cost()
    );
    assert_eq!(first.report().usage().prompt_tokens(), 300);
    conversation.send("Second.").await.unwrap();
    let second = outcome(&conversation).await;
    assert!(
        close(second.report().cost(), 1.0),
        "{}",
        second.report().cost()
    );
    assert_eq!(second.report().usage().completion_tokens(), 30);
    let ids: Vec<_> = second
        .report()
        .usage()
        .iter()
        .map(|(id, _)| id.to_owned())
        .collect();
    assert_eq!(ids, ["default"], "the condenser had nothing to do");
    // It grew step by step.
    let mut seen = 0.0;
    while seen < 1.74 {
        let usage = next(&mut changes).await.unwrap();
        let cost = usage.cost().unwrap();
        assert!(cost >= seen, "{cost} after {seen}");
        seen = cost;
    }
    conversation.close().await.unwrap();
    assert!(close(conversation.usage().cost().unwrap(), 1.75));
    let by_id = conversation.usage();
    assert_eq!(by_id.by_id("default").unwrap().prompt_tokens(), 600);
    while next(&mut changes).await.is_some() {}
    // A closed handle says so.
    let error = conversation.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
}
