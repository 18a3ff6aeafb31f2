//! Tests for the request of each call, and for values that are rejected before sending.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use oh_protocol::{
    Answer, Call, ConversationId, ExecutionStatus, Repeat,
    calls::{
        conversations::{self, Isolation, Order},
        events, files, hooks, server, settings, tools,
    },
    config::{ConfirmationPolicy, Llm, SecretSource},
};
use serde_json::{Value, json};

fn id() -> ConversationId {
    "0123456789abcdef0123456789abcdef".parse().unwrap()
}

/// Returns the method, target and body of a request.
fn sent(call: &impl Call) -> (String, Value) {
    let request = call.request().unwrap();
    assert_eq!(call.operation().method, request.method);
    let body = request
        .body
        .as_ref()
        .map_or(Value::Null, |body| serde_json::from_slice(body).unwrap());
    let id = id().to_string();
    let target = request.target.replace(&id, "ID");
    // The route is the target with placeholders instead of values.
    let route = call.operation().route.replace("{conversation_id}", "ID");
    assert_eq!(
        target.split('?').next().unwrap(),
        route.replace("{event_id}", "E")
    );
    (format!("{} {target}", request.method), body)
}

fn refused(call: &impl Call) -> String {
    call.request().expect_err("must be refused").to_string()
}

const C: &str = "/api/conversations/ID";

#[test]
fn calls_without_a_body_have_method_and_target() {
    let cases = [
        (sent(&server::Health::default()), "GET /health".to_owned()),
        (sent(&tools::ListTools::default()), "GET /api/tools/".into()),
        (sent(&conversations::Get::new(id())), format!("GET {C}")),
        (
            sent(&conversations::Run::new(id())),
            format!("POST {C}/run"),
        ),
        (
            sent(&conversations::Condense::new(id())),
            format!("POST {C}/condense"),
        ),
        (
            sent(&conversations::StopGoal::new(id())),
            format!("POST {C}/goal/stop"),
        ),
        (
            sent(&conversations::ResumeGoal::new(id())),
            format!("POST {C}/goal/resume"),
        ),
        (
            sent(&conversations::GetRuntime::new(id())),
            format!("GET {C}/runtime"),
        ),
        (
            sent(&conversations::Reprovision::new(id())),
            format!("POST {C}/runtime/reprovision"),
        ),
        (
            sent(&conversations::Release::new(id())),
            format!("DELETE {C}/runtime"),
        ),
        (
            sent(&conversations::GetCredentials::new(id())),
            format!("POST {C}/runtime/credentials"),
        ),
        (
            sent(&conversations::PreparePause::default()),
            "POST /api/conversations/prepare-for-sandbox-pause".into(),
        ),
        (
            sent(&conversations::FinalResponse::new(id())),
            format!("GET {C}/agent_final_response"),
        ),
        (
            sent(&conversations::Delete::new(id())),
            format!("DELETE {C}"),
        ),
        (
            sent(&events::Get::new(id(), "E")),
            format!("GET {C}/events/E"),
        ),
    ];
    for ((line, body), expected) in cases {
        assert_eq!((line, body), (expected, Value::Null));
    }
}

