//! Runs that differ from the main job: hooks of each kind, limits, approval by a message, streamed
//! answers. Played on both servers.

use serde_json::{Value, json};

use super::side::{Side, keys, next, run_frames, story};

/// Checks a hook for each event that can come before or after another. The commands also instruct
/// the fake server's judge, which does what they do on the real server.
pub(crate) async fn hooked(side: &mut Side) {
    let hook = |command: &str| json!([{"matcher": "*", "hooks": [{"command": command}]}]);
    let denied = json!([
        {"matcher": "terminal", "hooks": [{"command": "echo no terminal >&2; exit 2"}]},
        {"matcher": "think|never", "hooks": [{"command": "exit 7"}]},
    ]);
    let hooks = json!({
        "SessionStart": hook("true"), "PreToolUse": denied, "PostToolUse": hook("true"),
        "UserPromptSubmit": hook("grep -q forbidden && exit 2 || exit 0"), "Stop": hook("true"),
    });
    let id = side.create(json!({"hook_config": hooks})).await;
    side.say(&id, "work", true).await;
    side.until(&id, "finished").await;
    // Whether a hook has run when the message is answered depends on the server's timing.
    side.answers(&id, 0).await;
    side.say(&id, "this is forbidden", true).await;
    side.until(&id, "finished").await;
    side.settled(&id).await;
    let log = side.log(&id).await;
    side.note(story(&log).join("\n"));
}

