//! Sources of agents, secrets and working directories. On the real server.

use std::{path::Path, process::Command, time::Duration};

use openhands::{
    Conversation, LocalServer, Payload, WorkspaceExt,
    conversation::ErrorKind,
    protocol::{Answer, Call, Operation, Repeat, Request, config::*},
    testkit::{Script, ScriptedModel},
};
use serde_json::{Value, json};

/// `PUT /api/settings/secrets`: stores a secret on the server.
struct Store(&'static str, &'static str);

impl Call for Store {
    type Output = ();

    fn operation(&self) -> Operation {
        Operation::new(
            http::Method::PUT,
            "/api/settings/secrets",
            Repeat::Idempotent,
        )
    }

    fn request(&self) -> openhands::protocol::Result<Request> {
        Request::new(http::Method::PUT, "/api/settings/secrets")
            .json(&json!({"name": self.0, "value": self.1}))
    }

    fn decode(&self, _answer: Answer) -> openhands::protocol::Result<()> {
        Ok(())
    }
}

fn llm(model: &ScriptedModel) -> Llm {
    Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("canary")
        .num_retries(0)
}

async fn field(conversation: &Conversation, path: &str) -> Value {
    let info = conversation.info().await.unwrap();
    let (field, rest) = path.split_once('/').unwrap();
    let json = serde_json::to_value(info.state().get(field).unwrap()).unwrap();
    json.pointer(&format!("/{rest}")).unwrap().clone()
}

async fn stop(server: LocalServer) {
    server.shutdown(Duration::from_secs(20)).await.unwrap();
}

#[tokio::test]
async fn an_agent_may_come_from_another_source_or_settings() {
    let model = ScriptedModel::builder()
        .script(Script::new().finish("Done."))
        .start()
        .await
        .unwrap();
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let workspace = server
        .client()
        .workspace(server.workspace_dir().display().to_string());

    let acp = AcpAgent::new(["no-such-program", "canary"]).acp_model("sonnet");
    let others = Conversation::builder(&workspace, acp)
        .start()
        .await
        .unwrap();
    assert_eq!(field(&others, "agent/kind").await, "ACPAgent");
    assert_eq!(field(&others, "agent/acp_model").await, "sonnet");
    // The server has no stored agent with this id.
    let error = Conversation::builder(&workspace, Agent::new(llm(&model)))
        .id(others.id())
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AgentMismatch, "{error}");
    others.close().await.unwrap();

    let settings = json!({"agent_kind": "openhands", "llm": llm(&model), "tools": []});
    let additions = LaunchAdditions::new().system_message_suffix_append("LAUNCHED");
    let made = Conversation::builder(&workspace, AgentSource::settings(settings))
        .configure(|start| start.agent_launch_additions(additions))
        .start()
        .await
        .unwrap();
    made.send("Hello.").await.unwrap();
    let outcome = made.run().await.unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    assert!(model.requests()[0].contains("LAUNCHED"));
    made.close().await.unwrap();
    stop(server).await;
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@t"])
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_secret_may_be_looked_up_and_a_worktree_created() {
    let script = Script::new()
        .call(
            "terminal",
            json!({"command": "echo ${#LOOKED_UP} \"<$LOOKED_UP>\"; git branch --show-current"}),
        )
        .finish("Done.");
    let model = ScriptedModel::builder()
        .script(script)
        .start()
        .await
        .unwrap();
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let project = home.path().join("project");
    std::fs::create_dir(&project).unwrap();
    git(&project, &["init", "-q", "-b", "main"]);
    git(&project, &["commit", "-q", "--allow-empty", "-m", "first"]);
    let workspace = server.client().workspace(project.display().to_string());

    server
        .client()
        .call(&Store("STORED", "canary-of-store"))
        .await
        .unwrap();
    let agent = Agent::default_preset(llm(&model)).cli_mode(true);
    let conversation = Conversation::builder(&workspace, agent)
        .configure(|start| {
            start
                .secret(
                    "LOOKED_UP",
                    SecretSource::lookup("/api/settings/secrets/STORED"),
                )
                .worktree(Worktree::of_head().branch_prefix("mine/"))
        })
        .start()
        .await
        .unwrap();
    let directory = field(&conversation, "workspace/working_dir").await;
    assert_ne!(directory, project.display().to_string());

    conversation.send("Look.").await.unwrap();
    let outcome = conversation.run().await.unwrap();
    assert!(outcome.is_finished(), "{outcome}");
    let mut printed = String::new();
    for event in conversation.events().iter() {
        if let Payload::Observation(seen) = event.payload()
            && seen.tool_name == "terminal"
        {
            printed = seen.text();
        }
    }
    assert!(
        printed.contains("15 <") && !printed.contains("canary"),
        "{printed}"
    );
    assert!(printed.contains("mine/"), "{printed}");
    assert!(git(&project, &["branch"]).contains("mine/"));
    conversation.close().await.unwrap();
    stop(server).await;
}
