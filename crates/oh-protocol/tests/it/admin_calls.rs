//! Calls of the administration: their requests, and the recorded responses of a server.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use oh_protocol::{
    Answer, Call, ErrorKind, Repeat,
    calls::{
        connections::{CreateConnection, DeleteConnection, ListConnections, UpdateConnection},
        llm::{
            GetSubscription, ListModels, ListProviders, ListSubscriptionModels, ListVerifiedModels,
            Logout, PollLogin, StartLogin,
        },
        mcp::{
            GetOAuthJob, OAuthStatus, StartOAuth, StartedOAuth, SubmitOAuthCallback, TestServer,
            TestedServer,
        },
        operations,
        profiles::{
            ActivateProfile, DeleteProfile, GetProfile, ListProfiles, RenameProfile, SaveProfile,
            ValidateProfile, Validation,
        },
        settings::{
            AddMcpServer, DeleteSecret, Expose, GetAgentSchema, GetConversationSchema, GetSettings,
            ListSecrets, PatchMcpServer, RemoveMcpServer, SetSecret, UpdateSettings,
        },
    },
    config::{Llm, McpServer, McpServerPatch},
};
use serde_json::{Value, json};

const RECORDED: &str = include_str!("../../fixtures/1.58.2/admin.jsonl");

/// Returns the bodies that the server returned for an operation with success.
fn recorded(operation: &str) -> Vec<Value> {
    let lines = RECORDED
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let fits = |line: &Value| line["operation"] == operation && line["status"].as_u64() < Some(300);
    let found: Vec<_> = lines
        .filter(fits)
        .map(|mut line| line["body"].take())
        .collect();
    assert!(!found.is_empty(), "{operation}");
    found
}

fn decode<C: Call>(call: &C, body: &Value) -> oh_protocol::Result<C::Output> {
    let body = Bytes::from(body.to_string());
    call.decode(Answer::new(StatusCode::OK, HeaderMap::new(), body))
}

/// Decodes all recorded responses to a call. Checks that other JSON is an error.
pub(crate) fn read<C: Call>(call: &C) -> Vec<C::Output> {
    let operation = call.operation();
    let operation = format!("{} {}", operation.method, operation.route);
    let bodies = recorded(&operation);
    bodies
        .iter()
        .map(|body| decode(call, body).unwrap())
        .collect()
}

/// Returns the request line, the body, and whether the request may be repeated.
fn sent(call: &impl Call) -> (String, Value, Repeat) {
    let request = call.request().unwrap();
    let body = request.body.as_ref();
    let body = body.map_or(Value::Null, |body| serde_json::from_slice(body).unwrap());
    let line = format!("{} {}", request.method, request.target);
    (line, body, call.operation().repeat)
}

fn llm() -> Llm {
    Llm::new("m").api_key("k")
}

#[test]
fn recorded_catalogues_and_connections_are_decoded() {
    assert!(read(&ListProviders::default())[0].contains(&"anthropic".to_owned()));
    let models = read(&ListModels::new().provider("anthropic")).remove(0);
    assert!(
        models.iter().any(|name| name.contains("claude")),
        "{models:?}"
    );
    assert!(!read(&ListVerifiedModels::default())[0]["openai"].is_empty());
    let made = read(&CreateConnection::new("Team", "k")).remove(0);
    assert_eq!((&*made.display_name, &*made.provider), ("Team", "custom"));
    assert!(made.api_key_set && made.base_url.is_none() && made.created_at > 1_700_000_000);
    assert_eq!(
        read(&ListConnections::default())[0],
        std::slice::from_ref(&made)
    );
    let changed = read(&UpdateConnection::new(&made.id).provider("openai")).remove(0);
    assert_eq!(
        (changed.id, &*changed.provider),
        (made.id.clone(), "openai")
    );
    assert!(!read(&DeleteConnection::new(made.id))[0].api_key_set);
}

