//! Valid and invalid configurations.

use openhands::{
    HookConfig,
    hooks::{HookKind, check, parse},
};
use serde_json::{Value, json};

use super::python;

const PROGRAM: &str = include_str!("rules.py");

fn table() -> Vec<String> {
    let of = |hook: &str| format!(r#"{{"stop": [{{"hooks": [{hook}]}}]}}"#);
    let mut table: Vec<_> = [
        "{}",
        "[]",
        "null",
        r#"{"hooks": {"Stop": []}}"#,
        r#"{"hooks": {"hooks": {"Stop": []}}}"#,
        r#"{"hooks": null}"#,
        r#"{"Stop": [], "stop": []}"#,
        r#"{"Stpo": []}"#,
        r#"{"stop": {}}"#,
        r#"{"stop": null}"#,
        r#"{"preToolUse": []}"#,
        r#"{"STOP": []}"#,
    ]
    .map(str::to_owned)
    .to_vec();
    table.extend(
        [
            r#"{"command": "x"}"#,
            r#"{"command": "x", "async": true}"#,
            r#"{"command": "x", "timeout": 0}"#,
            r#"{"command": "x", "timeout": -1}"#,
            r#"{"command": "x", "timeout": "soon"}"#,
            r#"{"command": " "}"#,
            r#"{"command": ""}"#,
            "{}",
            r#"{"type": "wasm", "command": "x"}"#,
            r#"{"type": "prompt", "prompt": "p"}"#,
            r#"{"type": "prompt", "prompt": " "}"#,
            r#"{"type": "prompt"}"#,
            r#"{"type": "prompt", "prompt": "p", "command": "x"}"#,
            r#"{"type": "prompt", "prompt": "p", "async": true}"#,
            r#"{"type": "agent"}"#,
            r#"{"type": "agent", "system_prompt": "p", "tools": ["terminal"]}"#,
            r#"{"type": "agent", "system_prompt": "p", "command": "x"}"#,
            r#"{"type": "agent", "system_prompt": "p", "async": true}"#,
        ]
        .map(of),
    );
    table
}

#[tokio::test]
async fn rules_agree_with_the_server() {
    let asked = json!({"table": table(), "seed": 4, "count": 3_000});
    let answer = python(PROGRAM, &asked).await;
    let theirs: Vec<(String, bool)> = serde_json::from_value(answer["table"].clone()).unwrap();
    let mut pairs = Vec::new();
    for (text, taken) in &theirs {
        let ours = parse(text);
        assert_eq!(ours.is_ok(), *taken, "{text}: {ours:?}");
        match ours {
            Ok(config) => pairs.push((text, serde_json::to_string(&config).unwrap())),
            Err(error) => assert!(error.to_string().contains(": "), "{text}: {error}"),
        }
        // Equivalent to a built or received configuration: decoded leniently, then checked by the
        // rules.
        if let Ok(config) = serde_json::from_str::<HookConfig>(text)
            && !config
                .iter()
                .any(|(_, _, hook)| matches!(hook.kind(), HookKind::Other(_)))
            && strict(text)
        {
            assert_eq!(check(&config).is_ok(), *taken, "{text}");
        }
    }
    let refused = theirs.len() - pairs.len();
    assert!(
        pairs.len() > 800 && refused > 800,
        "{} and {refused}",
        pairs.len()
    );

    // An accepted configuration has the same meaning on both sides, and so does the written one.
    let same = python(PROGRAM, &json!({ "pairs": pairs })).await;
    for (pair, same) in pairs.iter().zip(same.as_array().unwrap()) {
        assert_eq!(*same, true, "{pair:?}");
    }

    // Fields that the server drops silently are loaded here and reported by name.
    let dropped = answer["dropped"].as_array().unwrap();
    assert!(dropped.len() > 100);
    for text in dropped.iter().filter_map(Value::as_str) {
        let config = parse(text).unwrap();
        let named = |place: &String| place.contains("hoks");
        assert!(config.ignored().iter().any(named), "{text}: {config:?}");
    }
}

/// Returns whether all keys are known. Unknown keys are preserved, as those of a newer server.
fn strict(text: &str) -> bool {
    let value: Value = serde_json::from_str(text).unwrap();
    let keys = value
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.keys());
    keys.into_iter().all(|key| {
        openhands::hooks::HookEventType::ALL
            .iter()
            .any(|event| key == event.field() || key == event.as_str())
    })
}
