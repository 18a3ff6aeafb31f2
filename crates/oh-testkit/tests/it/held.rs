//! Tests of run slots, hooks that add context, dormant servers, and data loaded from the server's
//! disk.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::header;
use oh_protocol::{
    ConversationId,
    calls::{conversations, files, init, skills},
};
use oh_testkit::{FakeServer, Script, Step, fake::Verdict};
use oh_transport::{Client, ErrorKind};
use serde_json::{Value, json};

use crate::{
    fake::{client, create, next, rest},
    support::request_with,
};

fn late() -> Script {
    let late = Step::text("late").delay(Duration::from_secs(3600));
    Script::new().forever(|script| script.step(late))
}

#[tokio::test]
async fn the_limit_of_concurrent_runs_is_enforced() {
    let server = FakeServer::builder()
        .max_concurrent_runs(2)
        .script(late())
        .start()
        .await
        .unwrap();
    let client = client(&server);
    let mut ids: Vec<ConversationId> = Vec::new();
    for _ in 0..3 {
        ids.push(create(&server, json!({})).await.parse().unwrap());
    }
    for id in &ids[..2] {
        client.call(&conversations::Run::new(*id)).await.unwrap();
    }
    let run = conversations::Run::new(ids[2]);
    let full = client.call(&run).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::RateLimited);
    // The message is kept although the run is rejected.
    let said = json!({"content": [{"type": "text", "text": "hello"}], "run": true});
    let path = format!("/api/conversations/{}/events", ids[2]);
    let answer = rest(&server, "POST", &path, said).await;
    assert!(
        answer.status == 429 && answer.body.contains("Message saved"),
        "{answer:?}"
    );
    let spare = server.conversation(ids[2]).unwrap();
    assert!(
        spare
            .events()
            .iter()
            .any(|event| event.kind() == "MessageEvent")
    );
    assert_eq!(spare.status(), "idle");
    // A run started by the test itself is not rejected, but it is counted.
    spare.say("go");
    let interrupt = conversations::Interrupt::new(ids[0]);
    client.call(&interrupt).await.unwrap();
    let again = conversations::Run::new(ids[0]);
    assert_eq!(
        client.call(&again).await.unwrap_err().kind(),
        ErrorKind::RateLimited
    );
    client
        .call(&conversations::Interrupt::new(ids[1]))
        .await
        .unwrap();
    client.call(&again).await.unwrap();
}

#[tokio::test]
async fn a_killed_server_frees_its_run_slots() {
    let server = FakeServer::builder()
        .max_concurrent_runs(1)
        .script(late())
        .start()
        .await
        .unwrap();
    let id: ConversationId = create(&server, json!({})).await.parse().unwrap();
    let run = conversations::Run::new(id);
    for _ in 0..3 {
        client(&server).call(&run).await.unwrap();
        server.kill();
        server.conversation(id).unwrap().idle().await;
        server.come_back();
    }
    client(&server)
        .call(&conversations::Delete::new(id))
        .await
        .unwrap();
    create(&server, json!({})).await;
}

#[tokio::test]
async fn hooks_add_text_for_the_agent() {
    let denied = AtomicBool::new(false);
    let server = FakeServer::builder()
        .script(
            Script::new()
                .step(Step::text("Done.").expect("mind the gap"))
                .step(Step::text("Done again.").expect("[Stop hook feedback] the tests")),
        )
        .hooks(move |hook| match hook.event.as_str() {
            "SessionStart" => Verdict::allow().context("Today is Monday."),
            "UserPromptSubmit" => Verdict::allow().context("mind the gap"),
            _ => match denied.swap(true, Ordering::SeqCst) {
                true => Verdict::allow(),
                false => Verdict::deny("for a reason").context("the tests"),
            },
        })
        .start()
        .await
        .unwrap();
    let hook = |command: &str| json!([{"hooks": [{"command": command}]}]);
    let hooks =
        json!({"SessionStart": hook("x"), "UserPromptSubmit": hook("x"), "Stop": hook("x")});
    let id = create(&server, json!({"hook_config": hooks})).await;
    let conversation = server.conversation(&id).unwrap();
    conversation.say("Begin.");
    conversation.idle().await;
    server.verify().unwrap();
    let texts: Vec<_> = conversation
        .events()
        .iter()
        .filter(|event| event.kind() == "MessageEvent")
        .map(|event| {
            let event: Value = serde_json::from_slice(event.raw()).unwrap();
            format!(
                "{} {} {}",
                event["source"].as_str().unwrap(),
                event["llm_message"]["content"][0]["text"].as_str().unwrap(),
                event["extended_content"][0]["text"]
            )
        })
        .collect();
    assert_eq!(
        texts,
        [
            "environment Today is Monday. null",
            r#"user Begin. "mind the gap""#,
            "agent Done. null",
            "environment [Stop hook feedback] the tests null",
            "agent Done again. null",
        ]
    );
}

