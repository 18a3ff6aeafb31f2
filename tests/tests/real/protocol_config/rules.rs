//! Rules: this library rejects exactly what the server rejects, up to the same bounds.

use std::time::Duration;

use openhands::protocol::{config::*, event::SecurityRisk};
use serde_json::{Value, json};

use super::python;

const PROGRAM: &str = "
import json, os, sys
os.environ['ALLOW_SHORT_CONTEXT_WINDOWS'] = 'true'
import openhands.tools
from openhands.sdk.conversation.request import StartConversationRequest
out = []
for wire in json.load(sys.stdin):
    try:
        StartConversationRequest.model_validate(wire)
        out.append(None)
    except ValueError as error:
        out.append(str(error))
print(json.dumps(out))
";

/// A request from the builders, and the same JSON for the server, rejected or not.
struct Row(StartConversation, Value);

fn llm() -> Llm {
    Llm::new("m")
}

fn agent(agent: Agent, patch: Value) -> Row {
    let mut wire = json!({"kind": "Agent", "llm": {"model": "m"}});
    wire.as_object_mut()
        .unwrap()
        .extend(patch.as_object().unwrap().clone());
    let wire = json!({"agent": wire, "workspace": {"working_dir": "/w"}});
    Row(StartConversation::new(agent, "/w"), wire)
}

fn start(change: impl FnOnce(StartConversation) -> StartConversation, patch: Value) -> Row {
    let start = change(StartConversation::new(Agent::new(llm()), "/w"));
    let mut wire = json!({
        "agent": {"kind": "Agent", "llm": {"model": "m"}},
        "workspace": {"working_dir": "/w"},
    });
    wire.as_object_mut()
        .unwrap()
        .extend(patch.as_object().unwrap().clone());
    Row(start, wire)
}

fn model(llm: Llm, patch: Value) -> Row {
    let mut wire = json!({"model": "m"});
    wire.as_object_mut()
        .unwrap()
        .extend(patch.as_object().unwrap().clone());
    agent(Agent::new(llm), json!({ "llm": wire }))
}

fn condenser(
    change: impl FnOnce(SummarizingCondenser) -> SummarizingCondenser,
    patch: Value,
) -> Row {
    let mut wire = json!({"kind": "LLMSummarizingCondenser", "llm": {"model": "m"}});
    wire.as_object_mut()
        .unwrap()
        .extend(patch.as_object().unwrap().clone());
    let ours = change(SummarizingCondenser::new(llm()));
    agent(
        Agent::new(llm()).condenser(ours),
        json!({ "condenser": wire }),
    )
}

fn critic(critic: impl Into<Critic>, wire: Value) -> Row {
    agent(Agent::new(llm()).critic(critic), json!({ "critic": wire }))
}

fn mcp(server: McpServer, wire: Value) -> Row {
    agent(
        Agent::new(llm()).mcp_server("s", server),
        json!({"mcp_config": {"s": wire}}),
    )
}

fn skills(names: [&str; 2]) -> Row {
    let mut context = AgentContext::new();
    for name in names {
        context = context.skill(Skill::new(name, "text"));
    }
    let wire: Vec<_> = names
        .iter()
        .map(|name| json!({"name": name, "content": "text"}))
        .collect();
    agent(
        Agent::new(llm()).agent_context(context),
        json!({"agent_context": {"skills": wire}}),
    )
}

