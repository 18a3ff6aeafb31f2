//! Secrets for the agent's commands: given as text, looked up by the server, or computed when they
//! are sent.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use http::StatusCode;
use oh_protocol::{
    calls::conversations::{BindCredential, SetSecrets},
    config::SecretSource,
};
use oh_transport::{Client, Error as Wire};
use secrecy::SecretString;

use crate::{Conversation, Error, ErrorKind, Request, Result};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Computing = Pin<Box<dyn Future<Output = Result<SecretString, Failure>> + Send>>;
type Compute = Arc<dyn Fn() -> Computing + Send + Sync>;

/// A secret's value or its source. A text converts to a secret with that value.
#[derive(Clone)]
pub struct Secret(Origin);

#[derive(Clone)]
enum Origin {
    Source(SecretSource),
    Compute(Compute),
}

impl Secret {
    /// Creates a secret with this value.
    pub fn text(value: impl Into<SecretString>) -> Self {
        Self(Origin::Source(SecretSource::fixed(value)))
    }

    /// Creates a secret that the server looks up with a `GET` of a URL each time it needs the
    /// value: see [`SecretSource::lookup`]. The value never passes through this program.
    pub fn lookup(url: impl Into<String>) -> Self {
        Self(Origin::Source(SecretSource::lookup(url)))
    }

