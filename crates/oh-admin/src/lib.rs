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
//!
//! The server applies a stored model, key or setting to conversations that start later. The crate
//! `oh-conversation` changes those of a running conversation.
//!
//! **Keys.** The server masks keys in its responses. No request of this crate contains the mask:
//! a value that contains it is an error of kind [`InvalidInput`](ErrorKind::InvalidInput), because
//! the server would remove the key.

mod admin;
mod agent_profiles;
mod connections;
mod error;
mod mcp;
mod models;
mod profiles;
mod request;
mod secrets;
mod settings;
mod subscription;
mod wait;

pub use admin::Admin;
pub use agent_profiles::AgentProfiles;
pub use connections::Connections;
pub use error::{Error, ErrorKind, Result};
pub use mcp::Mcp;
pub use models::Models;
pub use profiles::Profiles;
pub use request::Request;
pub use secrets::Secrets;
pub use settings::Settings;
pub use subscription::{Login, LoginWait, Subscription};
pub use wait::AuthorizationWait;
