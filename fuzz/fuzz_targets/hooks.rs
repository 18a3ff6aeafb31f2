//! Parses arbitrary bytes as a hooks.json: no panic, and an accepted configuration survives a round
//! trip.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oh_hooks::{HookEventType, hooks_for, lint, parse};

fuzz_target!(|text: &str| {
    let config = match parse(text) {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    for found in lint(&config) {
        let _ = (found.to_string(), format!("{found:?}"));
    }
    for tool in [None, Some("terminal"), Some("a+b"), Some("")] {
        let _ = hooks_for(&config, HookEventType::PreToolUse, tool).map(|hooks| hooks.len());
    }
    if config.check().is_ok() {
        let written = serde_json::to_string(&config).expect("what is valid can be written");
        let again = parse(&written).expect("what was written can be read");
        assert_eq!(
            serde_json::to_string(&again).expect("the same"),
            written,
            "{text}"
        );
    }
});
