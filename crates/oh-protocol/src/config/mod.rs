//! What a conversation is started with: model, agent, tools, secrets, policies.
//!
//! Every type here is a builder whose setters carry the names the server has on the wire; only
//! what was set travels, so the server's own defaults hold for the rest. `set` reaches fields
//! that this version does not know.
//!
//! - **Secrets** go in as [`SecretString`](secrecy::SecretString) or as texts that become one.
//!   They are seen in the serialized form alone, which belongs in the body of a request, and
//!   never in `Debug` or in errors. Free-form values are not shown either: they may hold some.
//!   Of an address user, password, query and fragment are not shown; of a service that may be
//!   known by a secret path (MCP, looked-up secrets) the path is not shown either. The rules are
//!   those of [`redact`](crate::redact).
//! - **Rules** of the server are kept here: `check` names the first value that breaks one, by
//!   the path to it, and no [`Request`](crate::Request) is made of such a value. In its serialized
//!   form an object with the reason stands in its place, which no server takes. The mask
//!   `**********`, which a server shows in place of a secret and which would replace the real
//!   one, is such a value too.

mod acp;
mod agent;
mod analyzer;
mod condenser;
mod context;
mod critic;
mod field;
mod fields;
mod llm;
mod mcp;
mod mcp_file;
mod message;
mod model;
mod plugin;
mod policy;
mod secret;
mod skills;
mod source;
mod start;
mod subagent;
mod tools;
mod workspace;

pub(crate) use field::REFUSED;

pub use acp::{AcpAgent, AcpFileSecret, PointsTo};
pub use agent::Agent;
pub use analyzer::{
    GraySwanAnalyzer, PatternAnalyzer, RiskPattern, SecurityAnalyzer, ToolShieldAnalyzer,
};
pub use condenser::{Condenser, SummarizingCondenser};
pub use context::AgentContext;
pub use critic::{ApiCritic, Critic, CriticMode};
pub use llm::{ApiMode, Llm, ReasoningEffort, ReasoningSummary};
pub use mcp::{McpAuth, McpOAuth, McpOAuthState, McpServer};
pub use mcp_file::McpFile;
pub use message::InitialMessage;
pub use plugin::{Marketplace, Plugin};
pub use policy::ConfirmationPolicy;
pub use secret::SecretSource;
pub use skills::{Skill, SkillInput, SkillResources, Trigger};
pub use source::{AgentSource, LaunchAdditions};
pub use start::{ConversationRuntime, StartConversation};
pub use subagent::{DefinitionLevel, PermissionMode, SubAgent};
pub use tools::{ClientToolSpec, ToolAnnotations, ToolSpec};
pub use workspace::{Container, Worktree};
