//! Options of a new conversation, and invalid ones.

use std::time::Duration;

use openhands::{
    Agent, Conversation, ConversationId, LocalServer, Payload, RunStatus, WorkspaceExt,
    conversation::{ClientTool, Conversations, ErrorKind, Origin},
    protocol::config::{SubAgent, ToolSpec},
    testkit::{Script, ScriptedModel, Step},
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{LONG, agent, finishes, llm, messages, model, says, workspace};

pub(super) async fn a_start_reports_whether_it_created_a_conversation_and_what_differs(
    server: &LocalServer,
) {
    let model = says("Hello.").await;
    let id = ConversationId::random();
    let builder = || {
        Conversation::builder(&workspace(server), agent(&model))
            .id(id)
            .tag("team", "tools")
            .max_iterations(7)
            .always_confirm()
            .secret("TOKEN", "canary")
    };
    let first = builder().start().await.unwrap();
    assert_eq!(first.origin(), &Origin::Created);
    let second = builder().start().await.unwrap();
    assert_eq!(second.id(), id);
    assert_eq!(
        second.origin(),
        &Origin::Found(Vec::new()),
        "it is the same"
    );
    let other = Agent::default_preset(llm(&model).temperature(0.5)).cli_mode(true);
    let third = Conversation::builder(&workspace(server), other.tool("glob"))
        .id(id)
        .tag("team", "others")
        .initial_message("Never said.")
        .start()
        .await
        .unwrap();
    let differences = third.origin().differences().iter();
    let differences: Vec<_> = differences.map(ToString::to_string).collect();
    assert_eq!(
        differences,
        [
            "agent.condenser.llm.temperature",
            "agent.llm.temperature",
            "agent.tools",
            "tags.team"
        ]
    );
    assert!(
        third.events().is_empty(),
        "the message of one that is found is not sent"
    );
    // Attaches by id alone, without an agent.
    let attached = Conversation::attach(server.client(), id).await.unwrap();
    assert_eq!(attached.origin(), &Origin::Attached);
    for conversation in [first, second, third] {
        conversation.close().await.unwrap();
    }
    let acp = openhands::protocol::config::AcpAgent::new(["true"]);
    let error = Conversation::builder(&workspace(server), acp)
        .id(id)
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AgentMismatch, "{error:?}");
    attached.delete().await.unwrap();
    let error = Conversation::attach(server.client(), id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone, "{error:?}");
}

pub(super) async fn an_initial_message_always_runs(server: &LocalServer) {
    let model = says("Welcome.").await;
    let conversation = Conversation::builder(&workspace(server), agent(&model))
        .initial_message("Begin.")
        .start()
        .await
        .unwrap();
    let ended = timeout(LONG, conversation.join()).await.unwrap().unwrap();
    assert!(ended.is_finished(), "{ended}");
    assert_eq!(messages(&conversation.events()), ["Begin.", "Welcome."]);
    conversation.close().await.unwrap();
}

pub(super) async fn what_the_server_would_choke_on_is_refused_before_it(server: &LocalServer) {
    let model = says("Hello.").await;
    let with = |tool: &str| {
        let agent = agent(&model).tool(ToolSpec::new(tool));
        Conversation::builder(&workspace(server), agent)
    };
    let count = || async {
        Conversations::of(server.client())
            .count(None)
            .await
            .unwrap()
    };
    let before = count().await;
    let error = with("no_such_tool").start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTool, "{error:?}");
    let said = error.to_string();
    assert!(
        said.contains("`no_such_tool`") && said.contains("`terminal`"),
        "{said}"
    );
    let plain = || Conversation::builder(&workspace(server), agent(&model));
    let tool = |name: &str| ClientTool::new(name, "Does something.", |_| async { Ok(()) });
    for refused in [
        plain().client_tool(tool("mine").parameters(json!({"type": "string"}))),
        plain().client_tool(tool("mine")).client_tool(tool("mine")),
        plain().client_tool(tool("terminal")),
        plain().client_tool(tool("finish")),
        plain().tag("Team", "x"),
        plain().tag("team", "x".repeat(257)),
        Conversation::builder(&server.workspace(""), agent(&model)),
        plain().max_iterations(0),
        with("terminal"),
    ] {
        let shown = format!("{refused:?}");
        let error = refused.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{shown}: {error:?}");
    }
    assert_eq!(count().await, before, "nothing was made");
    // Without the client's check, an unknown name would cause a 500 for the first message.
    let conversation = with("no_such_tool")
        .unchecked_tools()
        .start()
        .await
        .unwrap();
    let error = conversation.send("Hello.").await.unwrap_err();
    let status = error.transport_error().and_then(|error| error.status());
    assert_eq!(status.map(|status| status.as_u16()), Some(500), "{error:?}");
    conversation.delete().await.unwrap();
    // Tools that agents can have without registration, and other tools of the server.
    let conversation = with("glob").start().await.unwrap();
    conversation.send("Hello.").await.unwrap();
    finishes(&conversation).await;
    conversation.delete().await.unwrap();
}

