//! Agents: a model with tools and a prompt.

use serde_json::{Map, Value};

use super::{
    AgentContext, Condenser, Critic, Llm, McpServer, SummarizingCondenser, ToolSpec,
    fields::{Field, Fields},
    model::model,
};

const BROWSER: &str = "browser_tool_set";

// Constructors come before the setters, also in the documentation.
impl Agent {
    /// Creates an agent that has only the built-in tools `finish` and `think`.
    pub fn new(llm: Llm) -> Self {
        Self {
            fields: Fields::of("Agent")
                .with("kind", Field::plain("Agent"))
                .with("llm", llm),
        }
    }

    /// Creates the server's default agent: terminal, file editor, task tracker, browser, and a
    /// condenser that summarizes long histories with the same model.
    pub fn default_preset(llm: Llm) -> Self {
        Self::preset(llm, &["terminal", "file_editor", "task_tracker"])
    }

    /// Creates the server's agent for GPT-5 models, which edits files with patches.
    pub fn gpt5_preset(llm: Llm) -> Self {
        Self::preset(llm, &["terminal", "apply_patch", "task_tracker"])
    }

    /// Creates the server's agent for Gemini models, with the file tools that these models were
    /// trained on.
    pub fn gemini_preset(llm: Llm) -> Self {
        let files = ["read_file", "write_file", "edit", "list_directory"];
        let tools = [&["terminal"], files.as_slice(), &["task_tracker"]].concat();
        Self::preset(llm, &tools)
    }

    fn preset(llm: Llm, tools: &[&str]) -> Self {
        let condenser = SummarizingCondenser::new(llm.clone().usage_id("condenser"))
            .max_size(80)
            .keep_first(4);
        let mut agent = Self::new(llm);
        for tool in tools {
            agent = agent.tool(*tool);
        }
        agent.tool(BROWSER).cli_mode(false).condenser(condenser)
    }
}

model! {
    /// An agent that runs inside the server (`Agent` on the server).
    ///
    /// ```
    /// use oh_protocol::config::{Agent, Llm, McpServer};
    ///
    /// let agent = Agent::default_preset(Llm::new("openai/gpt-5").api_key("sk-…"))
    ///     .cli_mode(true)
    ///     .tool("glob")
    ///     .mcp_server("fetch", McpServer::stdio("uvx").args(["mcp-server-fetch"]));
    /// agent.check()?;
    /// # Ok::<(), oh_protocol::Error>(())
    /// ```
    pub struct Agent;
    by_hand: [
        "kind", "llm", "system_prompt", "system_prompt_filename", "system_prompt_kwargs",
    ];

    /// Adds a tool. Names must be unique.
    named tools/tool: ToolSpec;
    /// Adds an MCP server (Model Context Protocol), whose tools the agent can use.
    entry mcp_config/mcp_server: McpServer;
    /// Sets a filter for the agent's tools, except the built-in ones: a (Python) regular expression
    /// that must match a tool's name. Server default: all tools.
    text filter_tools_regex;
    /// Sets the built-in tools, by class name. Server default: `FinishTool` and `ThinkTool`.
    list include_default_tools: String;
    /// Sets the context of the agent in addition to its prompt: skills, memory, suffixes.
    model agent_context: AgentContext;
    /// Sets the file on the server that contains the security policy for the prompt. An empty name
    /// means no policy. Server default: a built-in policy.
    text security_policy_filename;
    /// Sets how a long history is shortened. Server default: not shortened.
    model condenser: Condenser;
    /// Sets the critic that evaluates the agent's work as it runs. Server default: none.
    model critic: Critic;
    /// Sets how many tools may run at the same time. Server default: 1.
    value tool_concurrency_limit: u32 where tool_concurrency_limit > 0 => "must be at least 1";
    /// Sets the agent's identity. Replaces the server's persona and coding workflow, but not its
    /// policies.
    text persona;
}

impl Agent {
    /// Adds MCP servers by name, for example from an [`McpFile`](super::McpFile). Replaces servers
    /// with the same name.
    pub fn mcp_servers(mut self, servers: impl IntoIterator<Item = (String, McpServer)>) -> Self {
        for (name, server) in servers {
            self.fields.insert("mcp_config", name, server);
        }
        self
    }

    /// Sets whether the agent runs for a terminal. The prompt changes accordingly, and presets have
    /// no browser tools in this mode.
    pub fn cli_mode(self, cli_mode: bool) -> Self {
        let mut agent = self
            .system_prompt_arg("cli_mode", cli_mode)
            .system_prompt_arg("llm_security_analyzer", true);
        if let Some(tools) = agent.fields.list("tools")
            && cli_mode
        {
            tools.retain(|tool| tool.name() != Some(BROWSER));
        }
        agent
    }

    /// Sets the whole system prompt. Cannot be combined with `system_prompt_filename`.
    pub fn system_prompt(self, prompt: impl Into<String>) -> Self {
        self.prompt("system_prompt", prompt.into(), "system_prompt_filename")
    }

    /// Sets the template for the system prompt: the name of a template on the server, or an
    /// absolute path there. Server default: `system_prompt.j2`.
    pub fn system_prompt_filename(self, filename: impl Into<String>) -> Self {
        self.prompt("system_prompt_filename", filename.into(), "system_prompt")
    }

