//! An agent: a model, its tools, its prompt.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Llm;

/// A tool by its registered name, with its parameters.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[must_use]
pub struct ToolSpec {
    name: String,
    params: Map<String, Value>,
}

impl ToolSpec {
    /// A tool with its default parameters.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            params: Map::new(),
        }
    }

    /// Sets a parameter.
    pub fn param(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.params.insert(name.into(), value.into());
        self
    }
}

/// An agent the server runs (`Agent` on the server).
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct Agent {
    kind: &'static str,
    llm: Llm,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolSpec>,
    #[serde(flatten)]
    fields: Map<String, Value>,
    #[serde(skip)]
    preset: Option<Preset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    condenser: Option<Condenser>,
}

#[derive(Debug, Clone, Copy)]
struct Preset;

#[derive(Debug, Clone, Serialize)]
struct Condenser {
    kind: &'static str,
    llm: Llm,
    max_size: u32,
    keep_first: u32,
}

impl Agent {
    /// An agent with nothing but the built-in `finish` and `think` tools.
    pub fn new(llm: Llm) -> Self {
        Self {
            kind: "Agent",
            llm,
            tools: Vec::new(),
            fields: Map::new(),
            preset: None,
            condenser: None,
        }
    }

    /// The server's own default agent: terminal, file editor, task tracker, browser, and a
    /// condenser that summarizes long histories with the same model.
    pub fn default_preset(llm: Llm) -> Self {
        let condenser = Condenser {
            kind: "LLMSummarizingCondenser",
            llm: llm.clone().usage_id("condenser"),
            max_size: 80,
            keep_first: 4,
        };
        let mut agent = Self::new(llm).cli_mode(false);
        agent.preset = Some(Preset);
        agent.condenser = Some(condenser);
        agent.cli_mode(false)
    }

    /// Whether the agent works for a terminal: no browser tools then.
    pub fn cli_mode(mut self, cli_mode: bool) -> Self {
        let kwargs = json!({ "cli_mode": cli_mode, "llm_security_analyzer": true });
        self.fields.insert("system_prompt_kwargs".into(), kwargs);
        if self.preset.is_some() {
            self.tools = ["terminal", "file_editor", "task_tracker"]
                .into_iter()
                .map(ToolSpec::new)
                .collect();
            if !cli_mode {
                self.tools.push(ToolSpec::new("browser_tool_set"));
            }
        }
        self
    }

    /// Adds a tool.
    pub fn tool(mut self, tool: ToolSpec) -> Self {
        self.tools.push(tool);
        self
    }

    /// Any other field of the server's agent, by its own name.
    pub fn set(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.insert(field.into(), value.into());
        self
    }

    /// Its model.
    pub fn llm(&self) -> &Llm {
        &self.llm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preset_in_cli_mode_has_no_browser() {
        let wire =
            serde_json::to_value(Agent::default_preset(Llm::new("m")).cli_mode(true)).unwrap();
        let names: Vec<_> = wire["tools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| &t["name"])
            .collect();
        assert_eq!(names, ["terminal", "file_editor", "task_tracker"]);
        assert_eq!(wire["system_prompt_kwargs"]["cli_mode"], true);
        assert_eq!(wire["condenser"]["llm"]["usage_id"], "condenser");
        assert_eq!(wire["kind"], "Agent");
    }

    #[test]
    fn the_preset_without_cli_mode_has_one() {
        let wire = serde_json::to_value(Agent::default_preset(Llm::new("m"))).unwrap();
        assert_eq!(wire["tools"][3]["name"], "browser_tool_set");
    }
}
