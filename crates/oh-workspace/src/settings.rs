//! What is stored on the server for agents: models, MCP servers, secrets, skills. Values that are
//! secret are asked for only where a model or an MCP server cannot be made without them.

use std::collections::BTreeMap;

use oh_protocol::{
    calls::{
        settings::{Expose, GetProfile, GetSecret, GetSettings, ListSecrets, Settings},
        skills::{LoadSkills, LoadedSkills},
    },
    config::{AgentContext, Llm, McpServer, SecretSource},
};
use oh_transport::WorkspaceHandle;
use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::{Error, ErrorKind, Result, Workspace};

impl Workspace {
    /// The model of the server's active profile; where none is active, that of its settings. Its
    /// key passes through this program; change other fields as you like.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where no model is stored, or when the server cannot be asked.
    pub async fn llm(&self) -> Result<Llm> {
        // What is secret is asked for only when it is known to be needed.
        let settings = self.settings(Expose::Masked).await?;
        if let Some(name) = settings.active_profile.filter(|name| !name.is_empty()) {
            return self.llm_profile(name).await;
        }
        let mut settings = self.settings(Expose::Plain).await?;
        llm(settings.agent_settings["llm"].take(), None)
    }

    /// The model of a stored profile. Its `usage_id` is `profile:NAME`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where there is no such profile, or when the server cannot be asked.
    pub async fn llm_profile(&self, name: impl Into<String>) -> Result<Llm> {
        let name = name.into();
        let profile = self
            .client()
            .call(&GetProfile::new(&name, Expose::Plain))
            .await;
        let profile = profile.map_err(|error| {
            Error::transport(format!("the profile `{name}` could not be read"), error)
        })?;
        llm(profile.config, Some(format!("profile:{name}")))
    }

    /// The MCP servers of the server's settings, by name. Their keys pass through this program.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked, or has one that is neither a program nor a URL.
    pub async fn mcp_config(&self) -> Result<BTreeMap<String, McpServer>> {
        let mut settings = self.settings(Expose::Plain).await?;
        let Value::Object(servers) = settings.agent_settings["mcp_config"].take() else {
            return Ok(BTreeMap::new());
        };
        let servers = servers.into_iter();
        servers
            .map(|(name, wire)| Ok((name.clone(), mcp_server(&name, wire)?)))
            .collect()
    }

    /// Returns the secrets stored on the server, as lookups for a conversation: the server finds
    /// each value itself when it is needed, and none passes through this program. `names` picks
    /// some; empty means all.
    ///
    /// A conversation that is given them adds the session key for servers before 1.50, which need
    /// it. Who sends a request without a conversation's builder uses
    /// [`secrets_with_key`](Self::secrets_with_key) for those.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] for a name that is not stored, or when the server cannot be asked.
    pub async fn secrets(&self, names: &[&str]) -> Result<BTreeMap<String, SecretSource>> {
        self.lookups(names, None).await
    }

    /// The same as [`secrets`](Self::secrets), where each lookup carries the session key, as servers
    /// before 1.50 need it. The server stores the key with the conversation, as it stores its
    /// secrets.
    ///
    /// # Errors
    ///
    /// As [`secrets`](Self::secrets).
    pub async fn secrets_with_key(
        &self,
        names: &[&str],
        session_api_key: impl Into<SecretString>,
    ) -> Result<BTreeMap<String, SecretSource>> {
        self.lookups(names, Some(session_api_key.into())).await
    }

    async fn lookups(
        &self,
        names: &[&str],
        key: Option<SecretString>,
    ) -> Result<BTreeMap<String, SecretSource>> {
        let stored = self.client().call(&ListSecrets::new()).await;
        let stored = stored.map_err(|error| {
            Error::transport("the names of the stored secrets could not be read", error)
        })?;
        let mut found = BTreeMap::new();
        for info in stored {
            if names.is_empty() || names.contains(&info.name.as_str()) {
                let mut source = SecretSource::lookup(info.path());
                if let Some(key) = &key {
                    source = source.header("X-Session-API-Key", key.clone());
                }
                if let Some(description) = info.description {
                    source = source.description(description);
                }
                found.insert(info.name, source);
            }
        }
        match names.iter().find(|name| !found.contains_key(**name)) {
            Some(missing) => {
                let context = format!("no secret `{missing}` is stored on the server");
                Err(Error::new(ErrorKind::NotFound, context))
            }
            None => Ok(found),
        }
    }