fn rows() -> Vec<Row> {
    let mut rows = vec![skills(["a", "b"]), skills(["a", "a"])];
    for (key, value) in [
        ("a9", "v".to_owned()),
        ("A", "v".into()),
        ("a-b", "v".into()),
        ("", "v".into()),
        ("long", "é".repeat(256)),
        ("long", "é".repeat(257)),
    ] {
        rows.push(start(
            |s| s.tag(key, &*value),
            json!({"tags": {key: value}}),
        ));
    }
    for steps in [0, 1] {
        rows.push(start(
            |s| s.max_iterations(steps),
            json!({"max_iterations": steps}),
        ));
        rows.push(agent(
            Agent::new(llm()).tool_concurrency_limit(steps),
            json!({"tool_concurrency_limit": steps}),
        ));
        rows.push(model(
            llm().max_message_chars(steps),
            json!({"max_message_chars": steps}),
        ));
        rows.push(model(
            llm().max_input_tokens(steps),
            json!({"max_input_tokens": steps}),
        ));
        rows.push(model(
            llm().max_output_tokens(steps),
            json!({"max_output_tokens": steps}),
        ));
        rows.push(model(
            llm().timeout(Duration::from_secs(steps.into())),
            json!({"timeout": steps}),
        ));
        rows.push(condenser(
            |c| c.max_size(steps + 7),
            json!({"max_size": steps + 7}),
        ));
        rows.push(condenser(
            |c| c.keep_first(steps),
            json!({"keep_first": steps}),
        ));
        rows.push(condenser(
            |c| c.hard_context_reset_max_retries(steps),
            json!({"hard_context_reset_max_retries": steps}),
        ));
        rows.push(critic(
            Critic::pass().iterative_refinement(0.5, steps),
            json!({"kind": "PassCritic", "iterative_refinement":
                {"success_threshold": 0.5, "max_iterations": steps}}),
        ));
        rows.push(start(
            |s| s.security_analyzer(ToolShieldAnalyzer::new(llm()).history_window(steps)),
            json!({"security_analyzer": {"kind": "ToolShieldLLMSecurityAnalyzer",
                "llm": {"model": "m"}, "history_window": steps}}),
        ));
        rows.push(start(
            |s| s.sub_agent(SubAgent::new("a").max_iteration_per_run(steps)),
            json!({"agent_definitions": [{"name": "a", "max_iteration_per_run": steps}]}),
        ));
    }
    for share in [-0.1, 0.0, 1.0, 1.1] {
        rows.push(model(llm().top_p(share), json!({"top_p": share})));
        rows.push(model(llm().top_k(share), json!({"top_k": share})));
        rows.push(model(
            llm().temperature(share),
            json!({"temperature": share}),
        ));
        rows.push(model(
            llm().retry_multiplier(share),
            json!({"retry_multiplier": share}),
        ));
        rows.push(model(
            llm().input_cost_per_token(share),
            json!({"input_cost_per_token": share}),
        ));
        rows.push(model(
            llm().output_cost_per_token(share),
            json!({"output_cost_per_token": share}),
        ));
        rows.push(condenser(
            |c| c.minimum_progress(share),
            json!({"minimum_progress": share}),
        ));
        rows.push(condenser(
            |c| c.hard_context_reset_context_scaling(share),
            json!({"hard_context_reset_context_scaling": share}),
        ));
        rows.push(critic(
            ApiCritic::new("k").issue_threshold(share),
            json!({"kind": "APIBasedCritic", "api_key": "k", "issue_threshold": share}),
        ));
        rows.push(critic(
            Critic::pass().iterative_refinement(share, 1),
            json!({"kind": "PassCritic", "iterative_refinement":
                {"success_threshold": share, "max_iterations": 1}}),
        ));
        rows.push(start(
            |s| s.sub_agent(SubAgent::new("a").max_budget_per_run(share)),
            json!({"agent_definitions": [{"name": "a", "max_budget_per_run": share}]}),
        ));
    }
    for (max_size, keep_first) in [(8, 2), (7, 2), (10, 4), (12, 4), (3, 0), (4, 0)] {
        rows.push(condenser(
            |c| c.keep_first(keep_first).max_size(max_size),
            json!({"max_size": max_size, "keep_first": keep_first}),
        ));
    }
    for cpus in [0.009, 0.01] {
        let wire = json!({"container": {"cpus": cpus}});
        rows.push(start(|s| s.container(Container::new().cpus(cpus)), wire));
    }
    for memory in [
        "512m", "4g", "1.5 GiB", "100b", "2Ti", "7 k", "4i", "", "m", "4x", "1.", "4  g", "4gg",
    ] {
        let wire = json!({"container": {"memory": memory}});
        rows.push(start(
            |s| s.container(Container::new().memory(memory)),
            wire,
        ));
    }
    for name in ["main", "v1.0/a-b_c", "", "-f", ".a", "a b", "a;b", "é"] {
        let wire = json!({"worktree": true, "worktree_options": {"base": "ref", "ref": name}});
        rows.push(start(|s| s.worktree(Worktree::of_ref(name)), wire));
        let wire = json!({"worktree": true,
            "worktree_options": {"base": "head", "branch_prefix": name}});
        rows.push(start(
            |s| s.worktree(Worktree::of_head().branch_prefix(name)),
            wire,
        ));
    }
    for name in [
        "",
        "a.b:c/d-e_f",
        "a b",
        "é",
        &"x".repeat(128),
        &"x".repeat(129),
    ] {
        rows.push(start(
            |s| s.observability_span_name(name),
            json!({"observability_span_name": name}),
        ));
        rows.push(start(
            |s| s.observability_tag(name),
            json!({"observability_tags": [name]}),
        ));
    }
    for value in [
        json!(1),
        json!("a"),
        json!(true),
        json!(1.5),
        json!([]),
        json!(["a", "b"]),
        json!([1, 2]),
        json!([1.5, 2.0]),
        json!([1, 1.5]),
        json!(["a", 1]),
        json!([true, 1]),
        json!({}),
        json!([[1]]),
        Value::Null,
    ] {
        let wire = json!({"observability_metadata": {"n": value}});
        rows.push(start(|s| s.observability_metadata("n", value), wire));
    }
    for length in [2000, 2001] {
        let prompt = "é".repeat(length);
        rows.push(start(|s| s.prompt(&*prompt), json!({ "prompt": prompt })));
    }
    for length in [32_768, 32_769] {
        let text = "é".repeat(length);
        let wire = json!({"agent_launch_additions": {"system_message_suffix_append": text}});
        let additions = LaunchAdditions::new().system_message_suffix_append(text);
        rows.push(start(|s| s.agent_launch_additions(additions), wire));
    }
    let additions = LaunchAdditions::new().llm_profile_ref("p");
    rows.push(start(
        |s| s.agent_launch_additions(additions),
        json!({"agent_launch_additions": {"llm_profile_ref": "p"}}),
    ));
    for risk in [SecurityRisk::Unknown, SecurityRisk::Low, SecurityRisk::High] {
        let wire = json!({"confirmation_policy": {"kind": "ConfirmRisky", "threshold": risk}});
        rows.push(start(
            |s| s.confirmation_policy(ConfirmationPolicy::risky(risk)),
            wire,
        ));
    }
    rows.push(start(
        |s| s.security_analyzer(SecurityAnalyzer::ensemble(Vec::<SecurityAnalyzer>::new())),
        json!({"security_analyzer": {"kind": "EnsembleSecurityAnalyzer", "analyzers": []}}),
    ));
    for schema in [
        json!({"type": "object"}),
        json!({"type": "string"}),
        json!({}),
    ] {
        let wire =
            json!({"client_tools": [{"name": "t", "description": "d", "parameters": schema}]});
        let tool = ClientToolSpec::new("t", "d").parameters(schema);
        rows.push(start(|s| s.client_tool(tool), wire));
    }
    for path in ["a/b", "a/..b", "/a", "..", "a/../b"] {
        let wire = json!({"plugins": [{"source": "s", "repo_path": path}]});
        rows.push(start(|s| s.plugin(Plugin::new("s").repo_path(path)), wire));
    }
    for path in ["a/b", "a/..b", "/a", "..", "a/../b", "", "a\\b"] {
        let context = AgentContext::new().marketplace(Marketplace::new("n", "s").repo_path(path));
        rows.push(agent(
            Agent::new(llm()).agent_context(context),
            json!({"agent_context": {"registered_marketplaces":
                [{"name": "n", "source": "s", "repo_path": path}]}}),
        ));
    }
    rows.push(mcp(
        McpServer::stdio(""),
        json!({"transport": "stdio", "command": ""}),
    ));
    rows.push(mcp(
        McpServer::http(""),
        json!({"transport": "http", "url": ""}),
    ));
    for header in ["X-Key", "Authorization"] {
        rows.push(mcp(
            McpServer::http("http://h")
                .header(header, "v")
                .auth(McpAuth::bearer("t")),
            json!({"transport": "http", "url": "http://h", "headers": {header: "v"},
                "auth": {"strategy": "bearer", "value": "t"}}),
        ));
    }
    rows.push(agent(
        Agent::new(llm())
            .system_prompt("p")
            .system_prompt_filename("f.j2"),
        json!({"system_prompt": "p", "system_prompt_filename": "f.j2"}),
    ));
    rows.push(model(Llm::new(""), json!({"model": ""})));
    rows
}

#[tokio::test]
async fn the_client_and_the_server_reject_the_same_values() {
    let rows = rows();
    let wires: Vec<_> = rows.iter().map(|Row(_, wire)| wire).collect();
    let answers = python(PROGRAM, &json!(wires)).await;
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), rows.len());
    let mut found = Vec::new();
    let mut refused = 0;
    for (Row(ours, wire), theirs) in rows.iter().zip(answers) {
        let ours = ours.check().err().map(|error| error.to_string());
        refused += usize::from(ours.is_some());
        if ours.is_some() == theirs.is_null() {
            let wire: String = wire.to_string().chars().take(200).collect();
            found.push(format!("{wire}: {ours:?} here, {theirs} there"));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    assert!(
        refused > 50 && refused < rows.len() - 50,
        "{refused} of {}",
        rows.len()
    );
}
