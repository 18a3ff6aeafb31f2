//! Agents of others, spoken to in the Agent Client Protocol.

use super::{
    AgentContext, Llm, McpServer,
    fields::{Field, Fields},
    model::model,
};
use crate::open_enum::open_enum;

model! {
    /// An agent that is a program of its own on the server's machine: Claude Code, Codex, Gemini
    /// CLI or any other that speaks the Agent Client Protocol (`ACPAgent` on the server).
    ///
    /// Such an agent brings its own model, tools and prompt.
    pub struct AcpAgent;
    by_hand: ["kind"];

    /// The program and its first arguments. Not shown: arguments may hold secrets.
    hidden acp_command;
    /// More arguments. Not shown.
    hidden acp_args;
    /// Which provider of the server's registry the program is, or `custom`.
    text acp_server;
    /// The mode its session is put in. Server's default: the one that asks least, by program.
    text acp_session_mode;
    /// How long it may be silent within an answer, in seconds. Server's default: 1800.
    value acp_prompt_timeout: f64;
    /// How long its start may take, in seconds. Server's default: 90.
    value acp_startup_timeout: f64;
    /// The model it is asked to use, such as `sonnet`. Server's default: its own choice.
    text acp_model;
    /// A session of its own to resume.
    secret acp_resume_session_id;
    /// Adds a credential that it finds as a file.
    each acp_file_secrets/acp_file_secret: AcpFileSecret;
    /// Whether it keeps its data apart per conversation, not in the server's home directory.
    /// Server's default: no.
    value acp_isolate_data_dir: bool;

    /// Adds a server of the Model Context Protocol, which is handed to the program.
    entry mcp_config/mcp_server: McpServer;
    /// What is added to the messages it gets.
    model agent_context: AgentContext;
    /// How the server counts its cost. The program's model is its own.
    model llm: Llm;
}

impl AcpAgent {
    /// Adds servers of the Model Context Protocol by name, such as those of an
    /// [`McpFile`](super::McpFile). One of the same name is replaced.
    pub fn mcp_servers(mut self, servers: impl IntoIterator<Item = (String, McpServer)>) -> Self {
        for (name, server) in servers {
            self.fields.insert("mcp_config", name, server);
        }
        self
    }

    /// Runs this program, such as `["npx", "-y", "@agentclientprotocol/claude-agent-acp"]`.
    pub fn new(command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut words = command.into_iter().map(Into::into).peekable();
        let agent = Self {
            fields: Fields::of("AcpAgent").with("kind", Field::plain("ACPAgent")),
        };
        if words.peek().is_none() {
            let refused = Field::refused("it names the program to run");
            return Self {
                fields: agent.fields.with("acp_command", refused),
            };
        }
        agent.acp_command(words)
    }
}

open_enum! {
    /// What a variable names that tells a program of its credential.
    PointsTo {
        /// The file.
        File = "file",
        /// The directory it is in.
        Directory = "dir",
    }
}

model! {
    /// A secret of the conversation that an agent's program finds as a file.
    pub struct AcpFileSecret;
    by_hand: ["secret_name", "filename", "env_var", "subdir"];

    /// What the variable names. Server's default: the file.
    value env_points_to: PointsTo;
    /// Variables without which the credential is likely of no use; the server warns then.
    list warn_if_unset: String;
}

impl AcpFileSecret {
    /// The secret `secret_name` as the file `subdir/filename`, which the variable `env_var`
    /// names.
    pub fn new(
        secret_name: impl Into<String>,
        subdir: impl Into<String>,
        filename: impl Into<String>,
        env_var: impl Into<String>,
    ) -> Self {
        let given = |text: String| match text.as_str() {
            "" => Field::refused("it is not empty"),
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
    fn neither_arguments_nor_a_session_are_shown() {
        let agent = AcpAgent::new(["program", "canary"])
            .acp_args(["--token", "canary"])
            .acp_resume_session_id("canary")
            .llm(Llm::with_canary());
        agent.check().unwrap();
        assert!(!format!("{agent:?}").contains("canary"));
    }

    #[test]
    fn without_a_program_there_is_no_agent() {
        let error = AcpAgent::new(Vec::<String>::new()).check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "acp_command: it names the program to run"
        );
    }
}
