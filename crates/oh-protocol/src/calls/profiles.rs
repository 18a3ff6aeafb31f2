//! Model profiles: models and their options, stored on the server under a name.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{call, named, settings::Expose};
use crate::{Request, Result, config::Llm};

const ROUTE: &str = "/api/profiles";

/// `GET /api/profiles`: returns a summary of each profile.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct ListProfiles;

/// The model profiles of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProfileList {
    /// A summary of each profile.
    pub profiles: Vec<ProfileInfo>,
    /// The name of the profile that was activated last.
    #[serde(default)]
    pub active_profile: Option<String>,
}

/// A summary of a model profile.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProfileInfo {
    /// The name.
    pub name: String,
    /// The name of the model.
    #[serde(default)]
    pub model: Option<String>,
    /// The base URL of the model, if it differs from the provider's default.
    #[serde(default)]
    pub base_url: Option<String>,
    /// The id of the provider connection that the profile refers to.
    #[serde(default)]
    pub provider_connection_id: Option<String>,
    /// Whether that connection does not exist or has no key.
    #[serde(default)]
    pub provider_connection_broken: bool,
    /// Whether the profile, or its connection, has a key.
    #[serde(default)]
    pub api_key_set: bool,
}

// The URL may contain a password.
impl fmt::Debug for ProfileInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProfileInfo")
            .field("name", &self.name)
            .field("model", &self.model)
            .field(
                "base_url",
                &self.base_url.as_deref().map(crate::redact::url),
            )
            .field("provider_connection_id", &self.provider_connection_id)
            .field(
                "provider_connection_broken",
                &self.provider_connection_broken,
            )
            .field("api_key_set", &self.api_key_set)
            .finish()
    }
}

call!(ListProfiles => ProfileList, GET "/api/profiles", Idempotent;
    |_this| Ok(Request::new(http::Method::GET, ROUTE));
    |answer| answer.json("list of profiles"));

/// `GET /api/profiles/{name}`: returns a stored model profile.
#[derive(Debug, Clone, PartialEq)]
pub struct GetProfile {
    name: String,
    expose: Expose,
}

impl GetProfile {
    /// Creates a call for the profile with this name, which returns secrets in this form.
    pub fn new(name: impl Into<String>, expose: Expose) -> Self {
        Self {
            name: name.into(),
            expose,
        }
    }
}

/// A stored model profile.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Profile {
    /// The name.
    pub name: String,
    /// The configuration as JSON. May contain secrets.
    pub config: Value,
    /// Whether an API key is set.
    #[serde(default)]
    pub api_key_set: bool,
}

// The configuration may contain secrets.
impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("name", &self.name)
            .field("api_key_set", &self.api_key_set)
            .finish_non_exhaustive()
    }
}

call!(GetProfile => Profile, GET "/api/profiles/{name}", Idempotent;
    |this| {
        let mut request = Request::new(http::Method::GET, at(&this.name, "")?);
        this.expose.into_headers(&mut request.headers);
        Ok(request)
    };
    |answer| answer.json("profile"));

/// `POST /api/profiles/{name}`: stores a model under a name, or replaces the profile with this
/// name. Returns 409 if the server has as many profiles as it allows.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct SaveProfile {
    name: String,
    llm: Box<Llm>,
    include_secrets: bool,
}

impl SaveProfile {
    /// Creates a call that stores this model. A name starts with a letter or a digit, and has at
    /// most 64 letters, digits, dots, hyphens and underscores.
    pub fn new(name: impl Into<String>, llm: Llm) -> Self {
        Self {
            name: name.into(),
            llm: llm.into(),
            include_secrets: true,
        }
    }

    /// Sets whether the API key is stored. Default: true.
    pub fn include_secrets(mut self, yes: bool) -> Self {
        self.include_secrets = yes;
        self
    }
}

call!(SaveProfile => (), POST "/api/profiles/{name}", Idempotent;
|this| {
    this.llm.check()?;
    let body = json!({"llm": this.llm, "include_secrets": this.include_secrets});
    Request::new(http::Method::POST, at(&this.name, "")?).json(&body)
};
|answer| answer.done("response"));