#[test]
fn responses_about_a_subscription_are_decoded() {
    assert!(!read(&ListSubscriptionModels::default())[0].is_empty());
    assert!(!read(&GetSubscription::default())[0].connected);
    assert!(!read(&Logout::default())[0].connected);
    // These need the vendor. The end-to-end tests play it.
    let started = json!({"device_code": "canary", "user_code": "canary-2", "expires_at": 7,
        "verification_uri": "https://v/", "verification_uri_complete": null,
        "interval_seconds": 5, "new": 1});
    let started = decode(&StartLogin::default(), &started).unwrap();
    assert_eq!((started.interval.as_secs(), started.expires_at), (5, 7));
    assert!(!format!("{started:?}").contains("canary"));
    let poll = PollLogin::new(started.device_code);
    assert!(!format!("{poll:?}").contains("canary"));
    let target = "POST /api/llm/subscription/openai/device/poll".to_owned();
    assert_eq!(
        sent(&poll),
        (target, json!({"device_code": "canary"}), Repeat::Never)
    );
    let connected = decode(
        &poll,
        &json!({"vendor": "openai", "connected": true, "expires_at": 8}),
    );
    assert_eq!(connected.unwrap().expires_at, Some(8));
    decode(&poll, &json!({"vendor": "openai"})).unwrap_err();
    for empty in ["", "**********"] {
        assert_eq!(
            PollLogin::new(empty).request().unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
}

#[test]
fn recorded_profiles_are_decoded() {
    let list = read(&ListProfiles::default()).remove(0);
    let info = &list.profiles[0];
    assert_eq!((&*info.name, info.api_key_set), ("old", true));
    assert!(info.model.is_some() && info.base_url.is_some() && list.active_profile.is_none());
    let profile = read(&GetProfile::new("old", Expose::Masked)).remove(0);
    assert!(profile.api_key_set && profile.config["api_key"].is_null());
    read(&SaveProfile::new("old", llm()));
    read(&RenameProfile::new("old", "new"));
    let active = read(&ActivateProfile::new("new")).remove(0);
    assert!(active.llm_applied && active.name == "new");
    let Validation::Invalid { kind, message } = read(&ValidateProfile::new("a", llm())).remove(0)
    else {
        panic!("valid")
    };
    assert!(
        kind.starts_with("LLM") && !message.is_empty(),
        "{kind} {message}"
    );
    read(&DeleteProfile::new("new"));
    let valid = decode(
        &ValidateProfile::new("a", llm()),
        &json!({"valid": true, "error": null}),
    );
    assert_eq!(valid.unwrap(), Validation::Valid);
    // Version 1.43 does not report whether the model was applied.
    let old = decode(
        &ActivateProfile::new("a"),
        &json!({"name": "a", "message": "m"}),
    );
    assert!(old.unwrap().llm_applied);
}

#[test]
fn recorded_settings_and_secrets_are_decoded() {
    let settings = read(&GetSettings::default()).remove(0);
    assert_eq!(settings.conversation_settings["max_iterations"], 77);
    let stored = settings.mcp_servers();
    assert_eq!((&*stored[0].name, stored[0].enabled), ("local", false));
    assert_eq!(stored[0].command.as_deref(), Some("true"));
    let changed = read(&UpdateSettings::new()).remove(0);
    assert_eq!(changed.mcp_servers(), stored);
    let added = read(&AddMcpServer::new("local", McpServer::stdio("true"))).remove(0);
    assert!(added.mcp_servers()[0].enabled);
    assert!(
        !read(&PatchMcpServer::new("local", McpServerPatch::new()))[0].mcp_servers()[0].enabled
    );
    assert!(
        read(&RemoveMcpServer::new("local"))[0]
            .mcp_servers()
            .is_empty()
    );
    let info = read(&SetSecret::new("TOKEN", "t")).remove(0);
    assert_eq!(info.description.as_deref(), Some("A token"));
    assert_eq!(read(&ListSecrets::new())[0], [info]);
    read(&DeleteSecret::new("TOKEN"));
    for schema in [
        read(&GetAgentSchema::default()),
        read(&GetConversationSchema::default()),
    ] {
        let fields = schema[0]
            .sections
            .iter()
            .flat_map(|section| &section.fields);
        let fields: Vec<_> = fields.collect();
        assert!(fields.len() > 5 && fields.iter().all(|field| !field.value_type.is_empty()));
        let again = serde_json::to_value(&schema[0]).unwrap();
        assert_eq!(
            serde_json::from_value::<Value>(again.clone()).unwrap(),
            again
        );
    }
}

#[test]
fn recorded_tests_and_authorizations_are_decoded() {
    let test = || TestServer::new(McpServer::stdio("x"));
    let tested = read(&test()).remove(0);
    assert!(matches!(tested, TestedServer::Fails { .. }), "{tested:?}");
    let started = read(&StartOAuth::new(test())).remove(0);
    assert!(matches!(started, StartedOAuth::Fails { .. }), "{started:?}");
    let job = read(&GetOAuthJob::new("j")).remove(0);
    assert!(job.has_ended() && job.status == OAuthStatus::Failed && job.error.is_some());

    let begun = json!({"ok": true, "job_id": "j", "authorization_url": "https://h/a"});
    let (job_id, url) = ("j".to_owned(), "https://h/a".to_owned());
    let expected = StartedOAuth::Authorize {
        job_id: job_id.clone(),
        url,
    };
    assert_eq!(decode(&StartOAuth::new(test()), &begun).unwrap(), expected);
    let done = decode(
        &StartOAuth::new(test()),
        &json!({"ok": true, "job_id": "j"}),
    );
    assert_eq!(done.unwrap(), StartedOAuth::Done { job_id });
    let state = json!({"tokens": {"access_token": "canary"}, "client_info": {"client_id": "c"}});
    let ended = json!({"ok": true, "status": "succeeded", "job_id": "j", "tools": ["a"],
        "tool_result": {"is_error": false, "text": "t"}, "oauth_state": state});
    let ended = decode(&SubmitOAuthCallback::new("j", "http://localhost/"), &ended).unwrap();
    assert!(ended.has_ended() && ended.tools == ["a"]);
    assert!(!format!("{ended:?}").contains("canary"));
    assert_eq!(serde_json::to_value(ended.state.unwrap()).unwrap(), state);
    let later = json!({"ok": true, "status": "new", "job_id": "j"});
    let later = decode(&GetOAuthJob::new("j"), &later).unwrap();
    assert!(later.status == OAuthStatus::from("new") && !later.has_ended());
}

#[test]
fn requests_contain_only_the_given_values() {
    use Repeat::{Idempotent, Never};
    let connections = "/api/llm/provider-connections";
    let key = |more: Value| {
        let mut body = json!({"display_name": "d", "api_key": "k"});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let create = || CreateConnection::new("d", "k");
    let cases = [
        (
            sent(&ListModels::new().provider("a&b c")),
            (
                "GET /api/llm/models?provider=a%26b+c".to_owned(),
                Value::Null,
                Idempotent,
            ),
        ),
        (
            sent(&create()),
            (format!("POST {connections}"), key(json!({})), Never),
        ),
        (
            sent(&create().provider("p").base_url("u")),
            (
                format!("POST {connections}"),
                key(json!({"provider": "p", "base_url": "u"})),
                Never,
            ),
        ),
        (
            sent(&UpdateConnection::new("i").base_url(None)),
            (
                format!("PATCH {connections}/i"),
                json!({"base_url": null}),
                Idempotent,
            ),
        ),
        (
            sent(
                &UpdateConnection::new("i")
                    .base_url("u")
                    .api_key("k")
                    .display_name("d"),
            ),
            (
                format!("PATCH {connections}/i"),
                json!({"base_url": "u", "api_key": "k", "display_name": "d"}),
                Idempotent,
            ),
        ),
        (
            sent(&DeleteConnection::new("a b")),
            (
                format!("DELETE {connections}/a%20b"),
                Value::Null,
                Idempotent,
            ),
        ),
        (
            sent(&SaveProfile::new("n", llm()).include_secrets(false)),
            (
                "POST /api/profiles/n".into(),
                json!({"llm": {"model": "m", "api_key": "k"}, "include_secrets": false}),
                Idempotent,
            ),
        ),
        (
            sent(&ValidateProfile::new("n", llm())),
            (
                "POST /api/profiles/n/validate".into(),
                json!({"llm": {"model": "m", "api_key": "k"}}),
                Never,
            ),
        ),
        (
            sent(&RenameProfile::new("n", "o")),
            (
                "POST /api/profiles/n/rename".into(),
                json!({"new_name": "o"}),
                Never,
            ),
        ),
        (
            sent(
                &UpdateSettings::new()
                    .llm(llm())
                    .agent(json!({"a": 1}))
                    .active_profile(None),
            ),
            (
                "PATCH /api/settings".into(),
                json!({"agent_settings_diff": {"a": 1, "llm": {"model": "m", "api_key": "k"}},
                    "active_profile": null}),
                Idempotent,
            ),
        ),
        (
            sent(
                &UpdateSettings::new()
                    .misc(json!({"a": null}))
                    .active_meta_profile("b"),
            ),
            (
                "PATCH /api/settings".into(),
                json!({"misc_settings_diff": {"a": null}, "active_meta_profile": "b"}),
                Idempotent,
            ),
        ),
        (
            sent(&SetSecret::new("A", "v")),
            (
                "PUT /api/settings/secrets".into(),
                json!({"name": "A", "value": "v"}),
                Idempotent,
            ),
        ),
        (
            sent(&AddMcpServer::new("a b", McpServer::stdio("x"))),
            (
                "POST /api/settings/mcp/a%20b".into(),
                json!({"transport": "stdio", "command": "x"}),
                Never,
            ),
        ),
        (
            sent(&StartOAuth::new(
                TestServer::new(McpServer::http("u")).name("n"),
            )),
            (
                "POST /api/mcp/oauth/start".into(),
                json!({"name": "n", "timeout": 15.0, "server": {"transport": "http", "url": "u"}}),
                Never,
            ),
        ),
        (
            sent(&SubmitOAuthCallback::new(
                "j",
                "http://localhost:1/callback?code=c",
            )),
            (
                "POST /api/mcp/oauth/callback/j".into(),
                json!({"callback_url": "http://localhost:1/callback?code=c"}),
                Never,
            ),
        ),
        (
            sent(&ActivateProfile::new("n?")),
            (
                "POST /api/profiles/n%3F/activate".into(),
                Value::Null,
                Idempotent,
            ),
        ),
    ];
    for (sent, expected) in cases {
        assert_eq!(sent, expected);
    }
}

#[test]
fn invalid_responses_are_errors_and_never_panic() {
    for body in [
        json!([]),
        json!({}),
        json!(null),
        json!({"models": 1}),
        json!({"valid": "x"}),
    ] {
        decode(&ListProviders::default(), &body).unwrap_err();
        decode(&ListModels::new(), &body).unwrap_err();
        decode(&ListVerifiedModels::default(), &body).unwrap_err();
        decode(&CreateConnection::new("d", "k"), &body).unwrap_err();
        decode(&ListProfiles::default(), &body).unwrap_err();
        decode(&GetProfile::new("n", Expose::Masked), &body).unwrap_err();
        decode(&ActivateProfile::new("n"), &body).unwrap_err();
        let error = decode(&ValidateProfile::new("n", llm()), &body).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
    }
}

#[test]
fn each_operation_is_listed_once_per_call() {
    let all: Vec<_> = operations()
        .map(|it| format!("{} {}", it.method, it.route))
        .collect();
    for expected in [
        "POST /api/llm/provider-connections",
        "POST /api/bash/start_bash_command",
        "POST /api/conversations/{runtime_conversation_id}/bash/start_bash_command",
        "POST /api/conversations/{conversation_id}/goal/stop",
    ] {
        let times = all.iter().filter(|line| *line == expected).count();
        assert_eq!(times, 1, "{expected}");
    }
}
