//! Administration of an agent server: models, keys, settings, secrets and MCP servers.
//!
//! ```no_run
//! # async fn run(client: &oh_transport::Client, key: String) -> oh_admin::Result<()> {
//! use oh_admin::Admin;
//! use oh_protocol::{calls::connections::CreateConnection, config::Llm};
//!
//! let admin = Admin::of(client);
//!
//! // One key for many profiles.
//! let team = CreateConnection::new("Team key", key).provider("anthropic");
//! let team = admin.connections().create(team).await?;
//!
//! let llm = Llm::new("anthropic/claude-sonnet-4-5-20250929").provider_connection_id(team.id);
//! let checked = admin.profiles().validate("default", llm.clone()).await?;
//! if checked.is_valid() {
//!     admin.profiles().save("default", llm).await?;
//!     admin.profiles().activate("default").await?;
//! }
//! # Ok(()) }
//! ```
//!
//! - [`Admin::models`]: providers and models that the server supports.
//! - [`Admin::connections`]: keys that several profiles share.
//! - [`Admin::profiles`]: models and their options, stored under a name.
//! - [`Admin::agent_profiles`]: agents, stored under a name.
//! - [`Admin::subscription`]: the login to a ChatGPT subscription.
//! - [`Admin::settings`]: the settings for agents and conversations.
//! - [`Admin::secrets`]: secrets for the commands of agents.
//! - [`Admin::mcp`]: MCP servers in the settings, their tests and authorization.
//! - [`Admin::skills`]: instructions that agents load when they need them.
//! - [`Admin::plugins`]: plugins that are installed for the server's user.
//! - [`Admin::meta_profiles`]: rules by which a model chooses the model for a task.
//! - [`Admin::sub_agents`], [`Admin::acp`]: agents that the server finds, and their models.
//! - [`Admin::workspaces`]: directories that user interfaces offer.
//! - [`Admin::workspace_pages`]: cookies for browsers that show the pages of workspaces.
//! - [`Admin::gateway`]: address and key for clients of OpenAI's API.
//!
//! The server applies a stored model, key or setting to conversations that start later. The crate
//! `oh-conversation` changes those of a running conversation.
//!
//! **Keys.** The server masks keys in its responses. No request of this crate contains the mask:
//! a value that contains it is an error of kind [`InvalidInput`](ErrorKind::InvalidInput), because
//! the server would remove the key.

mod acp;
mod admin;
mod agent_profiles;
mod connections;
mod error;
mod gateway;
mod mcp;
mod meta_profiles;
mod models;
mod pages;
mod plugins;
mod profiles;
mod request;
mod secrets;
mod settings;
mod skills;
mod sub_agents;
mod subscription;
mod wait;
mod workspaces;

pub use acp::Acp;
pub use admin::Admin;
pub use agent_profiles::AgentProfiles;
pub use connections::Connections;
pub use error::{Error, ErrorKind, Result};
pub use gateway::Gateway;
pub use mcp::Mcp;
pub use meta_profiles::MetaProfiles;
pub use models::Models;
pub use pages::WorkspacePages;
pub use plugins::Plugins;
pub use profiles::Profiles;
pub use request::Request;
pub use secrets::Secrets;
pub use settings::Settings;
pub use skills::Skills;
pub use sub_agents::SubAgents;
pub use subscription::{Login, LoginWait, Subscription};
pub use wait::AuthorizationWait;
pub use workspaces::SavedWorkspaces;
