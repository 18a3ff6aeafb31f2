//! The server of the scenes.

use openhands::{
    Agent, Conversation, Event, Llm, LocalServer, Workspace, WorkspaceExt as _,
    conversation::ConversationBuilder,
    process::LocalServerBuilder,
    protocol::{ConversationId, calls},
    testkit::{Script, ScriptedModel},
};
use tempfile::TempDir;

use super::error::SceneError;
use crate::server_of;

/// A server of a version, on which scenes are played.
#[derive(Debug)]
pub struct Stage {
    version: String,
    home: TempDir,
    server: LocalServer,
}

impl Stage {
    /// Starts a server of this version.
    ///
    /// # Errors
    ///
    /// Returns an error if the server cannot be started.
    ///
    /// # Panics
    ///
    /// Panics if the environment cannot be created, or its modules cannot be imported.
    pub async fn start(version: &str) -> openhands::Result<Self> {
        let home = crate::home();
        let server = server_of(version, &home).start().await?;
        Ok(Self {
            version: version.to_owned(),
            home,
            server,
        })
    }

    pub(super) fn server(&self) -> &LocalServer {
        &self.server
    }

    /// Returns a builder for a separate server.
    pub(super) fn another(&self) -> LocalServerBuilder {
        server_of(&self.version, &self.home)
    }

    /// Creates an empty directory, and returns it as a workspace.
    pub(super) async fn workspace(&self, name: &str) -> Result<Workspace, SceneError> {
        let workspace = self.server.workspace(self.server.workspace_dir());
        workspace.create_directory(name).await?;
        Ok(workspace.directory(name)?)
    }

    /// Starts a model with this script, and returns a conversation that uses it.
    pub(super) async fn conversation(
        &self,
        name: &str,
        script: Script,
    ) -> Result<(ScriptedModel, ConversationBuilder), SceneError> {
        let workspace = self.workspace(name).await?;
        let (model, agent) = agent(script).await?;
        Ok((model, Conversation::builder(&workspace, agent)))
    }

    /// Returns the ids of the log, read by REST.
    pub(super) async fn log(&self, id: ConversationId) -> Result<Vec<String>, SceneError> {
        let mut ids = Vec::new();
        let mut search = calls::events::Search::new(id);
        loop {
            let page = self.server.client().call(&search).await?;
            ids.extend(page.items.iter().map(|event| event.id().to_owned()));
            match page.next_page_id {
                Some(next) => search = calls::events::Search::new(id).page_id(next),
                None => return Ok(ids),
            }
        }
    }
}

/// Starts a model with this script, and returns an agent that uses it.
pub(super) async fn agent(script: Script) -> Result<(ScriptedModel, Agent), SceneError> {
    let model = ScriptedModel::start(script).await;
    let model = model.map_err(|error| SceneError::Unexpected(error.to_string()))?;
    let llm = Llm::new(ScriptedModel::MODEL)
        .base_url(model.base_url())
        .api_key("scripted")
        .num_retries(1)
        .stream(true)
        .input_cost_per_token(0.001)
        .output_cost_per_token(0.001);
    let agent = Agent::default_preset(llm).cli_mode(true);
    Ok((model, agent))
}

/// Returns the ids of these events.
pub(super) fn ids<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<String> {
    let events = events.into_iter();
    events.map(|event| event.id().to_owned()).collect()
}