/// `POST /api/profiles/{name}/validate`: sends one short request to a model, and returns whether it
/// can be used. Nothing is stored, and the profile need not exist.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct ValidateProfile {
    name: String,
    llm: Box<Llm>,
}

impl ValidateProfile {
    /// Creates a call for this model. The name appears in the server's log only.
    pub fn new(name: impl Into<String>, llm: Llm) -> Self {
        Self {
            name: name.into(),
            llm: llm.into(),
        }
    }
}

/// Whether a model can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Validation {
    /// The model responded, or the provider is temporarily overloaded or slow.
    Valid,
    /// The provider rejected the request, or cannot be reached.
    Invalid {
        /// The type of the server's exception, such as `LLMAuthenticationError`.
        kind: String,
        /// The message of the provider, without secrets.
        message: String,
    },
}

impl Validation {
    /// Returns whether the model can be used.
    pub fn is_valid(&self) -> bool {
        matches!(self, Self::Valid)
    }
}

// Not retried: each request is billed by the provider.
call!(ValidateProfile => Validation, POST "/api/profiles/{name}/validate", Never;
|this| {
    this.llm.check()?;
    let body = json!({"llm": this.llm});
    Request::new(http::Method::POST, at(&this.name, "/validate")?).json(&body)
};
|answer| {
    #[derive(Deserialize)]
    struct Wire {
        valid: bool,
        #[serde(default)]
        error: Option<Reason>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Reason {
        #[serde(rename = "type")]
        kind: String,
        message: String,
    }
    let wire: Wire = answer.json("validation of a profile")?;
    let Reason { kind, message } = wire.error.unwrap_or_default();
    Ok(if wire.valid { Validation::Valid } else { Validation::Invalid { kind, message } })
});

/// `POST /api/profiles/{name}/rename`: changes the name of a profile, also where agent profiles and
/// the settings refer to it. Returns 404 if the profile does not exist, and 409 if the new name is
/// in use.
#[derive(Debug, Clone, PartialEq)]
pub struct RenameProfile {
    name: String,
    new_name: String,
}

impl RenameProfile {
    /// Creates a call for the profile with this name.
    pub fn new(name: impl Into<String>, new_name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            new_name: new_name.into(),
        }
    }
}

// Not retried: after the first request no profile has the old name.
call!(RenameProfile => (), POST "/api/profiles/{name}/rename", Never;
    |this| Request::new(http::Method::POST, at(&this.name, "/rename")?)
        .json(&json!({"new_name": this.new_name}));
    |answer| answer.done("response"));

/// `POST /api/profiles/{name}/activate`: makes a profile the model of the server's agent settings.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivateProfile(String);

impl ActivateProfile {
    /// Creates a call for the profile with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

/// The result of the activation of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Activated {
    /// The name of the profile.
    pub name: String,
    /// Whether the agent settings use the model now. False if they are for an ACP agent, which has
    /// no model.
    #[serde(default = "applied")]
    pub llm_applied: bool,
}

/// Returns the value for older servers, which omit the field.
fn applied() -> bool {
    true
}

call!(ActivateProfile => Activated, POST "/api/profiles/{name}/activate", Idempotent;
    |this| Ok(Request::new(http::Method::POST, at(&this.0, "/activate")?));
    |answer| answer.json("activated profile"));

/// `DELETE /api/profiles/{name}`: deletes a profile, if it exists. Returns 409 if an agent profile
/// refers to it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeleteProfile(String);

impl DeleteProfile {
    /// Creates a call for the profile with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

call!(DeleteProfile => (), DELETE "/api/profiles/{name}", Idempotent;
    |this| Ok(Request::new(http::Method::DELETE, at(&this.0, "")?));
    |answer| answer.done("response"));

/// Returns the path of a profile.
fn at(name: &str, rest: &str) -> Result<String> {
    named(ROUTE, "the profile name", name, rest)
}
