//! A step of the fake agent: executes waiting actions, or else queries the model and executes its
//! calls. The module `agent` decides when a step runs and what follows it.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use oh_protocol::event::SecurityRisk;
use serde_json::{Value, json};

use crate::fake::{
    agent::{
        entries::{About, count, fail, hooks, interrupted, invalid, reject, remember, say, stream},
        request,
    },
    state::{
        builtin, client_tools,
        conversation::{Conversation, Turn},
        executed::Permission,
        message::content,
        pending::Pending,
        policy::{self, ProposedAction},
        tools::Observation,
        world::World,
    },
};
use crate::model::{Step, ToolCall};

/// Executes one step. Returns the turn if the run continues afterwards. `cause` is what started the
/// run.
pub(crate) async fn step<'a>(
    world: &World,
    conversation: &'a Conversation,
    turn: Turn<'a>,
    cause: Permission,
) -> Option<Turn<'a>> {
    // A run executes all waiting actions, regardless of why it was started.
    let pending = conversation.pending();
    if !pending.is_empty() {
        let done = execute(world, conversation, pending, cause).await;
        return done.then_some(turn);
    }
    if unblock(conversation) {
        conversation.set_status("finished");
        return Some(turn);
    }
    // Lets others change the state while the model is queried.
    drop(turn);
    let step = ask(world, conversation).await?;
    let turn = conversation.turn().await;
    if conversation.lock().deleted {
        return None;
    }
    if let Some(failure) = &step.fail {
        let code = match failure.status {
            401 | 403 => "LLMAuthenticationError",
            429 => "LLMRateLimitError",
            500.. => "LLMServiceUnavailableError",
            _ => "LLMBadRequestError",
        };
        fail(conversation, code, &failure.message);
        return None;
    }
    count(conversation, &step);
    if step.calls.is_empty() {
        let item = stream(conversation, &step);
        say(conversation, &step, item);
        conversation.set_status("finished");
        return Some(turn);
    }
    let actions = propose(world, conversation, &step);
    if waits(world, conversation, &actions) {
        conversation.set_status("waiting_for_confirmation");
        return Some(turn);
    }
    let done = actions.is_empty() || execute(world, conversation, actions, cause).await;
    done.then_some(turn)
}

/// Executes the actions without an answer, as any step does first. Returns `false` if there are
/// none.
pub(crate) async fn execute_waiting(
    world: &World,
    conversation: &Conversation,
    cause: Permission,
) -> bool {
    let _turn = conversation.turn().await;
    let pending = conversation.pending();
    let waits = !pending.is_empty();
    if waits {
        execute(world, conversation, pending, cause).await;
    }
    waits
}

/// Returns the model's answer, or `None` if the run was interrupted.
async fn ask(world: &World, conversation: &Conversation) -> Option<Step> {
    let step = world.play(&request::request(world, conversation));
    if step.is_prompt() {
        // Lets listeners run between prompt steps.
        tokio::task::yield_now().await;
        world.thawed().await;
        return Some(step);
    }
    let stirred = conversation.until(|inner| inner.interrupted || inner.deleted);
    let answered = async {
        step.wait().await;
        world.thawed().await;
    };
    let answered = tokio::select! {
        () = answered => true,
        () = stirred => false,
    };
    answered.then_some(step)
}

/// Returns whether a hook blocked the newest message, and removes the block.
fn unblock(conversation: &Conversation) -> bool {
    let (mut blocked, newest) = {
        let inner = conversation.lock();
        let newest = inner.info["last_user_message_id"].as_str();
        (
            inner.info["blocked_messages"].clone(),
            newest.map(str::to_owned),
        )
    };
    let (Value::Object(messages), Some(newest)) = (&mut blocked, newest) else {
        return false;
    };
    if messages.remove(&newest).is_none() {
        return false;
    }
    conversation.set("blocked_messages", blocked);
    true
}

