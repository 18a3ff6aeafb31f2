//! Models, MCP servers, secrets and skills that the server stores for agents. Secret values are
//! requested only when a model or an MCP server cannot be built without them.

use std::collections::BTreeMap;

use oh_protocol::{
    calls::{
        profiles::GetProfile,
        settings::{Expose, GetSecret, GetSettings, ListSecrets, Settings},
        skills::{LoadSkills, LoadedSkills},
    },
    config::{AgentContext, Llm, McpServer, SecretSource},
};
use oh_transport::WorkspaceHandle;
use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::{Error, ErrorKind, Request, Result, Workspace};

impl Workspace {
    /// Returns the model of the server's active profile or, when no profile is active, of its
    /// settings. The model's API key passes through this program. Other fields of the result can be
    /// changed freely.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotFound`] if no model is stored, and another error if the request
    /// fails.
    pub fn llm(&self) -> Request<Llm> {
        let this = self.clone();
        Request::new(async move {
            // Masked first: the plain value is requested only when it is needed.
            let settings = this.settings(Expose::Masked).await?;
            if let Some(name) = settings.active_profile.filter(|name| !name.is_empty()) {
                return this.llm_profile(name).await;
            }
            let mut settings = this.settings(Expose::Plain).await?;
            llm(settings.agent_settings["llm"].take(), None)
        })
    }

    /// Returns the model of a stored profile. Its `usage_id` is `profile:NAME`.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotFound`] if there is no such profile, and another error if the
    /// request fails.
    pub fn llm_profile(&self, name: impl Into<String>) -> Request<Llm> {
        let name = name.into();
        let this = self.clone();
        Request::new(async move {
            let profile = this
                .client()
                .call(&GetProfile::new(&name, Expose::Plain))
                .await;
            let profile = profile.map_err(|error| {
                Error::endpoint(format!("cannot read the profile `{name}`"), error)
            })?;
            llm(profile.config, Some(format!("profile:{name}")))
        })
    }

    /// Returns the MCP servers in the server's settings, by name. Their keys pass through this
    /// program.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails, or if a stored MCP server has neither a command nor a
    /// URL.
    pub fn mcp_config(&self) -> Request<BTreeMap<String, McpServer>> {
        let this = self.clone();
        Request::new(async move {
            let mut settings = this.settings(Expose::Plain).await?;
            let Value::Object(servers) = settings.agent_settings["mcp_config"].take() else {
                return Ok(BTreeMap::new());
            };
            let servers = servers.into_iter();
            servers
                .map(|(name, wire)| Ok((name.clone(), mcp_server(&name, wire)?)))
                .collect()
        })
    }