    /// The value of a secret stored on the server, which passes through this program: for what
    /// it does itself, such as
    /// [cloning with a token](crate::Repository::token). None where there is no such secret.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for a name that is none, or when the server cannot be asked.
    pub async fn secret_value(&self, name: &str) -> Result<Option<SecretString>> {
        match self.client().call(&GetSecret::new(name)).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == oh_transport::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let context = format!("the secret `{name}` could not be read");
                Err(Error::transport(context, error))
            }
        }
    }

    /// The skills that the server finds. Those of the workspace's directory are
    /// `LoadSkills::new().project(workspace.working_dir())`.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub async fn load_skills(&self, which: LoadSkills) -> Result<LoadedSkills> {
        let loaded = self.client().call(&which).await;
        loaded.map_err(|error| Error::transport("no skills could be loaded", error))
    }

    /// What an agent should know of the workspace: the skills of its directory and of the
    /// server's user, read now. The server is told not to load them again.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub async fn agent_context(&self) -> Result<AgentContext> {
        let which = LoadSkills::new().user(true).project(self.path(".")?);
        let loaded = self.load_skills(which).await?;
        let context = AgentContext::new()
            .load_user_skills(false)
            .load_project_skills(false);
        Ok(loaded.skills.into_iter().fold(context, AgentContext::skill))
    }

    async fn settings(&self, expose: Expose) -> Result<Settings> {
        let settings = self.client().call(&GetSettings::new(expose)).await;
        settings.map_err(|error| Error::transport("the settings could not be read", error))
    }
}

/// A model from the server's own form of it.
fn llm(wire: Value, usage_id: Option<String>) -> Result<Llm> {
    let missing = || Error::new(ErrorKind::NotFound, "no model is stored on the server");
    let mut fields = object(wire).ok_or_else(missing)?;
    let Some(Value::String(model)) = fields.remove("model") else {
        return Err(missing());
    };
    let mut llm = Llm::new(model);
    if let Some(Value::String(key)) = fields.remove("api_key") {
        llm = llm.api_key(key);
    }
    if let Some(usage_id) = usage_id {
        fields.remove("usage_id");
        llm = llm.usage_id(usage_id);
    }
    // Read-only, or the server's note on where it came from.
    for name in ["kind", "profile_id", "api_key_set"] {
        fields.remove(name);
    }
    Ok(fields
        .into_iter()
        .fold(llm, |llm, (name, value)| llm.set(name, value)))
}

/// An MCP server from the server's own form of it.
fn mcp_server(name: &str, wire: Value) -> Result<McpServer> {
    let mut fields = object(wire).unwrap_or_default();
    let transport = fields.remove("transport");
    let server = match (fields.remove("command"), fields.remove("url")) {
        (Some(Value::String(command)), _) => McpServer::stdio(command),
        (_, Some(Value::String(url))) => match transport.as_ref().and_then(Value::as_str) {
            Some("sse") => McpServer::sse(url),
            _ => McpServer::http(url),
        },
        _ => {
            let context = format!("the MCP server `{name}` is neither a program nor a URL");
            return Err(Error::new(ErrorKind::Unsupported, context));
        }
    };
    Ok(fields
        .into_iter()
        .fold(server, |server, (name, value)| server.set(name, value)))
}

/// Fields that are set.
fn object(wire: Value) -> Option<Map<String, Value>> {
    match wire {
        Value::Object(fields) => Some(
            fields
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .collect(),
        ),
        _ => None,
    }
}
