//! Tests of the fake server's other routes, using the calls of the client crates.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read as _},
};

use bytes::Bytes;
use oh_protocol::{
    ConversationId,
    calls::{Any, bash, conversations, files, git, hooks, profiles, settings},
    config::Llm,
};
use oh_testkit::{
    FakeServer, Script, Step,
    fake::{CommandOutput, Repository},
};
use oh_transport::ErrorKind;
use serde_json::{Value, json};

use crate::fake::{client, create, rest};

#[tokio::test]
async fn the_fake_server_keeps_files_in_memory() {
    let server = FakeServer::start().await.unwrap();
    let client = client(&server);
    let big = Bytes::from(vec![7; 3_000_000]);
    client
        .call(&files::Upload::new("/w/a/big", big.clone()))
        .await
        .unwrap();
    assert_eq!(server.read_file("/w/a/big").unwrap(), big);
    server.write_file("/w/a/small", "small").unwrap();
    assert_eq!(
        client
            .call(&files::Download::new("/w/a/small"))
            .await
            .unwrap()
            .bytes(),
        "small"
    );
    client
        .call(&files::CreateDirectory::new("/w/b"))
        .await
        .unwrap();
    let subdirs = client.call(&files::SearchSubdirs::new("/w")).await.unwrap();
    let names: Vec<_> = subdirs
        .items
        .iter()
        .map(|entry| entry.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b"]);
    let gone = client
        .call(&files::Download::new("/w/none"))
        .await
        .unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert!(server.write_file("relative", "").is_err() && server.read_file("/w").is_err());
    let archive = files::Archive::new("/w", files::ArchiveFormat::TarGz);
    let (_, packed) = client.call(&archive).await.unwrap();
    assert_eq!(unpacked(&packed)["w/a/big"], big);
    server
        .write_file(
            "/w/.openhands/hooks.json",
            r#"{"Stop": [{"hooks": [{"command": "true"}]}]}"#,
        )
        .unwrap();
    assert!(
        client
            .call(&hooks::Discover::new("/w"))
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        client
            .call(&hooks::Discover::new("/v"))
            .await
            .unwrap()
            .is_none()
    );
}

/// Returns the files of a gzipped tar by path.
fn unpacked(packed: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(packed));
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (path, content)
    });
    entries.collect()
}

#[tokio::test]
async fn archives_contain_every_file() {
    let server = FakeServer::start().await.unwrap();
    let client = client(&server);
    let long = format!("w/{}/{}", "d".repeat(60), "f".repeat(60));
    let written = [("w/a.txt", "alpha"), ("w/deep/b", "beta"), (&long, "gamma")];
    for (path, content) in written {
        server.write_file(&format!("/{path}"), content).unwrap();
    }
    let archive = files::Archive::new("/w", files::ArchiveFormat::TarGz);
    let (_, packed) = client.call(&archive).await.unwrap();
    let files = unpacked(&packed);
    for (path, content) in written {
        assert_eq!(files[path], content.as_bytes(), "{path}");
    }
    let conversation = server.create();
    conversation.fill(3, 500).await;
    let packed = client
        .call(&files::Trajectory::new(conversation.id()))
        .await
        .unwrap();
    let mut zip = zip::ZipArchive::new(Cursor::new(&packed)).unwrap();
    assert_eq!(zip.len(), 4, "the state and three events");
    for index in 0..zip.len() {
        let mut file = zip.by_index(index).unwrap();
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert!(serde_json::from_str::<Value>(&content).unwrap().is_object());
    }
}

