//! Tests of the conversation builder: one method for each field of the start request, and the JSON
//! that it produces.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use oh_conversation::{ClientTool, Conversation, ConversationBuilder, Origin};
use oh_protocol::{
    ConversationId,
    config::{
        Agent, AgentSource, ClientToolSpec, ConfirmationPolicy, Container, ConversationRuntime,
        LaunchAdditions, Llm, Plugin, SecurityAnalyzer, StartConversation, SubAgent, Worktree,
    },
    hooks::{Hook, HookConfig},
};
use oh_testkit::{FakeServer, Fault};
use serde_json::{Value, json};

use crate::mock::{Mock, Place, soon};

fn builder() -> ConversationBuilder {
    let (mock, _dials) = Mock::new();
    let agent = Agent::new(Llm::new("m").api_key("k"));
    Conversation::builder(&Place(mock.client()), agent)
}

/// Returns the start request that a builder would send.
fn wire(builder: ConversationBuilder) -> serde_json::Map<String, Value> {
    let seen = Arc::new(Mutex::new(Value::Null));
    let sees = seen.clone();
    let _ = builder.configure(move |start| {
        start.check().unwrap();
        *sees.lock().unwrap() = serde_json::to_value(&start).unwrap();
        start
    });
    let seen = seen.lock().unwrap().take();
    seen.as_object().unwrap().clone()
}

type Method = fn(ConversationBuilder) -> ConversationBuilder;

/// Builder methods, each with the fields that it sets.
const METHODS: &[(&str, &[&str], Method)] = &[
    ("id", &["conversation_id"], |it| {
        it.id(ConversationId::random())
    }),
    ("initial_message", &["initial_message"], |it| {
        it.initial_message("Hello.")
    }),
    ("hooks", &["hook_config"], |it| {
        it.hooks(HookConfig::new().stop(Hook::command("true")))
    }),
    ("max_iterations", &["max_iterations"], |it| {
        it.max_iterations(7)
    }),
    ("stuck_detection", &["stuck_detection"], |it| {
        it.stuck_detection(false)
    }),
    ("confirmation_policy", &["confirmation_policy"], |it| {
        it.confirmation_policy(ConfirmationPolicy::never())
    }),
    ("always_confirm", &["confirmation_policy"], |it| {
        it.always_confirm()
    }),
    ("security_analyzer", &["security_analyzer"], |it| {
        it.security_analyzer(SecurityAnalyzer::llm())
    }),
    ("tag", &["tags"], |it| it.tag("team", "tools")),
    ("tags", &["tags"], |it| it.tags([("team", "tools")])),
    ("secret", &["secrets"], |it| it.secret("TOKEN", "canary")),
    ("secrets_encrypted", &["secrets_encrypted"], |it| {
        it.secrets_encrypted(true)
    }),
    ("client_tool", &["client_tools"], |it| {
        it.client_tool(ClientTool::new("wave", "Waves.", |_| async { Ok(()) }))
    }),
    ("client_tool_spec", &["client_tools"], |it| {
        it.client_tool_spec(ClientToolSpec::new("wave", "Waves."))
    }),
    ("tool_module", &["tool_module_qualnames"], |it| {
        it.tool_module("wave", "ours.waving")
    }),
    ("sub_agent", &["agent_definitions"], |it| {
        it.sub_agent(SubAgent::new("counter"))
    }),
    ("plugin", &["plugins"], |it| {
        it.plugin(Plugin::new("/plugins/ours"))
    }),
    ("worktree", &["worktree", "worktree_options"], |it| {
        it.worktree(Worktree::of_head())
    }),
    ("parent", &["parent_conversation_id"], |it| {
        it.parent(ConversationId::random())
    }),
    ("autotitle", &["autotitle"], |it| it.autotitle(true)),
    ("title_profile", &["title_llm_profile"], |it| {
        it.title_profile("cheap")
    }),
    ("title_prompt", &["prompt"], |it| {
        it.title_prompt("Name it: {conversation_content}")
    }),
    ("launch_additions", &["agent_launch_additions"], |it| {
        it.launch_additions(LaunchAdditions::new())
    }),
    ("user_id", &["user_id"], |it| it.user_id("me")),
    ("span_name", &["observability_span_name"], |it| {
        it.span_name("nightly")
    }),
    (
        "parent_span",
        &["observability_parent_span_context"],
        |it| it.parent_span("context"),
    ),
    ("trace_metadata", &["observability_metadata"], |it| {
        it.trace_metadata("team", "tools")
    }),
    ("trace_tag", &["observability_tags"], |it| {
        it.trace_tag("nightly")
    }),
    ("runtime", &["conversation_runtime"], |it| {
        it.runtime(ConversationRuntime::Local)
    }),
    ("container", &["container"], |it| {
        it.container(Container::new().cpus(2.0))
    }),
];

/// Fields that are passed when the builder is created, not set by a method: the agent in one of
/// three forms, and the workspace.
const GIVEN: [&str; 4] = ["agent", "agent_settings", "agent_profile_id", "workspace"];

