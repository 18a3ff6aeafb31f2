//! Parses arbitrary bytes as a file of MCP servers: no panic, no value in an error, and an accepted
//! file can be sent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oh_protocol::config::{Agent, Llm, McpFile};

fuzz_target!(|text: &str| {
    match McpFile::parse(text) {
        Ok(file) => {
            let _ = (format!("{file:?}"), file.servers().count());
            let agent = Agent::new(Llm::new("m")).mcp_servers(file);
            match agent.check() {
                Ok(()) => assert!(serde_json::to_value(&agent).is_ok()),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