/// Logs the model's calls and returns the valid ones.
fn propose(world: &World, conversation: &Conversation, step: &Step) -> Vec<Pending> {
    let response_id = format!("chatcmpl-{}", conversation.clock.uuid().simple());
    let mut proposed = Vec::new();
    for (index, call) in step.calls.iter().enumerate() {
        let call_id = format!("call_{}", conversation.clock.uuid().simple());
        let thought = step.text.as_ref().filter(|_| index == 0);
        let thought: Vec<_> = thought.map(|text| content(text)).into_iter().collect();
        let mut fields = json!({
            "thought": thought,
            "thinking_blocks": [],
            "tool_name": call.name,
            "tool_call_id": call_id,
            "tool_call": {
                "id": call_id,
                "name": call.name,
                "arguments": call.arguments,
                "origin": "completion",
            },
            "llm_response_id": response_id,
            "security_risk": "UNKNOWN",
        });
        if let Some(reasoning) = step.reasoning.as_ref().filter(|_| index == 0) {
            fields["reasoning_content"] = json!(reasoning);
        }
        let (arguments, risk) = match arguments(world, conversation, call) {
            Ok(read) => read,
            Err(problem) => {
                conversation.append("agent", "ActionEvent", fields);
                invalid(conversation, &call.name, &call_id, problem);
                continue;
            }
        };
        let action_id = conversation.clock.id();
        let about = About::Tool(&action_id, &call.name);
        let verdicts = hooks(world, conversation, "PreToolUse", about);
        if let Some(denial) = verdicts.iter().find(|verdict| verdict.is_denied()) {
            let mut blocked = conversation.lock().info["blocked_actions"].clone();
            blocked[&action_id] = json!(denial.blocking_reason());
            conversation.set("blocked_actions", blocked);
        }
        fields["id"] = json!(action_id);
        fields["security_risk"] = json!(risk);
        fields["action"] = match client_tools::find(conversation, &call.name) {
            Some(_) => client_tools::action(&call.name, &arguments),
            None => {
                let mut action = arguments.clone();
                action["kind"] = json!(format!("{}Action", builtin::camel(&call.name)));
                builtin::complete(&call.name, &mut action);
                action
            }
        };
        fields["summary"] = json!(format!("{}: {arguments}", call.name));
        conversation.append("agent", "ActionEvent", fields);
        remember(
            conversation,
            json!({"role": "assistant", "content": format!("{} {}", call.name, call.arguments)}),
        );
        proposed.push(Pending {
            action_id,
            tool: call.name.clone(),
            call_id,
            arguments,
            risk,
        });
    }
    proposed
}

/// Returns the arguments of a call and the claimed risk, or why the call is invalid.
fn arguments(
    world: &World,
    conversation: &Conversation,
    call: &ToolCall,
) -> Result<(Value, SecurityRisk), &'static str> {
    let mut arguments =
        serde_json::from_str::<Value>(&call.arguments).map_err(|_| "the arguments are not JSON")?;
    let client_tool = client_tools::find(conversation, &call.name);
    if client_tool.is_none() && !world.has_tool(&call.name) {
        return Err("there is no such tool");
    }
    let claim = match &mut arguments {
        Value::Object(fields) => fields.remove("security_risk").unwrap_or_default(),
        _ => Value::Null,
    };
    let analyzer = conversation.lock().info["security_analyzer"].clone();
    let risk = policy::claimed(&analyzer, &call.name, &claim)?;
    if let Some(tool) = client_tool {
        // The server keeps the summary, unless it is an argument of the tool itself.
        if let Value::Object(fields) = &mut arguments
            && tool["parameters"]["properties"].get("summary").is_none()
        {
            fields.remove("summary");
        }
        client_tools::check(&tool, &arguments)?;
    }
    Ok((arguments, risk))
}

/// Returns whether actions wait for an approval, and logs the result of a security analyzer.
fn waits(world: &World, conversation: &Conversation, actions: &[Pending]) -> bool {
    let harmless = |action: &Pending| matches!(action.tool.as_str(), "finish" | "think");
    // These tools need no approval only if they are called alone.
    if actions.is_empty() || matches!(actions, [action] if harmless(action)) {
        return false;
    }
    let (policy, analyzer) = {
        let inner = conversation.lock();
        (
            inner.info["confirmation_policy"].clone(),
            inner.info["security_analyzer"].clone(),
        )
    };
    let mut risks = vec![SecurityRisk::Unknown; actions.len()];
    if let Some(kind) = analyzer["kind"].as_str() {
        let mut details = json!({});
        for (action, risk) in actions.iter().zip(&mut risks) {
            *risk = match kind {
                "LLMSecurityAnalyzer" => action.risk.clone(),
                _ => {
                    let verdict = world.analyze(&ProposedAction {
                        analyzer: kind.to_owned(),
                        tool: action.tool.clone(),
                        arguments: action.arguments.clone(),
                        claimed: action.risk.clone(),
                    });
                    verdict.unwrap_or_else(|error| {
                        details[&action.action_id] = json!({ "error": error });
                        SecurityRisk::High
                    })
                }
            };
        }
        let ids = actions.iter().map(|action| &action.action_id);
        let risks: BTreeMap<_, _> = ids.zip(&risks).collect();
        let fields = json!({
            "analyzer": kind,
            "policy": policy["kind"],
            "risks": risks,
            "details": details,
        });
        conversation.append("environment", "SecurityAnalysisEvent", fields);
    }
    let asked = risks.iter().any(|risk| policy::asks(&policy, risk));
    if asked {
        let ids = actions.iter().map(|action| action.action_id.clone());
        conversation.lock().asked.extend(ids);
    }
    asked
}

