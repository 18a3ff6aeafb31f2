//! Compares the presets with those of Python.

use openhands::protocol::config::{Agent, Llm};
use serde_json::{Value, json};

use super::{differences, python};

const PROGRAM: &str = "
import json, sys
from openhands.sdk import Agent, LLM
from openhands.tools.preset.default import get_default_agent
from openhands.tools.preset.gpt5 import get_gpt5_agent
from openhands.tools.preset.gemini import get_gemini_agent
def dump(agent):
    return agent.model_dump(mode='json', context={'expose_secrets': 'plaintext'})
presets = {'default': get_default_agent, 'gpt5': get_gpt5_agent, 'gemini': get_gemini_agent}
out = []
for name, llm, options, ours in json.load(sys.stdin):
    agent = presets[name](LLM(**llm), **options)
    out.append([dump(agent), dump(Agent.model_validate(ours))])
print(json.dumps(out))
";

fn agent(preset: &str, llm: Llm, options: &Value) -> Agent {
    let agent = match preset {
        "default" => Agent::default_preset(llm),
        "gpt5" => Agent::gpt5_preset(llm),
        _ => Agent::gemini_preset(llm),
    };
    let agent = match options.get("cli_mode") {
        Some(cli_mode) => agent.cli_mode(cli_mode.as_bool().unwrap()),
        None => agent,
    };
    match options.get("finish_tool_response_schema") {
        Some(schema) => agent.finish_schema(schema.as_object().unwrap().clone()),
        None => agent,
    }
}

#[tokio::test]
async fn a_preset_equals_the_servers_own_preset() {
    let plain = Llm::new("openai/gpt-5").api_key("key");
    let rich = Llm::new("anthropic/claude-sonnet-4-5-20250929")
        .api_key("key")
        .base_url("http://127.0.0.1:1/v1")
        .usage_id("agent")
        .temperature(0.5)
        .timeout(None)
        .stream(true);
    let schema = json!({"type": "object", "properties": {"answer": {"type": "integer"}}});
    let mut table = Vec::new();
    for preset in ["default", "gpt5", "gemini"] {
        for options in [
            json!({}),
            json!({"cli_mode": true}),
            json!({"cli_mode": false}),
        ] {
            table.push((preset, plain.clone(), options.clone()));
            table.push((preset, rich.clone(), options));
        }
    }
    let options = json!({"cli_mode": true, "finish_tool_response_schema": schema});
    table.push(("default", plain, options));
    let ours: Vec<Value> = table
        .iter()
        .map(|(preset, llm, options)| json!(agent(preset, llm.clone(), options)))
        .collect();
    let input: Vec<Value> = table
        .iter()
        .zip(&ours)
        .map(|((preset, llm, options), ours)| json!([preset, llm, options, ours]))
        .collect();
    let answers = python(PROGRAM, &json!(input)).await;
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), table.len());
    for (((preset, _, options), ours), answer) in table.iter().zip(&ours).zip(answers) {
        let (theirs, read) = (&answer[0], &answer[1]);
        // The server decodes our preset as exactly the agent that Python creates …
        assert_eq!(read, theirs, "{preset} {options}");
        // … and our JSON is a subset of the JSON that Python sends.
        let mut found = Vec::new();
        differences("agent", ours, theirs, &mut found);
        // The server on each side disables options that a condenser does not use, where possible.
        found.retain(|difference| !difference.starts_with("agent.condenser.llm.stream:"));
        assert!(found.is_empty(), "{preset} {options}: {found:#?}");
    }
}
