//! The scenes that are recorded. Each scene causes some kinds of events.

use std::{path::Path, time::Duration};

use openhands::{
    Agent, Conversation, HookConfig, LocalServer, WorkspaceExt,
    hooks::{Hook, HookMatcher},
    protocol::{
        Request,
        config::{Llm, StartConversation, ToolSpec},
    },
    testkit::{Script, ScriptedModel, Step},
    transport::{Body, Message},
};
use serde_json::{Value, json};

use super::{Outcome, drain, session};

/// The scene is over when no frame arrives for this long.
const QUIET: Duration = Duration::from_secs(3);

pub(crate) struct Scene {
    pub(crate) name: &'static str,
    model: ScriptedModel,
    agent: fn(Llm) -> Agent,
    start: fn(StartConversation) -> StartConversation,
    then: Then,
}

/// The action that follows the first message.
#[derive(PartialEq)]
enum Then {
    Run,
    Reject,
    Interrupt,
    Condense,
    Streaming,
    Goal,
}

/// Recorded messages of the sockets.
pub(crate) struct Taken {
    pub(crate) frames: Vec<String>,
    pub(crate) legacy: Vec<String>,
}

pub(crate) async fn all(project: &Path) -> Outcome<Vec<Scene>> {
    let path = |name: &str| project.join(name).display().to_string();
    let notes = path("notes.txt");
    let tools = Script::new()
        .step(
            Step::call("terminal", json!({"command": "ls -la && echo 'Grüße, \"Welt\"'"}))
                .say("First a look around.")
                .think("What is there?")
                .usage(1200, 40)
                .cached_tokens(600)
                .reasoning_tokens(12)
                .cost(0.0125),
        )
        .call("terminal", json!({"command": "ls /nowhere; exit 3"}))
        .call("terminal", json!({"command": "printf 'é%.0s' $(seq 300); seq 200"}))
        .call("terminal", json!({"command": "sleep 3", "timeout": 1.0}))
        .call("terminal", json!({"command": "C-c", "is_input": true}))
        .call("file_editor", json!({"command": "create", "path": notes, "file_text": "one\ntwo\n\t\"three\"\n"}))
        .call("file_editor", json!({"command": "str_replace", "path": notes, "old_str": "two", "new_str": "zwei"}))
        .call("file_editor", json!({"command": "insert", "path": notes, "insert_line": 1, "new_str": "between"}))
        .call("file_editor", json!({"command": "view", "path": notes, "view_range": [1, 2]}))
        .call("file_editor", json!({"command": "undo_edit", "path": notes}))
        .call("file_editor", json!({"command": "view", "path": path("missing.txt")}))
        .call("task_tracker", json!({"command": "plan", "task_list": [
            {"title": "Look", "notes": "around", "status": "done"}, {"title": "Work", "status": "in_progress"}]}))
        .call("task_tracker", json!({"command": "view"}))
        .call("think", json!({"thought": "Enough seen."}))
        .call("grep", json!({"pattern": "zwei", "path": project}))
        .call("glob", json!({"pattern": "*.txt", "path": project}))
        .call("write_file", json!({"file_path": path("g.txt"), "content": "alpha\nbeta\n"}))
        .call("read_file", json!({"file_path": path("g.txt")}))
        .call("edit", json!({"file_path": path("g.txt"), "old_string": "beta", "new_string": "gamma"}))
        .call("list_directory", json!({"dir_path": project, "recursive": false}))
        .call("planning_file_editor", json!({"command": "view", "path": notes}))
        .call("apply_patch", json!({"patch": "*** Begin Patch\n*** Add File: p.txt\n+hello\n*** End Patch"}))
        .call("terminal", json!({"no_such": "argument"}))
        .call("no_such_tool", json!({}))
        .step(Step::call("terminal", json!({"command": "echo first"})).and_call("think", json!({"thought": "second"})))
        .call("echo", json!({"text": "through MCP"}))
        .call("ask_user", json!({"question": "Shall I?"}))
        .finish("All tools were used.")
        .forever(|s| s.text("Nothing more."));
    let reject = Script::new()
        .call("terminal", json!({"command": "rm -rf /tmp/fixtures/none", "security_risk": "HIGH", "summary": "remove a directory"}))
        .forever(|s| s.finish("Then not."));
    let interrupt = Script::new()
        .call("terminal", json!({"command": "sleep 20"}))
        .forever(|s| s.text("Stopped."));
    let condense = Script::new().forever(|s| s.text("A summary, or an answer."));
    let streaming = Script::new()
        .step(
            Step::text("A first answer that breaks off in the middle of")
                .think("Let me see.")
                .drip(Duration::from_millis(30))
                .cut_after(4),
        )
        .step(
            Step::text("A streamed answer of several words.")
                .think("Again.")
                .drip(Duration::from_millis(30)),
        )
        .forever(|s| s.text("No more."));
    let refused = Script::new().forever(|s| s.fail(401, "Incorrect API key provided"));
    let children = Script::new()
        .call("task", json!({"description": "count", "prompt": "Count to three.", "subagent_type": "general-purpose"}))
        .forever(|s| s.finish("Done."));
    // The agent and the judge of a goal use the same model in turns.
    let goal = Script::new()
        .text("I have begun.")
        .text(r#"{"score": 0.25, "complete": false, "missing": "the end"}"#)
        .text("I am done.")
        .forever(|s| s.text(r#"{"score": 1.0, "complete": true, "missing": ""}"#));
    let scene = async |name, script: Script, agent, start, then| -> Outcome<Scene> {
        let model = ScriptedModel::builder().script(script).start().await?;
        Ok(Scene {
            name,
            model,
            agent,
            start,
            then,
        })
    };
    Ok(vec![
        scene("tools", tools, every_tool, with_hooks, Then::Run).await?,
        scene("reject", reject, preset, confirming, Then::Reject).await?,
        scene("interrupt", interrupt, preset, plain, Then::Interrupt).await?,
        scene("condense", condense, preset, plain, Then::Condense).await?,
        scene("streaming", streaming, preset, plain, Then::Streaming).await?,
        scene("refused", refused, preset, plain, Then::Run).await?,
        scene("children", children, delegating, plain, Then::Run).await?,
        scene("goal", goal, preset, plain, Then::Goal).await?,
    ])
}

fn preset(llm: Llm) -> Agent {
    Agent::default_preset(llm).cli_mode(true)
}

fn delegating(llm: Llm) -> Agent {
    preset(llm).tool(ToolSpec::new("task_tool_set"))
}

fn every_tool(llm: Llm) -> Agent {
    let names = [
        "grep",
        "glob",
        "write_file",
        "read_file",
        "edit",
        "list_directory",
        "planning_file_editor",
        "apply_patch",
    ];
    let agent = names
        .iter()
        .fold(preset(llm), |agent, name| agent.tool(ToolSpec::new(*name)));
    let code = "from fastmcp import FastMCP\nm = FastMCP('echo')\n@m.tool\ndef echo(text: str) -> str:\n    return text\nm.run()";
    agent.set(
        "mcp_config",
        json!({"echo": {"command": "python", "args": ["-c", code]}}),
    )
}

fn plain(start: StartConversation) -> StartConversation {
    start
}

fn confirming(start: StartConversation) -> StartConversation {
    start.always_confirm().tag("scene", "reject")
}

fn with_hooks(start: StartConversation) -> StartConversation {
    let quick = |command: &str| Hook::command(command).timeout(Duration::from_secs(10));
    let context = r#"echo '{"additionalContext": "It is Monday."}'"#;
    let stop = "test -e stopped || { touch stopped; echo 'Not yet.' >&2; exit 2; }";
    let tool = json!([{"name": "ask_user", "description": "Asks the user.", "parameters": {
        "type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]}}]);
    start
        .hook_config(
            HookConfig::new()
                .session_start(quick("true"))
                .user_prompt_submit(quick(context))
                .pre_tool_use(HookMatcher::new("think").hook(quick("true")))
                .post_tool_use(HookMatcher::new("think").hook(quick("exit 1")))
                .stop(quick(stop)),
        )
        .set("client_tools", tool)
}

/// Plays a scene and records the messages of the sockets.
pub(crate) async fn play(server: &LocalServer, scene: &Scene) -> Outcome<Taken> {
    let client = server.client();
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(scene.model.base_url())
        .api_key("scripted")
        .num_retries(u32::from(scene.then == Then::Streaming))
        .stream(scene.then == Then::Streaming);
    let workspace = server.workspace(server.workspace_dir());
    let start = scene.start;
    let conversation = Conversation::builder(&workspace, (scene.agent)(llm))
        .configure(start)
        .start()
        .await?;
    let id = conversation.id();
    let mut frames = session(client, &conversation).await?;
    let mut legacy = client.socket(format!("/sockets/events/{id}")).await?;
    conversation.send(format!("Scene {}.", scene.name)).await?;
    match scene.then {
        Then::Run | Then::Streaming => _ = conversation.run().await?,
        Then::Reject => {
            _ = conversation.run().await?;
            let approvals = conversation.approvals();
            let pending = approvals.pending();
            approvals.reject(&pending, "Not on my machine.").await?;
            _ = conversation.run().await?;
        }
        Then::Interrupt => {
            let stop = async {
                tokio::time::sleep(Duration::from_secs(3)).await;
                conversation.pause().await?;
                conversation.interrupt().await
            };
            let (run, stopped) = tokio::join!(conversation.run(), stop);
            stopped?;
            _ = run?;
        }
        Then::Condense => {
            for n in 0..5 {
                _ = conversation.run().await?;
                conversation.send(format!("Message {n}.")).await?;
            }
            _ = conversation.run().await?;
            post(
                server,
                &format!("/api/conversations/{id}/condense"),
                &json!({}),
            )
            .await?;
        }
        Then::Goal => {
            let goal = conversation.goals().start("Reach the end.").await?;
            goal.ended().await?;
        }
    }
    // An invalid message: each socket reports it in its own format.
    for socket in [&mut frames, &mut legacy] {
        socket.send(Message::Text("{\"role\": 7}".into())).await?;
    }
    let taken = Taken {
        frames: drain(&mut frames, QUIET).await?,
        legacy: drain(&mut legacy, QUIET).await?,
    };
    conversation.close().await?;
    Ok(taken)
}

/// Returns the unchanged body of the response to a `GET`.
pub(crate) async fn get(server: &LocalServer, path: &str) -> Outcome<Vec<u8>> {
    let request = Request::new(http::Method::GET, path);
    let answer = server.client().stream(request, Body::empty()).await?;
    Ok(answer.into_body().collect(1 << 24).await?.to_vec())
}

async fn post(server: &LocalServer, path: &str, body: &Value) -> Outcome {
    let request = Request::new(http::Method::POST, path).json(body)?;
    let body = Body::from(request.body.clone().unwrap_or_default());
    let answer = server.client().stream(request, body).await?;
    println!("  {path}: {}", answer.status());
    Ok(())
}