/// Runs the tools, then logs their results. Returns `false` if the run was interrupted.
async fn execute(
    world: &World,
    conversation: &Conversation,
    mut actions: Vec<Pending>,
    cause: Permission,
) -> bool {
    let finish = actions.iter().position(|action| action.tool == "finish");
    if let Some(finish) = finish {
        // Calls after `finish` are not executed and keep waiting.
        actions.truncate(finish + 1);
    }
    let _working = conversation.work();
    let blocked: Vec<_> = actions
        .iter()
        .map(|action| pop_blocked(conversation, &action.action_id))
        .collect();
    let mut observations = Vec::new();
    for (action, blocked) in actions.iter().zip(&blocked) {
        if blocked.is_some() {
            observations.push(Observation::text(""));
            continue;
        }
        world.record(conversation, action, cause);
        let observation = match client_tools::find(conversation, &action.tool) {
            Some(_) => Observation::text(client_tools::DISPATCHED),
            None => world.observe(conversation, action),
        };
        let stopped = conversation.until(|inner| inner.interrupted || inner.deleted);
        tokio::select! {
            biased;
            () = stopped => {
                orphans(world, conversation);
                return false;
            }
            () = observation.work() => {}
        }
        world.thawed().await;
        observations.push(observation);
    }
    let finished = finish.is_some() && matches!(blocked.last(), Some(None));
    for ((action, reason), observation) in actions.iter().zip(blocked).zip(observations) {
        match reason {
            Some(reason) => {
                let (id, tool) = (&action.action_id, &action.tool);
                reject(conversation, id, tool, &action.call_id, &reason, "hook");
            }
            None => observed(world, conversation, action, observation),
        }
    }
    if finished {
        conversation.set_status("finished");
    }
    true
}

/// Returns why a hook blocked an action, and removes the block.
fn pop_blocked(conversation: &Conversation, action: &str) -> Option<String> {
    let mut blocked = conversation.lock().info["blocked_actions"].clone();
    let reason = blocked.as_object_mut()?.remove(action)?;
    conversation.set("blocked_actions", blocked);
    Some(reason.as_str().unwrap_or_default().to_owned())
}

/// Logs the observation of a tool.
fn observed(
    world: &World,
    conversation: &Conversation,
    action: &Pending,
    observation: Observation,
) {
    let about = About::Tool(&action.action_id, &action.tool);
    hooks(world, conversation, "PostToolUse", about);
    let Observation {
        text,
        is_error,
        fields,
        ..
    } = observation;
    let kind = match client_tools::find(conversation, &action.tool) {
        Some(_) => client_tools::OBSERVATION.to_owned(),
        None => builtin::observation_kind(&action.tool),
    };
    let mut body = json!({"content": [content(&text)], "is_error": is_error, "kind": kind});
    if let Value::Object(body) = &mut body {
        body.extend(fields);
    }
    let fields = json!({
        "tool_name": action.tool,
        "tool_call_id": action.call_id,
        "observation": body,
        "action_id": action.action_id,
        "extended_content": [],
    });
    conversation.append("environment", "ObservationEvent", fields);
    remember(conversation, json!({"role": "tool", "content": text}));
}

/// Logs that each action without a result was interrupted.
fn orphans(world: &World, conversation: &Conversation) {
    // A killed server cannot log this; it does so after its restart.
    if world.down.load(Ordering::SeqCst) || conversation.lock().deleted {
        return;
    }
    for call in conversation.pending() {
        let why = "The tool was interrupted before it was done.";
        interrupted(conversation, &call.tool, &call.call_id, why);
    }
}
