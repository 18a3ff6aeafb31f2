//! Configurations that the server rejects, sent without this library's own check.

use openhands::{
    HookConfig, LocalServer,
    hooks::{check, parse},
    protocol::{Answer, Call, Operation, Repeat, Request},
};
use serde_json::{Value, json};

/// A start request with these hooks, sent unchanged.
struct Start(Value);

impl Call for Start {
    type Output = Value;

    fn operation(&self) -> Operation {
        Operation::new(http::Method::POST, "/api/conversations", Repeat::Never)
    }

    fn request(&self) -> openhands::protocol::Result<Request> {
        Request::new(http::Method::POST, "/api/conversations").json(&self.0)
    }

    fn decode(&self, answer: Answer) -> openhands::protocol::Result<Value> {
        answer.json("a conversation")
    }
}

pub(crate) async fn what_is_refused_here_is_refused_there(server: &LocalServer) {
    let directory = server.workspace_dir().join("raw").display().to_string();
    for (hook, taken) in [
        (
            json!({"type": "prompt", "prompt": "p", "command": "x"}),
            false,
        ),
        (json!({"type": "prompt"}), false),
        (
            json!({"type": "prompt", "prompt": "p", "async": true}),
            false,
        ),
        (
            json!({"type": "agent", "system_prompt": "p", "command": "x"}),
            false,
        ),
        (json!({"type": "agent", "async": true}), false),
        (json!({"command": ""}), false),
        (json!({"command": "x", "timeout": 0}), true),
        (json!({"type": "agent"}), true),
    ] {
        let hooks = json!({"stop": [{"hooks": [hook]}]});
        let start = Start(json!({
            "workspace": {"working_dir": directory},
            "agent": {"kind": "Agent", "llm": {"model": "openai/x", "api_key": "k"}},
            "hook_config": hooks,
        }));
        let answer = server.client().call(&start).await;
        match &answer {
            Ok(_) => assert!(taken, "{hooks}"),
            Err(error) => {
                let status = error.status().map(|status| status.as_u16());
                assert_eq!((status, taken), (Some(422), false), "{hooks}: {error}");
            }
        }
        let built: HookConfig = serde_json::from_value(hooks.clone()).unwrap();
        assert_eq!(check(&built).is_ok(), taken, "{hooks}");
        assert_eq!(parse(&hooks.to_string()).is_ok(), taken, "{hooks}");
    }
}