    /// Creates a secret that a closure computes each time it is sent. The server keeps that value.
    ///
    /// ```
    /// use oh_conversation::Secret;
    ///
    /// let token = Secret::computed(|| async { std::fs::read_to_string("/run/token") });
    /// # let _ = token;
    /// ```
    pub fn computed<F, Fut, S, E>(compute: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S, E>> + Send + 'static,
        S: Into<SecretString>,
        E: Into<Failure>,
    {
        Self(Origin::Compute(Arc::new(move || {
            let value = compute();
            Box::pin(async move { value.await.map(Into::into).map_err(Into::into) })
        })))
    }

    async fn source(self) -> Result<SecretSource, Failure> {
        match self.0 {
            Origin::Source(source) => Ok(source),
            Origin::Compute(compute) => compute().await.map(SecretSource::fixed),
        }
    }
}

impl From<SecretSource> for Secret {
    fn from(source: SecretSource) -> Self {
        Self(Origin::Source(source))
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self::text(value)
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self::text(value)
    }
}

impl From<SecretString> for Secret {
    fn from(value: SecretString) -> Self {
        Self::text(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Origin::Source(source) => f.debug_tuple("Secret").field(source).finish(),
            Origin::Compute(_) => f.write_str("Secret(computed)"),
        }
    }
}

/// The secrets of a conversation: see [`Conversation::secrets`].
#[derive(Debug, Clone)]
pub struct Secrets {
    conversation: Conversation,
}

impl Conversation {
    /// Returns the secrets for the agent's commands.
    pub fn secrets(&self) -> Secrets {
        Secrets {
            conversation: self.clone(),
        }
    }
}

impl Secrets {
    /// Adds secrets for the agent, as environment variables of its commands (`POST …/secrets`).
    /// Existing secrets are kept. The server masks the values in its logs; the names are visible.
    /// Forks do not inherit secrets. For servers before 1.50, lookups of the server's own secrets
    /// get the session key, which those servers need.
    ///
    /// ```no_run
    /// # async fn give(conversation: &oh_conversation::Conversation) -> oh_conversation::Result<()> {
    /// use oh_conversation::Secret;
    ///
    /// conversation.secrets().set([("GITHUB_TOKEN", "ghp_…")]).await?;
    /// conversation
    ///     .secrets()
    ///     .set([
    ///         ("DEPLOY_KEY", Secret::lookup("/api/settings/secrets/DEPLOY_KEY")),
    ///         ("SESSION", Secret::computed(|| async { std::env::var("SESSION") })),
    ///     ])
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::InvalidInput`] if a name is not a valid environment variable name, a
    /// value is a mask, or a closure fails (its error is the source). In these cases nothing was
    /// sent.
    pub fn set<N, S>(&self, secrets: impl IntoIterator<Item = (N, S)>) -> Request<()>
    where
        N: Into<String>,
        S: Into<Secret>,
    {
        let secrets: Vec<(String, Secret)> = secrets
            .into_iter()
            .map(|(name, secret)| (name.into(), secret.into()))
            .collect();

        let this = self.clone();
        Request::new(async move {
            let mut sources = Vec::new();
            for (name, secret) in secrets {
                let source = secret.source().await.map_err(|failure| {
                    let what = format!("cannot obtain the value of the secret `{name}`");
                    Error::new(ErrorKind::InvalidInput, this.conversation.id(), what)
                        .with_source(failure)
                })?;
                sources.push((name, source));
            }
            let wanted = sources.iter().any(|(_, source)| source.wants_session_key());
            let key = own_key(this.conversation.client(), wanted).await;
            let key = key
                .map_err(|error| Error::transport(this.conversation.id(), "set secrets", error))?;
            let mut call = SetSecrets::new(this.conversation.id());
            for (name, source) in sources {
                let source = match &key {
                    Some(key) => source.with_session_key(key),
                    None => source,
                };
                call = call.secret(name, source);
            }
            this.conversation.call("set secrets", &call).await
        })
    }

    /// Binds the file with an ACP agent's login to a URL (`PUT …/credential-bindings/{name}`), so
    /// that several sandboxes can share one login. Call this before the agent's first message.
    /// `headers` authorize the server at the URL; call this again to replace them.
    ///
    /// The server reads the login with a GET request. The response is a JSON object with the texts
    /// `value` and `version`. The server writes each renewed login with a PUT request, whose body
    /// has `expected_version` and `value`. The response contains the new `version`, or is 409 if
    /// the login has another version by now.
    ///
    /// Server 1.58.2 supports the login of Codex only:
    /// [`BindCredential::CODEX`](oh_protocol::calls::conversations::BindCredential::CODEX).
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if the server does not support this name, or is too old.
    /// - [`ErrorKind::Unsupported`] if the URL or the conversation's runtime does not support it.
    ///   Conversations in containers do not.
    /// - [`ErrorKind::Conflict`] if the agent has already read its login, or is no ACP agent.
    /// - [`ErrorKind::Forbidden`] if the URL rejects the headers, [`ErrorKind::Validation`] if its
    ///   content is invalid, and [`ErrorKind::Server`] if it cannot be read.
    pub fn bind<N, V>(
        &self,
        name: impl Into<String>,
        url: impl Into<SecretString>,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Request<()>
    where
        N: Into<String>,
        V: Into<SecretString>,
    {
        let mut call = BindCredential::new(self.conversation.id(), name, url);
        for (name, value) in headers {
            call = call.header(name, value);
        }
        let this = self.clone();
        Request::new(async move {
            let bound = this.conversation.client().call(&call).await;
            bound.map_err(|error| {
                let unsupported = error.status() == Some(StatusCode::NOT_IMPLEMENTED);
                let error = Error::transport(this.conversation.id(), "bind the credential", error);
                error.of_kind(|kind| match kind {
                    // The only reason for a 404 is the name.
                    ErrorKind::Gone => ErrorKind::NotFound,
                    _ if unsupported => ErrorKind::Unsupported,
                    kind => kind,
                })
            })
        })
    }
}

/// Returns the session key if a secret needs it and the server is too old to look up its own
/// secrets without it. Only requests to this server carry the key.
pub(crate) async fn own_key(client: &Client, wanted: bool) -> Result<Option<SecretString>, Wire> {
    if !wanted || client.server_info().await?.reads_own_secrets() {
        return Ok(None);
    }
    client.session_api_key().await
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn secret_values_are_never_shown() {
        let computed = Secret::computed(|| async { Ok::<_, std::fmt::Error>("canary") });
        let shown = format!("{:?} {computed:?}", Secret::text("canary"));
        assert!(!shown.contains("canary"), "{shown}");
    }
}