pub(super) async fn a_parent_must_be_there_and_share_the_directory(server: &LocalServer) {
    let model = says("Hello.").await;
    let parent = Conversation::builder(&workspace(server), agent(&model))
        .start()
        .await
        .unwrap();
    let child = Conversation::builder(&workspace(server), agent(&model))
        .parent(parent.id())
        .start()
        .await
        .unwrap();
    let children = parent.children().list().await.unwrap();
    assert_eq!(children[0].id(), child.id());
    let place = tempfile::tempdir().unwrap();
    let elsewhere = server.workspace(place.path().to_str().unwrap());
    let own = ConversationId::random();
    for refused in [
        Conversation::builder(&workspace(server), agent(&model)).parent(ConversationId::random()),
        Conversation::builder(&elsewhere, agent(&model)).parent(parent.id()),
        Conversation::builder(&workspace(server), agent(&model))
            .id(own)
            .parent(own),
    ] {
        let error = refused.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation, "{error:?}");
    }
    child.close().await.unwrap();
    parent.close().await.unwrap();
}

/// Starts a model with an answer for title requests.
pub(super) async fn with_titles(title: Step) -> ScriptedModel {
    ScriptedModel::builder()
        .script(Script::new().forever(|s| s.text("An answer.")))
        .titles(Script::new().forever(|s| s.step(title)))
        .start()
        .await
        .unwrap()
}

pub(super) async fn the_server_makes_titles_only_when_asked(server: &LocalServer) {
    let model = with_titles(Step::text("A title of the server")).await;
    let quiet = Conversation::builder(&workspace(server), agent(&model))
        .start()
        .await
        .unwrap();
    quiet.send("Hello.").await.unwrap();
    finishes(&quiet).await;
    assert_eq!(model.requests().len(), 1, "no call but the agent's own");
    assert_eq!(quiet.info().await.unwrap().title(), None);
    quiet.close().await.unwrap();
    let titled = Conversation::builder(&workspace(server), agent(&model))
        .autotitle(true)
        .start()
        .await
        .unwrap();
    titled.send("Hello.").await.unwrap();
    finishes(&titled).await;
    // No event reports the title.
    let title = async {
        loop {
            match titled.info().await.unwrap().title() {
                Some(title) => break title,
                None => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let title = timeout(LONG, title).await.unwrap();
    assert_eq!(title, "A title of the server");
    titled.close().await.unwrap();
}

pub(super) async fn a_failed_title_does_not_fail_the_run(server: &LocalServer) {
    let model = with_titles(Step::fail(400, "no titles today")).await;
    let conversation = Conversation::builder(&workspace(server), agent(&model))
        .autotitle(true)
        .start()
        .await
        .unwrap();
    conversation.send("Hello.").await.unwrap();
    finishes(&conversation).await;
    let failed = async {
        while conversation
            .events()
            .of_kind("ConversationErrorEvent")
            .next()
            .is_none()
        {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, failed).await.unwrap();
    conversation.send("Again.").await.unwrap();
    finishes(&conversation).await;
    conversation.close().await.unwrap();
}

pub(super) async fn a_conversation_is_deleted_when_closed_if_asked_for(server: &LocalServer) {
    let model = says("Hello.").await;
    let conversation = Conversation::builder(&workspace(server), agent(&model))
        .delete_on_close()
        .start()
        .await
        .unwrap();
    conversation.send("Hello.").await.unwrap();
    finishes(&conversation).await;
    let id = conversation.id();
    conversation.close().await.unwrap();
    conversation.close().await.unwrap();
    conversation.delete().await.unwrap();
    let error = Conversation::attach(server.client(), id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone, "{error:?}");
    // The events that the handle holds can still be read.
    assert_eq!(messages(&conversation.events()), ["Hello.", "Hello."]);
    assert!(conversation.usage().current().prompt_tokens() > 0);
    let kept = Conversation::builder(&workspace(server), agent(&model))
        .start()
        .await
        .unwrap();
    kept.close().await.unwrap();
    kept.close().await.unwrap();
    let again = Conversation::attach(server.client(), kept.id())
        .await
        .unwrap();
    again.delete().await.unwrap();
}

pub(super) async fn sub_agents_reach_the_server_and_work(server: &LocalServer) {
    let script = Script::new()
        .step(
            Step::call(
                "task",
                json!({"prompt": "Count.", "subagent_type": "counter", "description": "counts"}),
            )
            .check(|request| {
                match request.body().to_string().contains("counts to any number") {
                    true => Ok(()),
                    false => Err("the sub-agent's description is not there".into()),
                }
            }),
        )
        // The sub-agent uses the agent's model.
        .text("Three.")
        .forever(|s| s.text("It counted."));
    let model = model(script).await;
    let counter = SubAgent::new("counter")
        .description("counts to any number")
        .system_prompt("You count.");
    let conversation =
        Conversation::builder(&workspace(server), agent(&model).tool("task_tool_set"))
            .sub_agent(counter)
            .start()
            .await
            .unwrap();
    conversation.send("Count to three.").await.unwrap();
    let ended = timeout(LONG, conversation.run()).await.unwrap().unwrap();
    let shown: Vec<_> = conversation
        .events()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(ended.status(), RunStatus::Finished, "{ended} {shown:#?}");
    let reported = conversation
        .events()
        .iter()
        .any(|event| match event.payload() {
            Payload::Observation(body) => {
                body.tool_name == "task" && body.text().contains("Three.")
            }
            _ => false,
        });
    assert!(reported, "{shown:#?}");
    assert_eq!(
        conversation.agent().final_response().await.unwrap(),
        "It counted."
    );
    conversation.close().await.unwrap();
}