#[tokio::test]
async fn a_dormant_server_rejects_requests_until_activated() {
    let server = FakeServer::builder()
        .deferred_init("the-secret")
        .start()
        .await
        .unwrap();
    let status = init::GetInitStatus::default();
    let asleep = client(&server);
    assert_eq!(
        asleep.call(&status).await.unwrap().state,
        init::InitState::Dormant
    );
    let count = conversations::Count::default();
    let refused = asleep.call(&count).await.unwrap_err();
    assert_eq!(refused.status().map(|status| status.as_u16()), Some(503));
    let socket = asleep.socket("/sockets/bash-events").await.unwrap_err();
    assert_eq!(socket.status().map(|status| status.as_u16()), Some(403));
    let wrong = init::Init::new("a guess").session_api_key("mine");
    assert_eq!(
        asleep.call(&wrong).await.unwrap_err().kind(),
        ErrorKind::Unauthorized
    );
    let right = init::Init::new("the-secret").session_api_key("mine");
    let woken = asleep.call(&right).await.unwrap();
    assert_eq!(woken.state, init::InitState::Ready);
    asleep.call(&right).await.unwrap_err();
    assert_eq!(
        asleep.call(&count).await.unwrap_err().kind(),
        ErrorKind::Unauthorized
    );
    assert_eq!(server.session_api_key(), "mine");
    let awake = Client::builder(server.url()).session_api_key("mine");
    let awake = awake.build().unwrap();
    assert_eq!(awake.call(&count).await.unwrap(), 0);
    // Sockets accept the new key too.
    let conversation = server.create();
    let path = format!("/sockets/session/{}", conversation.id());
    assert_eq!(
        next(&mut awake.socket(&path).await.unwrap()).await.unwrap()["type"],
        "sync"
    );
}

#[tokio::test]
async fn skills_and_pages_are_read_from_disk() {
    let server = FakeServer::start().await.unwrap();
    for (path, text) in [
        ("/project/AGENTS.md", "Be brief."),
        (
            "/project/.agents/skills/release/SKILL.md",
            "---\nname: release\n---\nTag it.",
        ),
        (
            "/home/fake/.openhands/skills/mine.md",
            "---\ntriggers: [mine, own]\n---\nMine.",
        ),
        ("/project/a b.html", "<p>"),
    ] {
        server.write_file(path, text).unwrap();
    }
    let client = client(&server);
    let which = skills::LoadSkills::new().user(true).project("/project");
    let loaded = client.call(&which).await.unwrap();
    let mut names: Vec<_> = loaded
        .skills
        .iter()
        .map(|skill| format!("{} {} {:?}", skill.name, skill.kind, skill.triggers))
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "agents repo []",
            "mine knowledge [\"mine\", \"own\"]",
            "release agentskills []"
        ]
    );
    assert_eq!(
        (loaded.sources["project"], loaded.sources["sdk_base"]),
        (2, 1)
    );
    let id: ConversationId = create(&server, json!({})).await.parse().unwrap();
    let page = client
        .call(&files::StaticFile::new(id, "a b.html"))
        .await
        .unwrap();
    assert_eq!(page, "<p>");
    let key = format!("X-Session-API-Key: {}\r\n", server.session_api_key());
    let target = format!("/api/conversations/{id}/workspace/a%20b.html");
    let raw = request_with(server.address(), "GET", &target, &key, "").await;
    let kind = format!("{}: text/html; charset=utf-8", header::CONTENT_TYPE);
    assert!(raw.head.contains(&kind), "{raw:?}");
}