    /// Returns the secrets stored on the server, as lookups for a conversation. The server resolves
    /// each value itself when it is needed, so no value passes through this program. `names`
    /// selects secrets; empty means all.
    ///
    /// Servers before 1.50 need the session key for these lookups. A conversation that gets the
    /// lookups adds the key. For requests that no conversation sends, use
    /// [`secrets_with_key`](Self::secrets_with_key).
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotFound`] for a name that is not stored, and another error if the
    /// request fails.
    pub fn secrets(&self, names: &[&str]) -> Request<BTreeMap<String, SecretSource>> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let this = self.clone();
        Request::new(async move { this.lookups(ListSecrets::new(), &names, None).await })
    }

    /// Returns the stored secrets that an agent profile refers to, as lookups for a conversation:
    /// all of them if the profile does not limit its secrets. `agent_profile_id` is the id of the
    /// profile, not its name. The lookups are the same as those of [`secrets`](Self::secrets).
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotFound`] if there is no such profile, and another error if the
    /// request fails.
    pub fn secrets_of_agent_profile(
        &self,
        agent_profile_id: impl Into<String>,
    ) -> Request<BTreeMap<String, SecretSource>> {
        let list = ListSecrets::new().agent_profile(agent_profile_id);
        let this = self.clone();
        Request::new(async move { this.lookups(list, &[], None).await })
    }

    /// Returns the same lookups as [`secrets`](Self::secrets), each with the session key in its
    /// headers, as servers before 1.50 require. The server stores the key with the conversation, as
    /// it stores the conversation's secrets.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`secrets`](Self::secrets).
    pub fn secrets_with_key(
        &self,
        names: &[&str],
        session_api_key: impl Into<SecretString>,
    ) -> Request<BTreeMap<String, SecretSource>> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let session_api_key = session_api_key.into();
        let this = self.clone();
        Request::new(async move {
            let list = ListSecrets::new();
            this.lookups(list, &names, Some(session_api_key)).await
        })
    }

    async fn lookups(
        &self,
        list: ListSecrets,
        names: &[String],
        key: Option<SecretString>,
    ) -> Result<BTreeMap<String, SecretSource>> {
        let stored = self.client().call(&list).await;
        let stored =
            stored.map_err(|error| Error::endpoint("cannot list the stored secrets", error))?;
        let mut found = BTreeMap::new();
        for info in stored {
            if names.is_empty() || names.contains(&info.name) {
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
        match names.iter().find(|name| !found.contains_key(*name)) {
            Some(missing) => {
                let context = format!("no secret `{missing}` is stored on the server");
                Err(Error::new(ErrorKind::NotFound, context))
            }
            None => Ok(found),
        }
    }

    /// Returns the value of a secret stored on the server, or `None` when there is no such secret.
    /// The value passes through this program, so use this for secrets that the program itself
    /// needs, for example when [cloning with a token](crate::Repository::token).
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::InvalidInput`] for an invalid name, and another error if the request
    /// fails.
    pub fn secret_value(&self, name: &str) -> Request<Option<SecretString>> {
        let name = name.to_owned();
        let this = self.clone();
        Request::new(async move {
            match this.client().call(&GetSecret::new(&name)).await {
                Ok(value) => Ok(Some(value)),
                Err(error) if error.kind() == oh_transport::ErrorKind::NotFound => Ok(None),
                Err(error) => {
                    let context = format!("cannot read the secret `{name}`");
                    Err(Error::endpoint(context, error))
                }
            }
        })
    }

    /// Loads skills on the server. For the skills of the workspace's directory, pass
    /// `LoadSkills::new().project(workspace.working_dir())`.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn load_skills(&self, which: LoadSkills) -> Request<LoadedSkills> {
        let this = self.clone();
        Request::new(async move {
            let loaded = this.client().call(&which).await;
            loaded.map_err(|error| Error::endpoint("cannot load the skills", error))
        })
    }

    /// Returns an agent context with the current skills of the workspace's directory and of the
    /// server's user. The context disables loading the same skills again on the server.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn agent_context(&self) -> Request<AgentContext> {
        let this = self.clone();
        Request::new(async move {
            let which = LoadSkills::new().user(true).project(this.path(".")?);
            let loaded = this.load_skills(which).await?;
            let context = AgentContext::new()
                .load_user_skills(false)
                .load_project_skills(false);
            Ok(loaded.skills.into_iter().fold(context, AgentContext::skill))
        })
    }

    async fn settings(&self, expose: Expose) -> Result<Settings> {
        let settings = self.client().call(&GetSettings::new(expose)).await;
        settings.map_err(|error| Error::endpoint("cannot read the settings", error))
    }
}

/// Converts a model from the server's wire format.
fn llm(wire: Value, usage_id: Option<String>) -> Result<Llm> {
    let missing = || {
        Error::new(
            ErrorKind::NotFound,
            "no model is configured in the server's settings",
        )
    };
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
    // These are read-only, or metadata about the stored profile.
    for name in ["kind", "profile_id", "api_key_set"] {
        fields.remove(name);
    }
    Ok(fields
        .into_iter()
        .fold(llm, |llm, (name, value)| llm.set(name, value)))
}

/// Converts an MCP server from the server's wire format.
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
            let context = format!("the MCP server `{name}` has neither a `command` nor a `url`");
            return Err(Error::new(ErrorKind::Unsupported, context));
        }
    };
    Ok(fields
        .into_iter()
        .fold(server, |server, (name, value)| server.set(name, value)))
}

/// Returns the fields that are not null.
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