    fn prompt(mut self, name: &'static str, value: String, other: &str) -> Self {
        let value = match self.fields.get(other) {
            Some(_) => Field::refused(format!("cannot be combined with `{other}`")),
            None => value.into(),
        };
        self.fields.put(name, value);
        self
    }

    /// Sets an argument for the system prompt template, such as `cli_mode`.
    pub fn system_prompt_arg(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let value = Field::plain(value.into());
        self.fields.insert("system_prompt_kwargs", name, value);
        self
    }

    /// Requires the agent to finish with data that matches this JSON Schema instead of text.
    pub fn finish_schema(self, schema: Map<String, Value>) -> Self {
        self.tool(ToolSpec::new("FinishTool").param("response_schema", schema))
            .include_default_tools(["ThinkTool"])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn wire(agent: Agent) -> Value {
        serde_json::to_value(agent).unwrap()
    }

    fn names(agent: Agent) -> Vec<String> {
        let wire = wire(agent);
        let tools = wire["tools"].as_array().unwrap().iter();
        tools.map(|t| t["name"].as_str().unwrap().into()).collect()
    }

    #[test]
    fn the_preset_in_cli_mode_has_no_browser_and_keeps_added_tools() {
        let agent = Agent::default_preset(Llm::new("m"))
            .tool("glob")
            .cli_mode(true);
        assert_eq!(
            names(agent.clone()),
            ["terminal", "file_editor", "task_tracker", "glob"]
        );
        let wire = wire(agent);
        assert_eq!(wire["system_prompt_kwargs"]["cli_mode"], true);
        assert_eq!(wire["condenser"]["llm"]["usage_id"], "condenser");
        assert_eq!(wire["kind"], "Agent");
    }

    #[test]
    fn the_preset_without_cli_mode_has_a_browser() {
        let names = names(Agent::default_preset(Llm::new("m")));
        assert_eq!(names[3], "browser_tool_set");
    }

    #[test]
    fn a_duplicate_tool_is_rejected_by_name() {
        let agent = Agent::default_preset(Llm::new("m")).tool("terminal");
        let error = agent.check().unwrap_err().to_string();
        assert_eq!(error, "tools[4]: the name `terminal` is already in use");
    }

    #[test]
    fn keys_of_nested_models_are_hidden_and_their_faults_are_found() {
        let agent = Agent::default_preset(Llm::with_canary());
        assert!(wire(agent.clone()).to_string().contains("canary"));
        assert!(!format!("{agent:?}").contains("canary"));
        let error = Agent::default_preset(Llm::new("m").api_key("**********")).check();
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("llm.api_key: the server's mask"),
            "{error}"
        );
    }

    #[test]
    fn an_agent_from_the_server_can_be_changed_and_sent_back() {
        let json = json!({
            "kind": "Agent",
            "llm": {"model": "m", "api_key": "canary"},
            "tools": [{"name": "terminal", "params": {}}],
            "new_field": 1,
        });
        let agent = Agent::from_json(json.clone()).unwrap();
        assert_eq!(wire(agent.clone()), json);
        assert!(!format!("{agent:?}").contains("canary"));
        let more = agent.clone().tool("glob");
        assert_eq!(wire(more)["tools"][1]["name"], "glob");
        assert!(agent.tool("terminal").check().is_err());
        assert!(Agent::from_json(json!([])).is_err());
        let masked = Agent::from_json(json!({"llm": {"api_key": "**********"}})).unwrap();
        let error = masked.check().unwrap_err().to_string();
        assert!(error.starts_with("llm: the server's mask"), "{error}");
    }

    #[test]
    fn fields_can_be_read_back_without_secrets() {
        let url = "https://user:canary@host/v1?key=canary";
        let llm = Llm::new("m")
            .api_key("canary")
            .base_url(url)
            .timeout(Duration::from_secs(9));
        let agent = Agent::new(llm)
            .tool("glob")
            .set("api_key", "canary")
            .set("new", [1]);
        assert_eq!(agent.get("new"), Some([1]));
        assert_eq!(agent.get::<Value>("tools").unwrap()[0]["name"], "glob");
        assert_eq!(
            (agent.get::<Value>("persona"), agent.get::<u8>("tools")),
            (None, None)
        );
        let llm: Llm = agent.get("llm").unwrap();
        assert_eq!(llm.get("model"), Some("m".to_owned()));
        assert_eq!(llm.get("timeout"), Some(9));
        assert!(llm.check().is_err());
        for field in Agent::FIELDS.iter().chain(&["api_key"]) {
            let shown = format!("{:?}", agent.get::<Value>(field));
            assert!(!shown.contains("canary"), "{field}: {shown}");
        }
        let json = wire(agent.clone());
        let again = Agent::from_json(json).unwrap();
        assert!(
            !again
                .get::<Value>("llm")
                .unwrap()
                .to_string()
                .contains("canary")
        );
    }

    #[test]
    fn a_finish_schema_replaces_the_built_in_finish_tool() {
        let schema = json!({"type": "object"}).as_object().unwrap().clone();
        let wire = wire(Agent::new(Llm::new("m")).finish_schema(schema));
        assert_eq!(wire["include_default_tools"], json!(["ThinkTool"]));
        assert_eq!(
            wire["tools"][0]["params"]["response_schema"]["type"],
            "object"
        );
    }
}