#[test]
fn bodies_contain_only_the_given_values() {
    let fork = conversations::Fork::new(id())
        .id(id())
        .from_event("E")
        .title("T");
    let child = conversations::StartChild::new(id(), "task").isolation(Isolation::Shared);
    let secrets =
        conversations::SetSecrets::new(id()).secret("TOKEN", SecretSource::fixed("s3cret"));
    let cases = [
        (
            sent(&fork),
            "fork",
            json!({"id": id(), "title": "T", "reset_metrics": true, "from_event_id": "E"}),
        ),
        (
            sent(&conversations::Navigate::to(id(), "E")),
            "navigate",
            json!({"event_id": "E"}),
        ),
        (
            sent(&conversations::Navigate::to_start(id())),
            "navigate",
            json!({"event_id": null}),
        ),
        (
            sent(&child),
            "children",
            json!({"task": "task", "isolation": "shared"}),
        ),
        (
            sent(&conversations::StartGoal::new(id(), "done").max_iterations(3)),
            "goal",
            json!({"objective": "done", "max_iterations": 3}),
        ),
        (
            sent(&conversations::SwitchProfile::new(id(), "p")),
            "switch_profile",
            json!({"profile_name": "p"}),
        ),
        (
            sent(&conversations::SwitchAcpModel::new(id(), "m")),
            "switch_acp_model",
            json!({"model": "m"}),
        ),
        (
            sent(&conversations::LoadPlugin::new(id(), "r")),
            "load_plugin",
            json!({"plugin_ref": "r"}),
        ),
        (
            sent(&conversations::SetSecurityAnalyzer::new(id(), None)),
            "security_analyzer",
            json!({"security_analyzer": null}),
        ),
        (
            sent(&conversations::SetConfirmationPolicy::new(
                id(),
                ConfirmationPolicy::always(),
            )),
            "confirmation_policy",
            json!({"policy": {"kind": "AlwaysConfirm"}}),
        ),
        (
            sent(&secrets),
            "secrets",
            json!({"secrets": {"TOKEN": {"kind": "StaticSecret", "value": "s3cret"}}}),
        ),
    ];
    for ((line, body), what, expected) in cases {
        assert_eq!((line, body), (format!("POST {C}/{what}"), expected));
    }
    let tags = BTreeMap::from([("a1".to_owned(), "v".to_owned())]);
    let update = sent(&conversations::Update::tags(id(), tags));
    assert_eq!(update, (format!("PATCH {C}"), json!({"tags": {"a1": "v"}})));
    let batch = sent(&events::BatchGet::new(id(), ["x", "y"]));
    assert_eq!(batch, (format!("GET {C}/events"), json!(["x", "y"])));
    let hooks = sent(&hooks::Discover::new("/p"));
    assert_eq!(
        hooks,
        ("POST /api/hooks".into(), json!({"project_dir": "/p"}))
    );
}

#[test]
fn queries_are_percent_encoded() {
    let search = conversations::Search::new()
        .page_id("a b&c")
        .limit(5)
        .status(ExecutionStatus::Running)
        .order(Order::Created)
        .include_skills(true);
    let expected = "GET /api/conversations/search?limit=5&page_id=a+b%26c&status=running\
                    &sort_order=CREATED_AT&include_skills=true";
    assert_eq!(sent(&search).0, expected);
    let batch = conversations::BatchGet::new([id(), id()]);
    assert_eq!(sent(&batch).0, "GET /api/conversations?ids=ID&ids=ID");
}

#[test]
fn invalid_values_are_rejected_before_sending() {
    let tags = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let mask = conversations::SetSecrets::new(id()).secret("T", SecretSource::fixed("**********"));
    let name = conversations::SetSecrets::new(id()).secret("1T", SecretSource::fixed("x"));
    let switch = conversations::SwitchLlm::new(id(), Llm::new("m").api_key("**********"));
    for (message, holds) in [
        (refused(&conversations::Update::title(id(), "")), "title"),
        (
            refused(&conversations::Update::title(id(), "x".repeat(201))),
            "title",
        ),
        (
            refused(&conversations::Update::tags(id(), tags("A", "v"))),
            "tag `A`",
        ),
        (
            refused(&conversations::Fork::new(id()).tags(tags("a", &"v".repeat(257)))),
            "tag `a`",
        ),
        (
            refused(&conversations::StartGoal::new(id(), " ")),
            "objective",
        ),
        (
            refused(&conversations::StartGoal::new(id(), "x").max_iterations(0)),
            "round",
        ),
        (refused(&conversations::StartChild::new(id(), "")), "task"),
        (
            refused(&conversations::Search::new().limit(101)),
            "between 1 and 100",
        ),
        (refused(&conversations::BatchGet::new([])), "1 to 99"),
        (refused(&mask), "mask"),
        (refused(&name), "secret `1T`"),
        (refused(&switch), "mask"),
    ] {
        assert!(
            message.contains(holds),
            "{message:?} says nothing of {holds:?}"
        );
    }
}