#[tokio::test]
async fn the_fake_server_answers_git_from_its_script() {
    let server = FakeServer::start().await.unwrap();
    let client = client(&server);
    let sha = "4f2c91d0a14f2c91d0a14f2c91d0a14f2c91d0a1";
    let repository = Repository::new()
        .commit(sha, "Say hello", "Ada", [("ADDED", "hello.txt")])
        .updated("hello.txt", "hello\n", "hello, world\n");
    server.set_repository("/w", repository);
    let archive = |path| files::Archive::new(path, files::ArchiveFormat::GitDelta);
    client.call(&archive("/w")).await.unwrap();
    server.write_file("/other/a.txt", "a").unwrap();
    let error = client.call(&archive("/other")).await.unwrap_err();
    assert_eq!(error.detail(), Some("Not a git repository: /other"));
    let changes = client.call(&git::Changes::new("/w")).await.unwrap();
    assert_eq!(changes[0].path, "hello.txt");
    let diff = client.call(&git::Diff::new("/w/hello.txt")).await.unwrap();
    assert_eq!(diff.modified.as_deref(), Some("hello, world"));
    let commits = client.call(&git::Commits::new("/w")).await.unwrap();
    assert_eq!(
        (commits.commits[0].sha.as_str(), commits.has_more),
        (sha, false)
    );
    let changed = client
        .call(&git::CommitChanges::new("/w", "4f2c91d"))
        .await
        .unwrap();
    assert_eq!(changed.len(), 1);
    assert!(
        client
            .call(&git::Changes::new("/elsewhere"))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn the_fake_server_stores_settings_secrets_and_profiles() {
    let server = FakeServer::start().await.unwrap();
    let client = client(&server);
    let secret = json!({"name": "TOKEN", "value": "canary", "description": "A token"});
    assert_eq!(
        rest(&server, "PUT", "/api/settings/secrets", secret)
            .await
            .status,
        200
    );
    let listed = client.call(&settings::ListSecrets::new()).await.unwrap();
    assert_eq!(listed[0].name, "TOKEN");
    let value = client
        .call(&settings::GetSecret::new("TOKEN"))
        .await
        .unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(&value), "canary");
    let profile = json!({"llm": {"model": "m", "api_key": "canary"}});
    assert_eq!(
        rest(&server, "POST", "/api/profiles/fast", profile)
            .await
            .status,
        201
    );
    let plain = profiles::GetProfile::new("fast", settings::Expose::Plain);
    assert_eq!(
        client.call(&plain).await.unwrap().config["api_key"],
        "canary"
    );
    let masked = profiles::GetProfile::new("fast", settings::Expose::Masked);
    let masked = client.call(&masked).await.unwrap();
    assert!(masked.api_key_set && masked.config["api_key"].is_null());
    rest(&server, "POST", "/api/profiles/fast/activate", Value::Null).await;
    let shown = client
        .call(&settings::GetSettings::default())
        .await
        .unwrap();
    assert_eq!(shown.agent_settings["llm"]["api_key"], "**********");
    assert_eq!(shown.active_profile.as_deref(), Some("fast"));
}

#[tokio::test]
async fn the_fake_server_forks_navigates_and_changes_settings() {
    let server = FakeServer::builder()
        .script(
            Script::new()
                .text("First.")
                .text("Quite well.")
                .text("Second."),
        )
        .start()
        .await
        .unwrap();
    let client = client(&server);
    let id: ConversationId = create(&server, json!({})).await.parse().unwrap();
    let conversation = server.conversation(id).unwrap();
    conversation.say("go");
    conversation.idle().await;
    let fork = client
        .call(&conversations::Fork::new(id).title("Other"))
        .await
        .unwrap();
    let forked = server.conversation(fork.id()).unwrap();
    assert_eq!(forked.len(), conversation.len());
    assert_eq!(forked.title().as_deref(), Some("Other"));
    let answer = client
        .call(&conversations::Ask::new(id, "How are you?"))
        .await
        .unwrap();
    assert_eq!(answer, "Quite well.");
    let message = conversation
        .events()
        .into_iter()
        .find(|event| event.kind() == "MessageEvent");
    let message = message.unwrap().id().to_owned();
    client
        .call(&conversations::Navigate::to(id, message))
        .await
        .unwrap();
    let last = client
        .call(&conversations::FinalResponse::new(id))
        .await
        .unwrap();
    assert_eq!(last, "");
    client
        .call(&conversations::SwitchLlm::new(id, Llm::new("openai/other")))
        .await
        .unwrap();
    forked.say("on");
    forked.idle().await;
    let last = client
        .call(&conversations::FinalResponse::new(fork.id()))
        .await
        .unwrap();
    assert_eq!(last, "Second.");
    server.verify().unwrap();
}

#[tokio::test]
async fn commands_of_a_conversation_have_a_separate_history() {
    let server = FakeServer::builder()
        .commands(|line| CommandOutput::ok(format!("ran {line}")))
        .start()
        .await
        .unwrap();
    let id = create(&server, json!({})).await;
    let (own, all) = (format!("/api/conversations/{id}/bash"), "/api/bash");
    for base in [own.as_str(), all] {
        let run = json!({"command": base});
        let ran = rest(
            &server,
            "POST",
            &format!("{base}/execute_bash_command"),
            run,
        )
        .await;
        assert_eq!(ran.json()["stdout"], format!("ran {base}"));
        let found = rest(
            &server,
            "GET",
            &format!("{base}/bash_events/search"),
            Value::Null,
        )
        .await;
        assert_eq!(found.json()["items"].as_array().unwrap().len(), 2);
    }
    let outside = json!({"command": "x", "cwd": "/etc"});
    let refused = rest(
        &server,
        "POST",
        &format!("{own}/start_bash_command"),
        outside,
    )
    .await;
    assert_eq!(refused.status, 422);
    let cleared = rest(
        &server,
        "DELETE",
        &format!("{all}/bash_events"),
        Value::Null,
    )
    .await;
    assert_eq!(cleared.json()["cleared_count"], 2);
    let call = bash::SearchEvents::new();
    assert!(client(&server).call(&call).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn unsupported_operations_are_reported_by_name() {
    let server = FakeServer::start().await.unwrap();
    for (method, path, status) in [
        ("GET", "/api/skills/installed", 501),
        ("GET", "/v1/models", 501),
        ("POST", "/api/bash/execute_bash_command", 501),
        ("PUT", "/api/skills", 405),
        ("GET", "/api/nothing", 404),
        ("GET", "/nothing", 404),
    ] {
        let answer = rest(&server, method, path, json!({"command": "x"})).await;
        assert_eq!(answer.status, status, "{method} {path} {answer:?}");
        let named = status != 501
            || path.starts_with("/api/bash")
            || answer.body.contains(&format!("{method} {path}"));
        assert!(named, "{answer:?}");
    }
}

#[tokio::test]
async fn a_panic_in_a_closure_is_reported_to_the_test() {
    let server = FakeServer::builder()
        .script(
            Script::new()
                .step(Step::call("terminal", json!({"command": "rm"})))
                .text("Hm."),
        )
        .tool("terminal", |arguments| {
            panic!("not {}!", arguments["command"])
        })
        .start()
        .await
        .unwrap();
    let id = create(&server, json!({})).await;
    let conversation = server.conversation(&id).unwrap();
    conversation.say("go");
    conversation.idle().await;
    assert_eq!(
        conversation.status(),
        "finished",
        "a panic leaves no run behind"
    );
    let report = server.verify().unwrap_err().to_string();
    assert!(
        report.contains("tool `terminal`")
            && report.contains("the test's closure panicked: not \"rm\"!"),
        "{report}"
    );
}

#[tokio::test]
async fn an_untyped_call_reaches_any_route() {
    let server = FakeServer::start().await.unwrap();
    let client = client(&server);
    let id = server.create().id();
    let get = Any::get(format!("/api/conversations/{id}"));
    let found = client.call(&get).await.unwrap();
    assert_eq!(found.get("id").unwrap().to_value(), json!(id.to_string()));
    let title = Any::new(http::Method::PATCH, format!("/api/conversations/{id}"));
    let title = title.body(&json!({"title": "by hand"})).unwrap();
    client.call(&title).await.unwrap();
    let found = client.call(&get).await.unwrap();
    assert_eq!(found.get("title").unwrap().to_value(), json!("by hand"));
    let missing = Any::get(format!("/api/conversations/{}", ConversationId::random()));
    let error = client.call(&missing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
