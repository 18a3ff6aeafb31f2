//! Compares the browser tools of the fake server with those of the real one's own Python, because
//! they cannot be played on a machine without a browser.

use std::{collections::BTreeMap, process::Command};

use openhands::{
    process::Provisioner,
    testkit::{FakeServer, Gate, Script, ScriptedModel, Step},
    transport::Client,
};
use serde_json::{Value, json};

use super::side::Side;

/// Prints the tools of the set: name, whether the tool is read-only, action and observation.
const DESCRIBE: &str = r#"
import json
from openhands.tools.browser_use import definition as d
given = {"url": "u", "index": 1, "text": "t", "tab_id": "abcd", "storage_state": {}}
tools = []
class State: env_observation_persistence_dir = None
d.BrowserToolSet._get_or_create_shared_executor = classmethod(lambda *a, **k: None)
for tool in d.BrowserToolSet.create(State()):
    fields = tool.action_type.model_fields
    asked = {k: v for k, v in given.items() if k in fields and fields[k].is_required()}
    tools.append({
        "name": tool.name,
        "only_reads": tool.annotations.readOnlyHint,
        "asked": asked,
        "action": tool.action_type(**asked).model_dump(mode="json"),
        "observation": tool.observation_type.__name__,
    })
print(json.dumps(tools))
"#;

#[tokio::test]
async fn the_browser_tools_of_the_fake_server_equal_the_real_ones() {
    let environment = Provisioner::new().provision().await.unwrap();
    let described = Command::new(environment.python())
        .args(["-c", DESCRIBE])
        .env("OPENHANDS_SUPPRESS_BANNER", "1")
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .output()
        .unwrap();
    let failure = String::from_utf8_lossy(&described.stderr);
    assert!(described.status.success(), "{failure}");
    let described = String::from_utf8(described.stdout).unwrap();
    let described: Vec<Value> = serde_json::from_str(described.lines().last().unwrap()).unwrap();

    // Each tool is called once, and the model declares each call to be risky.
    let calls = described.iter().fold(Step::default(), |step, tool| {
        let mut arguments = tool["asked"].clone();
        arguments["security_risk"] = json!("HIGH");
        step.and_call(tool["name"].as_str().unwrap(), arguments)
    });
    let fake = FakeServer::builder()
        .script(Script::new().step(calls).finish("Done."))
        .start()
        .await
        .unwrap();
    let mut side = Side {
        client: Client::builder(fake.url())
            .session_api_key(fake.session_api_key())
            .build()
            .unwrap(),
        url: fake.url(),
        key: fake.session_api_key().to_owned(),
        work: "/project".to_owned(),
        llm: json!({"model": ScriptedModel::MODEL}),
        asked: Gate::new(),
        seen: String::new(),
    };
    let agent = json!({"llm": side.llm, "tools": [{"name": "browser_tool_set"}]});
    let analyzer = json!({"kind": "LLMSecurityAnalyzer"});
    let id = side
        .create(json!({"agent": agent, "security_analyzer": analyzer}))
        .await;
    side.say(&id, "browse", true).await;
    side.until(&id, "finished").await;
    fake.verify().unwrap();

    let log = side.log(&id).await;
    let of = |kind: &str| {
        let events = log.iter().filter(|event| event["kind"] == *kind);
        let events = events.map(|event| (event["tool_name"].as_str().unwrap(), event));
        events.collect::<BTreeMap<_, _>>()
    };
    let (actions, observations) = (of("ActionEvent"), of("ObservationEvent"));
    for tool in &described {
        let name = tool["name"].as_str().unwrap();
        let (action, observation) = (actions[name], observations[name]);
        assert_eq!(action["action"], tool["action"], "{name}");
        assert_eq!(
            observation["observation"]["kind"], tool["observation"],
            "{name}"
        );
        let risk = match tool["only_reads"] == true {
            true => "UNKNOWN",
            false => "HIGH",
        };
        assert_eq!(action["security_risk"], risk, "{name}");
    }
    let prompt = log
        .iter()
        .find(|event| event["kind"] == "SystemPromptEvent");
    let prompted = prompt.unwrap()["tools"].as_array().unwrap();
    let prompted: Vec<_> = prompted.iter().map(|tool| &tool["title"]).collect();
    let mut wanted: Vec<_> = described.iter().map(|tool| &tool["name"]).collect();
    let (finish, think) = (json!("finish"), json!("think"));
    wanted.extend([&finish, &think]);
    assert_eq!(prompted, wanted);
    let (_, info) = side.ask("GET", "/server_info", Value::Null).await;
    let usable = info["usable_tools"].as_array().unwrap();
    assert!(usable.contains(&json!("browser_tool_set")), "{usable:?}");
}
