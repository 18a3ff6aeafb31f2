//! The configuration of a new conversation: model, agent, tools, secrets, policies.
//!
//! Every type in this module is a builder whose setters have the same names as the server's fields.
//! Only fields that were set are sent; the server's defaults apply to all others. `set` sets fields
//! that this version does not support.
//!
//! - **Secrets** are passed as [`SecretString`](secrecy::SecretString) or as strings that are
//!   converted. They appear only in the serialized form, which belongs in the body of a request,
//!   and never in `Debug` or in errors. Free-form values are not shown either, because they may
//!   contain secrets. The user, password, query and fragment of a URL are not shown. For services
//!   whose path may be secret (MCP, looked-up secrets), the path is not shown either. The rules are
//!   those of [`redact`](crate::redact).
//! - **Rules** of the server are checked by `check`, which returns the first invalid value, with
//!   its path. A [`Request`](crate::Request) cannot be created from a configuration with an invalid
//!   value. In the serialized form, an invalid value is replaced by an object with the reason,
//!   which every server rejects. The mask `**********` is also invalid: a server shows it in place
//!   of a secret, and sending it back would overwrite the real one.

mod acp;
mod agent;
mod agent_profile;
mod analyzer;
mod condenser;
mod context;
mod critic;
mod fields;
mod llm;
mod mcp;
mod mcp_file;
mod mcp_patch;
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
mod variables;
mod workspace;

pub(crate) use fields::{MASK, MASKED, REFUSED, check_unmasked};

pub use acp::{AcpAgent, AcpFileSecret, PointsTo};
pub use agent::Agent;
pub use agent_profile::{AcpAgentProfile, AgentProfile, CondenserSettings, Verification};
pub use analyzer::{
    GraySwanAnalyzer, PatternAnalyzer, RiskPattern, SecurityAnalyzer, ToolShieldAnalyzer,
};
pub use condenser::{Condenser, SummarizingCondenser};
pub use context::AgentContext;
pub use critic::{ApiCritic, Critic, CriticMode};
pub use llm::{ApiMode, Llm, ReasoningEffort, ReasoningSummary};
pub use mcp::{McpAuth, McpOAuth, McpOAuthState, McpServer};
pub use mcp_file::McpFile;
pub use mcp_patch::McpServerPatch;
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