// The test `protocol_config` compares `FIELDS` with the model of the real server.
#[test]
fn every_field_of_the_start_request_has_a_method_that_sets_it_and_nothing_else() {
    let mut fields: BTreeSet<&str> = GIVEN.into();
    for (name, sets, method) in METHODS {
        let (mut before, mut after) = (wire(builder()), wire(method(builder())));
        let changed: BTreeSet<&str> = after
            .iter()
            .filter(|(field, value)| before.get(*field) != Some(value))
            .map(|(field, _)| field.as_str())
            // Each builder generates its own random id.
            .filter(|field| *field != "conversation_id" || *name == "id")
            .collect();
        assert_eq!(changed, BTreeSet::from_iter(sets.iter().copied()), "{name}");
        fields.extend(*sets);
        before.retain(|field, _| !after.contains_key(field));
        assert!(before.is_empty(), "{name} takes {before:?} away");
        after.clear();
    }
    let known: BTreeSet<&str> = StartConversation::FIELDS.iter().copied().collect();
    assert_eq!(fields, known);
}

#[test]
fn every_setter_documents_its_default() {
    let source = include_str!("../../src/start/builder/setters.rs");
    for (name, _, _) in METHODS {
        let is_its = |line: &&str| {
            let signature = line.trim_start().strip_prefix("pub fn ");
            signature.is_some_and(|signature| signature.split(['(', '<']).next() == Some(name))
        };
        let lines: Vec<&str> = source.lines().collect();
        let at = lines.iter().position(is_its).unwrap();
        let docs: Vec<_> = lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.trim_start().starts_with("///"))
            .collect();
        let says = |line: &&&str| line.contains("efault:");
        assert!(docs.iter().any(says), "{name}: {docs:?}");
    }
}

#[test]
fn a_builder_sends_no_field_that_was_not_set() {
    let sent = wire(builder());
    let sent: Vec<&str> = sent.keys().map(String::as_str).collect();
    // Automatic titles cost a model call, so they are off by default.
    assert_eq!(sent, ["agent", "autotitle", "conversation_id", "workspace"]);
    assert_eq!(wire(builder())["autotitle"], false);
}

#[test]
fn an_agent_is_set_in_full_by_settings_or_by_profile() {
    let (mock, _dials) = Mock::new();
    let profile = "6f1d5a3e-6d4f-4b52-9a5b-0f0c9ad1f3a7".parse().unwrap();
    for (agent, field) in [
        (AgentSource::from(Agent::new(Llm::new("m"))), "agent"),
        (
            AgentSource::settings(json!({"llm": {"model": "m"}})),
            "agent_settings",
        ),
        (AgentSource::profile(profile), "agent_profile_id"),
    ] {
        let sent = wire(Conversation::builder(&Place(mock.client()), agent));
        let given: Vec<_> = GIVEN[..3]
            .iter()
            .filter(|it| sent.contains_key(**it))
            .collect();
        assert_eq!(given, [&field]);
    }
}

/// Returns the tag `plugins` of the request that a builder sends.
async fn plugins(
    builder: impl FnOnce(ConversationBuilder) -> ConversationBuilder,
) -> Option<String> {
    let (mock, _dials) = Mock::new();
    mock.plan("/api/conversations", Ok((422, json!({"detail": "seen"}))));
    let agent = Agent::new(Llm::new("m").api_key("k"));
    let place = Place(mock.client());
    let builder = builder(Conversation::builder(&place, agent));
    soon(builder.start()).await.unwrap_err();
    let sent: Value = serde_json::from_str(mock.bodies().last().unwrap()).unwrap();
    sent["tags"]["plugins"].as_str().map(str::to_owned)
}

#[tokio::test(start_paused = true)]
async fn a_tag_names_the_source_of_plugins() {
    let of = |source: &str| Plugin::new(source);
    let tag = plugins(|it| {
        it.plugin(of("github:owner/repo").reference("v1"))
            .plugin(of("/on/the/disk"))
            .plugin(of("https://x:canary@host/ours?token=canary"))
    });
    let expected = "https://github.com/owner/repo/tree/v1,https://host/ours";
    assert_eq!(tag.await.as_deref(), Some(expected));
    assert_eq!(plugins(|it| it).await, None);
    assert_eq!(plugins(|it| it.plugin(of("/on/the/disk"))).await, None);
    let own = plugins(|it| it.tag("plugins", "mine").plugin(of("https://host/ours")));
    assert_eq!(own.await.as_deref(), Some("mine"));
    // The tag contains only complete names, as many as fit.
    let long = format!("https://host/{}", "x".repeat(240));
    let tag = plugins(|it| {
        it.plugin(of(&long))
            .plugin(of("https://host/ours"))
            .plugin(of("a://b"))
    });
    assert_eq!(tag.await.as_deref(), Some(&*long));
}

#[tokio::test]
async fn a_conversation_with_a_generated_id_is_new_if_the_response_to_its_creation_is_lost() {
    for own_id in [None, Some(ConversationId::random())] {
        let server = FakeServer::start().await.unwrap();
        let lost = Fault::lost_answer().on("/api/conversations").method("POST");
        server.inject(lost.times(1));
        let (calls, mut called) = tokio::sync::mpsc::unbounded_channel();
        let place = Place(server.client().unwrap());
        let mut builder = Conversation::builder(&place, Agent::new(Llm::new("m").api_key("k")))
            .initial_message("Hello.")
            .on_event(move |event| _ = calls.send(event.id().to_owned()));
        if let Some(id) = own_id {
            builder = builder.id(id);
        }
        let conversation = builder.start().await.unwrap();
        assert_eq!(server.requests_to("POST", "/api/conversations").len(), 2);
        if own_id.is_some() {
            // Another program may have used the id.
            assert_eq!(*conversation.origin(), Origin::Found(Vec::new()));
            continue;
        }
        assert_eq!(*conversation.origin(), Origin::Created);
        let first = conversation.log().search().next().await.unwrap().unwrap();
        assert_eq!(called.recv().await.unwrap(), first.id());
    }
}