#[test]
fn a_bound_credential_is_sent_and_never_shown() {
    use conversations::BindCredential;
    let bind = |url: &str| BindCredential::new(id(), BindCredential::CODEX, url);
    let request = bind("http://h/canary").header("Authorization", "canary");
    let sent = request.request().unwrap();
    let target = format!(
        "/api/conversations/{}/credential-bindings/CODEX_AUTH_JSON",
        id()
    );
    assert_eq!((sent.method.as_str(), sent.target), ("PUT", target));
    let body: Value = serde_json::from_slice(&sent.body.unwrap()).unwrap();
    let expected = json!({"url": "http://h/canary", "headers": {"Authorization": "canary"}});
    assert_eq!(body, expected);
    assert!(!format!("{request:?}").contains("canary"));
    assert_eq!(request, request.clone());

    let many = (0..17).fold(bind("http://h"), |call, n| call.header(n.to_string(), "v"));
    let name = BindCredential::new(id(), "a/b", "http://h");
    for (message, holds) in [
        (refused(&bind("")), "url"),
        (refused(&bind(&"x".repeat(4097))), "url"),
        (refused(&many), "headers"),
        (refused(&bind("http://h").header("A", "")), "header `A`"),
        (refused(&name), "secret name"),
    ] {
        assert!(message.contains(holds), "{message}");
    }
    let key = conversations::GetCredentials::new(id());
    let key = key
        .decode(answer(r#"{"session_api_key": "canary"}"#))
        .unwrap();
    assert!(!format!("{key:?}").contains("canary"));
}

#[test]
fn calls_that_cost_or_add_are_never_repeated() {
    let never = [
        conversations::Run::new(id()).operation(),
        conversations::Condense::new(id()).operation(),
        conversations::StartGoal::new(id(), "x").operation(),
        conversations::ResumeGoal::new(id()).operation(),
        conversations::Fork::new(id()).operation(),
        conversations::StartChild::new(id(), "x").operation(),
        conversations::Ask::new(id(), "x").operation(),
        events::SendMessage::new(id(), Vec::new()).operation(),
    ];
    for operation in never {
        assert_eq!(operation.repeat, Repeat::Never, "{}", operation.route);
    }
}

fn answer(body: impl Into<Bytes>) -> Answer {
    Answer::new(StatusCode::OK, HeaderMap::new(), body.into())
}

#[test]
fn a_broken_event_keeps_its_place_and_loses_no_other_event() {
    let body = r#"{"items":[{"kind":"A","id":"1"},{"kind":"B"},7,{"kind":"C","id":"4","x":"\ud800"}],
        "next_page_id":"4","new":1}"#;
    let page = events::Search::new(id()).decode(answer(body)).unwrap();
    let ids: Vec<_> = page.items.iter().map(oh_protocol::Event::id).collect();
    assert_eq!((ids[0], ids[3], ids.len()), ("1", "4", 4));
    assert_eq!(page.next_page_id.as_deref(), Some("4"));
    let places: Vec<_> = page.unreadable.iter().map(|item| item.index).collect();
    assert_eq!(places, [1, 2]);
    assert_eq!(page.unreadable[0].json.as_str(), r#"{"kind":"B"}"#);
    assert!(page.unreadable[0].reason.contains("missing field `id`"));
    assert_eq!(page.items[1].as_json(), r#"{"kind":"B"}"#);
    assert!(page.items[1].malformed().is_some());

    let batch = r#"[{"kind":"A","id":"1"},null,{"kind":"B"}]"#;
    let batch = events::BatchGet::new(id(), ["1", "2", "3"])
        .decode(answer(batch))
        .unwrap();
    assert_eq!(batch[0].as_ref().unwrap().id(), "1");
    assert!(batch[1].is_none() && batch[2].as_ref().unwrap().malformed().is_some());

    let bytes =
        &b"{\"items\":[{\"kind\":\"A\",\"id\":\"1\",\"x\":\"\xff\"}],\"next_page_id\":null}"[..];
    let page = events::Search::new(id()).decode(answer(bytes)).unwrap();
    assert_eq!((page.items[0].id(), page.unreadable.len()), ("1", 0));
}

#[test]
fn a_broken_conversation_loses_no_other_conversation() {
    let fine = format!(r#"{{"id":"{}","title":"t"}}"#, id());
    let body = format!(r#"{{"items":[{{"title":"x"}},{fine},[]],"next_page_id":null}}"#);
    let page = conversations::Search::new().decode(answer(body)).unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!(page.items[0].title().unwrap(), "t");
    let places: Vec<_> = page.unreadable.iter().map(|item| item.index).collect();
    assert_eq!(places, [0, 2]);

    // In a batch, each conversation has the requested id.
    let other: ConversationId = "1123456789abcdef0123456789abcdef".parse().unwrap();
    let body = format!(r#"[7,{fine},null,{{"title":"x"}}]"#);
    let batch = conversations::BatchGet::new([other, id(), other, other]);
    let batch = batch.decode(answer(body)).unwrap();
    let [Some(first), Some(second), None, Some(last)] = &batch[..] else {
        panic!("{batch:?}");
    };
    assert_eq!((first.id(), second.id(), last.id()), (other, id(), other));
    assert!(first.flaw().is_some() && second.flaw().is_none() && last.flaw().is_some());
    assert_eq!(first.execution_status().as_str(), "unknown");
    assert_eq!(last.title().unwrap(), "x");
}

#[test]
fn batches_with_gaps_are_decoded() {
    let info = format!(r#"[null, {{"id": "{}", "title": "t"}}]"#, id());
    let infos = conversations::BatchGet::new([id()])
        .decode(answer(info))
        .unwrap();
    assert!(infos[0].is_none());
    assert_eq!(infos[1].as_ref().unwrap().title().unwrap(), "t");
    let events = r#"[{"kind":"PauseEvent","id":"e"}, null]"#;
    let events = events::BatchGet::new(id(), ["e"])
        .decode(answer(events))
        .unwrap();
    assert_eq!(events[0].as_ref().unwrap().id(), "e");
    assert!(events[1].is_none());
    let hooks = hooks::Discover::new("/p");
    assert!(
        hooks
            .decode(answer(r#"{"hook_config": null}"#))
            .unwrap()
            .is_none()
    );
    let config = r#"{"hook_config": {"stop": [{"matcher": "*", "hooks": [{"type": "command", "command": "x"}]}]}}"#;
    assert_eq!(
        hooks
            .decode(answer(config))
            .unwrap()
            .unwrap()
            .iter()
            .count(),
        1
    );
    let runtime = r#"{"runtime_status": "napping", "can_resume": true}"#;
    let runtime = conversations::GetRuntime::new(id())
        .decode(answer(runtime))
        .unwrap();
    assert_eq!(runtime.runtime_status.as_str(), "napping");
}

/// A gateway may respond with its login page and a status of success. The server has not seen the
/// request, so nothing was run, approved, set or deleted.
#[test]
fn a_web_page_is_not_the_success_of_any_call() {
    fn refuses<C: Call>(call: &C) {
        for kind in ["text/html; charset=utf-8", "TEXT/HTML"] {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", kind.parse().unwrap());
            let page = Bytes::from_static(b"<html>Log in</html>");
            let decoded = call.decode(Answer::new(StatusCode::OK, headers, page));
            assert!(decoded.is_err(), "{}", call.operation().route);
        }
    }
    refuses(&conversations::Run::new(id()));
    refuses(&conversations::Pause::new(id()));
    refuses(&conversations::Interrupt::new(id()));
    refuses(&conversations::Delete::new(id()));
    refuses(&conversations::Condense::new(id()));
    refuses(&conversations::StopGoal::new(id()));
    refuses(&conversations::ResumeGoal::new(id()));
    refuses(&conversations::SetConfirmationPolicy::new(
        id(),
        ConfirmationPolicy::always(),
    ));
    refuses(&conversations::SwitchProfile::new(id(), "fast"));
    refuses(&events::Respond::accept(id()));
    refuses(&server::Alive::default());
    refuses(&server::Ready::default());
    refuses(&files::Download::new("/w/file"));
    refuses(&files::CreateDirectory::new("/w/made"));
    refuses(&settings::GetSecret::new("TOKEN"));
}

#[test]
fn a_success_is_json_or_empty() {
    for body in ["", "{\"success\":true}", "null", "\"OK\""] {
        let answer = Answer::new(StatusCode::OK, HeaderMap::new(), body.into());
        conversations::Run::new(id()).decode(answer).unwrap();
    }
    for body in ["OK", "<html></html>", "{\"success\":"] {
        let answer = Answer::new(StatusCode::OK, HeaderMap::new(), body.into());
        conversations::Run::new(id()).decode(answer).unwrap_err();
    }
}
