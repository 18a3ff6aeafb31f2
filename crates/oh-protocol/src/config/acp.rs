//! Third-party agents that use the Agent Client Protocol (ACP).

use super::{
    AgentContext, Llm, McpServer,
    fields::{Field, Fields},
    model::model,
};
use crate::json::open_enum::open_enum;

model! {
    /// An agent that is a separate program on the server's machine: Claude Code, Codex, Gemini CLI
    /// or any other agent with support for the Agent Client Protocol (`ACPAgent` on the server).
    ///
    /// Such an agent has its own model, tools and prompt.
    pub struct AcpAgent;
    by_hand: ["kind"];

    /// Sets the program and its first arguments. Not shown, because arguments may contain secrets.
    hidden acp_command;
    /// Sets additional arguments. Not shown.
    hidden acp_args;
    /// Sets the provider in the server's registry that the program belongs to, or `custom`.
    text acp_server;
    /// Sets the mode of the session. Server default: the program's mode with the fewest approval
    /// prompts.
    text acp_session_mode;
    /// Sets the maximum time without output during a response. Server default: 1800 s.
    seconds acp_prompt_timeout;
    /// Sets the start-up timeout of the program. Server default: 90 s.
    seconds acp_startup_timeout;
    /// Sets the model that the program is asked to use, such as `sonnet`. Server default: the
    /// program's choice.
    text acp_model;
    /// Sets the id of a session to resume, as assigned by the program.
    secret acp_resume_session_id;
    /// Adds a credential that is provided to the program as a file.
    each acp_file_secrets/acp_file_secret: AcpFileSecret;
    /// Sets whether the program's data is stored per conversation instead of in the server's home
    /// directory. Server default: false.
    value acp_isolate_data_dir: bool;

    /// Adds an MCP server (Model Context Protocol), which is passed to the program.
    entry mcp_config/mcp_server: McpServer;
    /// Sets the context that is added to messages for the program.
    model agent_context: AgentContext;
    /// Sets how the server computes the cost. The model itself is chosen by the program.
    model llm: Llm;
}

impl AcpAgent {
    /// Adds MCP servers by name, for example from an [`McpFile`](super::McpFile). Replaces servers
    /// with the same name.
    pub fn mcp_servers(mut self, servers: impl IntoIterator<Item = (String, McpServer)>) -> Self {
        for (name, server) in servers {
            self.fields.insert("mcp_config", name, server);
        }
        self
    }

    /// Creates an agent that runs a program, such as `["npx", "-y",
    /// "@agentclientprotocol/claude-agent-acp"]`.
    pub fn new(command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut words = command.into_iter().map(Into::into).peekable();
        let agent = Self {
            fields: Fields::of("AcpAgent").with("kind", Field::plain("ACPAgent")),
        };
        if words.peek().is_none() {
            let refused = Field::refused("must not be empty: the first item is the program to run");
            return Self {
                fields: agent.fields.with("acp_command", refused),
            };
        }
        agent.acp_command(words)
    }
}

open_enum! {
    /// The path that an environment variable for a credential contains.
    PointsTo {
        /// The path of the file.
        File = "file",
        /// The path of the directory that contains the file.
        Directory = "dir",
    }
}

model! {
    /// A secret of the conversation that is provided to an agent's program as a file.
    pub struct AcpFileSecret;
    by_hand: ["secret_name", "filename", "env_var", "subdir"];

    /// Sets which path the environment variable contains. Server default: the file.
    value env_points_to: PointsTo;
    /// Sets the environment variables without which the credential is probably useless. The server
    /// logs a warning if they are unset.
    list warn_if_unset: String;
}

impl AcpFileSecret {
    /// Creates a file secret: writes the secret `secret_name` to `subdir/filename` and sets the
    /// variable `env_var` to the path.
    pub fn new(
        secret_name: impl Into<String>,
        subdir: impl Into<String>,
        filename: impl Into<String>,
        env_var: impl Into<String>,
    ) -> Self {
        let given = |text: String| match text.as_str() {
            "" => Field::refused("must not be empty"),
            _ => text.into(),
        };
        Self {
            fields: Fields::of("AcpFileSecret")
                .with("secret_name", given(secret_name.into()))
                .with("subdir", given(subdir.into()))
                .with("filename", given(filename.into()))
                .with("env_var", given(env_var.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_and_sessions_are_not_shown() {
        let agent = AcpAgent::new(["program", "canary"])
            .acp_args(["--token", "canary"])
            .acp_resume_session_id("canary")
            .llm(Llm::with_canary());
        agent.check().unwrap();
        assert!(!format!("{agent:?}").contains("canary"));
    }

    #[test]
    fn an_agent_requires_a_program() {
        let error = AcpAgent::new(Vec::<String>::new()).check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "acp_command: must not be empty: the first item is the program to run"
        );
    }
}