/// Checks the text that hooks add for the agent, and where it is stored. A hook that denies and
/// adds text does not deny.
pub(crate) async fn context(side: &mut Side) {
    let add = |text: &str| format!(r#"echo '{{"additionalContext":"{text}"}}'"#);
    let hooks = |commands: &[String]| {
        let hooks: Vec<_> = commands.iter().map(|c| json!({"command": c})).collect();
        json!([{"matcher": "*", "hooks": hooks}])
    };
    let once = "mkdir stopped 2>/dev/null && {";
    let hooks = json!({
        "SessionStart": hooks(&[add("started"), "exit 2".into(), add("again")]),
        "UserPromptSubmit": hooks(&[add("read this"), "grep -q forbidden && exit 2 || exit 0".into()]),
        "PreToolUse": hooks(&[add("before")]),
        "PostToolUse": hooks(&["exit 2".into(), add("after")]),
        "Stop": hooks(&[format!("{once} {}; exit 2; }}; exit 0", add("more to do"))]),
    });
    let id = side.create(json!({"hook_config": hooks})).await;
    side.say(&id, "work", true).await;
    side.until(&id, "finished").await;
    side.answers(&id, 1).await;
    side.settled(&id).await;
    side.say(&id, "this is forbidden", true).await;
    side.answers(&id, 2).await;
    side.until(&id, "finished").await;
    side.settled(&id).await;
    let log = side.log(&id).await;
    side.note(story(&log).join("\n"));
    for event in &log {
        if event["kind"] == "HookExecutionEvent" {
            side.note(format!(
                "{} {} {}",
                event["hook_event_type"],
                event["additional_context"],
                event["stdout"].as_str().unwrap().trim()
            ));
        }
        if event["kind"] == "MessageEvent" {
            side.note(format!(
                "{} {} {}",
                event["source"],
                event["llm_message"]["content"][0]["text"],
                event["extended_content"]
            ));
        }
    }
    // The hook received another message id than the one that was kept.
    let asked = |event: &&Value| event["hook_event_type"] == "UserPromptSubmit";
    let asked = log.iter().rfind(asked).unwrap()["message_id"].clone();
    side.note(format!(
        "kept {}",
        log.iter().any(|event| event["id"] == asked)
    ));
    let (_, info) = side
        .ask("GET", &format!("/api/conversations/{id}"), Value::Null)
        .await;
    let blocked = info["blocked_messages"].as_object().unwrap();
    side.note(format!("blocked {:?}", blocked.values()));
}

pub(crate) async fn too_many_iterations(side: &mut Side) {
    let id = side.create(json!({"max_iterations": 2})).await;
    side.say(&id, "work", true).await;
    side.until(&id, "error").await;
    side.settled(&id).await;
    let log = side.log(&id).await;
    side.note(story(&log).join("\n"));
}

/// Checks that a message with a run executes the action that waits for approval, as on the real
/// server.
pub(crate) async fn approved_by_a_message(side: &mut Side) {
    let policy = json!({"kind": "AlwaysConfirm"});
    let id = side.create(json!({"confirmation_policy": policy})).await;
    side.say(&id, "do it", true).await;
    side.until(&id, "waiting_for_confirmation").await;
    side.say(&id, "please do not", true).await;
    side.until(&id, "finished").await;
    side.settled(&id).await;
    let log = side.log(&id).await;
    side.note(story(&log).join("\n"));
}

/// Checks a pause during a model request: the step continues, and `/run` is rejected until its end.
pub(crate) async fn paused(side: &mut Side) {
    let id = side.create(Value::Null).await;
    let path = format!("/api/conversations/{id}");
    let mut socket = side.socket(&format!("/sockets/session/{id}")).await;
    for _ in 0..2 {
        next(&mut socket).await.unwrap();
    }
    side.say(&id, "slowly", true).await;
    // The model request is in progress now.
    side.asked.arrived(1).await;
    side.check("POST", &format!("{path}/pause"), Value::Null)
        .await;
    side.check("POST", &format!("{path}/run"), Value::Null)
        .await;
    side.asked.open();
    let mut frames = Vec::new();
    while frames
        .iter()
        .filter(|frame: &&Value| frame["event"]["key"] == "full_state")
        .count()
        < 2
    {
        frames.push(next(&mut socket).await.unwrap());
    }
    side.note(story(&frames).join("\n"));
    side.until(&id, "paused").await;
    side.check("POST", &format!("{path}/run"), Value::Null)
        .await;
    side.until(&id, "finished").await;
    side.settled(&id).await;
    let log = side.log(&id).await;
    side.note(story(&log).join("\n"));
}

/// Checks a streamed answer on both sockets.
pub(crate) async fn streamed(side: &mut Side) {
    let mut llm = side.llm.clone();
    llm["stream"] = json!(true);
    let agent = json!({"kind": "Agent", "llm": llm, "tools": []});
    let id = side.create(json!({"agent": agent})).await;
    let mut socket = side.socket(&format!("/sockets/session/{id}")).await;
    let mut legacy = side.socket(&format!("/sockets/events/{id}")).await;
    next(&mut socket).await.unwrap();
    next(&mut socket).await.unwrap();
    next(&mut legacy).await.unwrap();
    side.say(&id, "tell me", true).await;
    let frames = run_frames(&mut socket).await;
    let types: Vec<_> = frames
        .iter()
        .map(|frame| frame["type"].as_str().unwrap())
        .collect();
    let mut outline: Vec<_> = types
        .into_iter()
        .filter(|kind| *kind != "transient")
        .collect();
    outline.dedup();
    side.note(format!("{outline:?}"));
    let started = frames
        .iter()
        .find(|frame| frame["type"] == "item_started")
        .unwrap();
    let message = frames.iter().find(|frame| {
        frame["event"]["kind"] == "MessageEvent" && frame["event"]["source"] == "agent"
    });
    side.note(format!(
        "{} the event's id: {}",
        keys(started),
        started["item_id"] == message.unwrap()["event"]["id"]
    ));
    let deltas: Vec<_> = frames
        .iter()
        .filter(|frame| frame["type"] == "delta")
        .collect();
    let orders: Vec<_> = deltas
        .iter()
        .filter_map(|frame| frame["order"].as_u64())
        .collect();
    let ascending = orders.is_sorted_by(|a, b| a < b) && orders.len() == deltas.len();
    let said: String = deltas
        .iter()
        .filter_map(|frame| frame["content"].as_str())
        .collect();
    side.note(format!("ascending {ascending}: {said}"));
    let frames = run_frames(&mut legacy).await;
    let deltas = frames
        .iter()
        .filter(|frame| frame["kind"] == "StreamingDeltaEvent");
    let said: String = deltas
        .filter_map(|frame| frame["content"].as_str())
        .collect();
    side.note(format!("legacy: {said}"));
}

/// Checks a tool that is interrupted while it is running.
pub(crate) async fn interrupted_tool(side: &mut Side) {
    let id = side.create(Value::Null).await;
    let path = format!("/api/conversations/{id}");
    side.say(&id, "sleep", true).await;
    side.logged(&id, "ActionEvent", 1).await;
    side.has_begun().await;
    side.check("POST", &format!("{path}/interrupt"), Value::Null)
        .await;
    side.until(&id, "paused").await;
    side.settled(&id).await;
    let log = side.log(&id).await;
    side.note(story(&log).join("\n"));
    side.check("POST", &format!("{path}/run"), Value::Null)
        .await;
    side.until(&id, "finished").await;
}

/// Checks that a socket opened while a tool is running receives nothing before the tool's end. Its
/// history starts after that.
pub(crate) async fn silent_tool(side: &mut Side) {
    let id = side.create(Value::Null).await;
    side.say(&id, "sleep", true).await;
    side.logged(&id, "ActionEvent", 1).await;
    let path = format!("/sockets/session/{id}");
    let mut plain = side.socket(&path).await;
    let mut resumed = side.socket(&format!("{path}?after_seq=-1")).await;
    // Otherwise both histories would start at the action.
    for socket in [&mut plain, &mut resumed] {
        let sync = next(socket).await.unwrap();
        let through = usize::try_from(sync["through_seq"].as_u64().unwrap()).unwrap();
        let log = side.log(&id).await;
        let observed = log[..=through]
            .iter()
            .any(|event| event["kind"] == "ObservationEvent");
        side.note(format!("{} observed {observed}", keys(&sync)));
    }
    side.until(&id, "finished").await;
    side.settled(&id).await;
}

/// Checks calls of a client tool: a good one, and those that the server rejects itself.
pub(crate) async fn client_tools(side: &mut Side) {
    let schema = json!({
        "type": "object",
        "properties": {"branch": {"type": "string"}, "kind": {"type": "string"}},
        "required": ["branch"],
    });
    let tool = json!({"name": "deploy", "description": "Deploys.", "parameters": schema});
    let id = side.create(json!({"client_tools": [tool]})).await;
    side.say(&id, "deploy", true).await;
    side.until(&id, "finished").await;
    let log = side.log(&id).await;
    side.note(story(&log).join("\n"));
    let of_kind = |kind: &'static str| log.iter().filter(move |event| event["kind"] == kind);
    for action in of_kind("ActionEvent") {
        side.note(action["action"].to_string());
    }
    for observation in of_kind("ObservationEvent") {
        side.note(observation["observation"]["content"][0]["text"].to_string());
    }
    let prompt = of_kind("SystemPromptEvent").next().unwrap();
    let tools = prompt["tools"].as_array().unwrap();
    let described = tools.iter().find(|tool| tool["title"] == "deploy");
    side.note(described.unwrap().to_string());
}

/// Checks a goal that takes two rounds, and one that is stopped and resumed.
pub(crate) async fn goal(side: &mut Side) {
    let id = side.create(Value::Null).await;
    let path = format!("/api/conversations/{id}/goal");
    for (rest, body) in [
        ("", json!({})),
        ("", json!({"objective": "x", "max_iterations": 0})),
        ("", json!({"objective": "  "})),
        ("/stop", Value::Null),
        ("/resume", Value::Null),
    ] {
        side.check("POST", &format!("{path}{rest}"), body).await;
    }
    side.check(
        "POST",
        &path,
        json!({"objective": "Build it", "max_iterations": 5}),
    )
    .await;
    // The model request waits for the gate, so the goal cannot be reached earlier.
    side.check("POST", &path, json!({"objective": "Another"}))
        .await;
    side.asked.open();
    side.logged_key(&id, "goal", 3).await;
    side.settled(&id).await;
    let log = side.log(&id).await;
    side.note(story(&log).join("\n"));
    for event in log.iter().filter(|event| event["key"] == "goal") {
        side.note(event["value"].to_string());
    }
    side.check("POST", &format!("{path}/resume"), Value::Null)
        .await;
}

/// Checks a condensed history with a summary by the model.
pub(crate) async fn condensed(side: &mut Side) {
    let mut llm = side.llm.clone();
    llm["usage_id"] = json!("condenser");
    let condenser =
        json!({"kind": "LLMSummarizingCondenser", "llm": llm, "max_size": 20, "keep_first": 2});
    let agent = json!({"kind": "Agent", "llm": side.llm, "tools": [], "condenser": condenser});
    let id = side.create(json!({"agent": agent})).await;
    for n in 0..12 {
        side.say(&id, &format!("message {n}"), false).await;
    }
    let before = side.log(&id).await.len();
    let path = format!("/api/conversations/{id}/condense");
    side.check("POST", &path, Value::Null).await;
    side.settled(&id).await;
    let log = side.log(&id).await;
    side.note(story(&log[before..]).join("\n"));
    let condensation = log
        .iter()
        .find(|event| event["kind"] == "Condensation")
        .unwrap();
    side.note(condensation["summary"].to_string());
    side.note(condensation["summary_offset"].to_string());
}
