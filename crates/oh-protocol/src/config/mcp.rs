//! MCP servers (Model Context Protocol) and their authentication.

use secrecy::SecretString;

use super::{
    fields::{Field, Fields},
    model::model,
};

const AUTHORIZATION: &str = "authorization";

const TWICE: &str = "cannot have both `auth` and an `Authorization` header";

model! {
    /// An MCP server (Model Context Protocol), whose tools an agent can use.
    ///
    /// ```
    /// use oh_protocol::config::McpServer;
    ///
    /// let local = McpServer::stdio("uvx").args(["mcp-server-fetch"]);
    /// let remote = McpServer::http("https://mcp.example.com/").header("X-Team", "tools");
    /// local.check()?;
    /// remote.check()?;
    /// # Ok::<(), oh_protocol::Error>(())
    /// ```
    pub struct McpServer;
    by_hand: ["transport", "command", "url", "headers", "auth"];

    /// Sets the arguments of the program. Not shown, because arguments may contain secrets.
    hidden args;
    /// Sets a variable in the program's environment.
    secrets env/env;
    /// Sets the program's working directory.
    text cwd;
    /// Sets the description of the server.
    text description;
    /// Sets the URL of an icon.
    text icon;
    /// Sets the timeout of a request.
    seconds timeout;
    /// Sets the maximum time without data in an event stream.
    seconds sse_read_timeout;
    /// Sets whether the connection is kept open between calls.
    value keep_alive: bool;
    /// Sets whether the agent can use the server's tools. Server default: true.
    value enabled: bool;
}

impl McpServer {
    /// Creates a server that is started by a command.
    pub fn stdio(command: impl Into<String>) -> Self {
        let command = command.into();
        let command = match command.as_str() {
            "" => Field::refused("must be the program to run"),
            _ => command.into(),
        };
        Self {
            fields: Fields::of("McpServer")
                .with("transport", Field::plain("stdio"))
                .with("command", command),
        }
    }

    /// Creates a remote server that uses streamable HTTP.
    pub fn http(url: impl Into<String>) -> Self {
        Self::remote("http", url.into())
    }

    /// Creates a remote server that uses server-sent events.
    pub fn sse(url: impl Into<String>) -> Self {
        Self::remote("sse", url.into())
    }

    /// Adds a header to every request.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        let name = name.into();
        let value = if name.eq_ignore_ascii_case(AUTHORIZATION) && self.fields.get("auth").is_some()
        {
            Field::refused(TWICE)
        } else {
            Field::secret(value)
        };
        self.fields.insert("headers", name, value);
        self
    }

    /// Sets the authentication method. Cannot be combined with an `Authorization` header.
    pub fn auth(mut self, auth: McpAuth) -> Self {
        let headers = self.fields.get("headers");
        let auth = match headers.is_some_and(|headers| headers.has(AUTHORIZATION)) {
            true => Field::refused(TWICE),
            false => auth.into(),
        };
        self.fields.put("auth", auth);
        self
    }

    /// Creates a server from fields that were already checked.
    pub(super) fn of(fields: Fields) -> Self {
        Self { fields }
    }

    fn remote(transport: &'static str, url: String) -> Self {
        let url = match url.as_str() {
            "" => Field::refused("must be the URL of the server"),
            _ => Field::endpoint(url),
        };
        Self {
            fields: Fields::of("McpServer")
                .with("transport", Field::plain(transport))
                .with("url", url),
        }
    }
}

model! {
    /// The authentication method of an MCP server (Model Context Protocol).
    pub struct McpAuth;
    by_hand: ["strategy", "value", "header_name", "username", "password"];

    /// Adds a header, for [`headers`](Self::headers).
    secrets headers/header;
    /// Sets the client identification, for [`oauth`](Self::oauth).
    model authentication: McpOAuth;
    /// Sets the result of an earlier authorization, for [`oauth`](Self::oauth).
    model state: McpOAuthState;
}

impl McpAuth {
    /// Uses no authentication.
    pub fn none() -> Self {
        Self::of("none")
    }

    /// Uses an API key in a header, or as a bearer token if `header` is `None`.
    pub fn api_key(key: impl Into<SecretString>, header: Option<&str>) -> Self {
        let mut auth = Self::of("api_key");
        auth.fields.put("value", Field::secret(key));
        if let Some(header) = header {
            auth.fields.put("header_name", Field::plain(header));
        }
        auth
    }

    /// Uses a bearer token.
    pub fn bearer(token: impl Into<SecretString>) -> Self {
        let mut auth = Self::of("bearer");
        auth.fields.put("value", Field::secret(token));
        auth
    }

    /// Uses a user name and a password.
    pub fn basic(username: impl Into<String>, password: impl Into<SecretString>) -> Self {
        let mut auth = Self::of("basic");
        auth.fields.put("username", username.into());
        auth.fields.put("password", Field::secret(password));
        auth
    }

    /// Uses headers, which are added with [`header`](Self::header).
    pub fn headers() -> Self {
        Self::of("header")
    }

    /// Uses OAuth.
    pub fn oauth() -> Self {
        Self::of("oauth2")
    }

    fn of(strategy: &'static str) -> Self {
        Self {
            fields: Fields::of("McpAuth").with("strategy", Field::plain(strategy)),
        }
    }
}

model! {
    /// The identification of an OAuth client.
    pub struct McpOAuth;
    by_hand: ["type"];

    /// Sets the client authentication method: `none`, `client_secret_post`, `client_secret_basic`
    /// or `private_key_jwt`.
    text client_auth_method;
    /// Sets the requested scopes.
    list scopes: String;
    /// Sets the client's display name.
    text client_name;
    /// Sets the URL of the client's metadata document.
    text client_metadata_url;
    /// Sets the client id, if the client is registered.
    text client_id;
    /// Sets the client secret, if the client is registered.
    secret client_secret;
    /// Adds any other metadata for the client's registration. Not shown.
    json additional_client_metadata/client_metadata;
}

impl McpOAuth {
    /// Creates a client that registers itself.
    pub fn new() -> Self {
        Self {
            fields: Fields::of("McpOAuth").with("type", Field::plain("oauth")),
        }
    }
}

impl Default for McpOAuth {
    fn default() -> Self {
        Self::new()
    }
}

model! {
    /// The result of an earlier OAuth authorization.
    pub struct McpOAuthState;
    by_hand: ["tokens", "client_info"];

    /// Sets when the access token expires, in seconds since 1970.
    value token_expires_at: f64;
}

impl McpOAuthState {
    /// Creates an empty state.
    pub fn new() -> Self {
        Self {
            fields: Fields::of("McpOAuthState"),
        }
    }

    /// Sets the access token.
    pub fn access_token(mut self, token: impl Into<SecretString>) -> Self {
        self.fields
            .insert("tokens", "access_token", Field::secret(token));
        self
    }

    /// Sets the refresh token.
    pub fn refresh_token(mut self, token: impl Into<SecretString>) -> Self {
        self.fields
            .insert("tokens", "refresh_token", Field::secret(token));
        self
    }

    /// Sets the client secret from the client's registration.
    pub fn client_secret(mut self, secret: impl Into<SecretString>) -> Self {
        let secret = Field::secret(secret);
        self.fields.insert("client_info", "client_secret", secret);
        self
    }
}

impl Default for McpOAuthState {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_an_mcp_server_are_not_shown() {
        let state = McpOAuthState::new()
            .access_token("canary")
            .refresh_token("canary")
            .client_secret("canary");
        let oauth = McpOAuth::new()
            .client_secret("canary")
            .client_metadata("k", "canary");
        let shown = format!(
            "{:?}",
            [
                McpServer::stdio("uvx")
                    .args(["--token", "canary"])
                    .env("TOKEN", "canary"),
                McpServer::http("https://u:canary@h/mcp?key=canary").header("X", "canary"),
                McpServer::sse("https://h").auth(McpAuth::bearer("canary")),
                McpServer::sse("https://h").auth(McpAuth::api_key("canary", Some("X-Key"))),
                McpServer::sse("https://h").auth(McpAuth::basic("u", "canary")),
                McpServer::sse("https://h").auth(McpAuth::headers().header("X", "canary")),
                McpServer::sse("https://h")
                    .auth(McpAuth::oauth().authentication(oauth).state(state)),
            ]
        );
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn an_mcp_server_requires_a_location() {
        for server in [
            McpServer::stdio(""),
            McpServer::http(""),
            McpServer::sse(""),
        ] {
            assert!(server.check().is_err());
        }
        let auth = || McpAuth::bearer("t");
        for server in [
            McpServer::http("h")
                .auth(auth())
                .header("Authorization", "t"),
            McpServer::http("h")
                .header("authorization", "t")
                .auth(auth()),
        ] {
            assert!(server.check().is_err());
        }
        McpServer::http("h")
            .header("X", "t")
            .auth(auth())
            .check()
            .unwrap();
        let masked = McpServer::stdio("x").env("KEY", "**********");
        let error = masked.check().unwrap_err().to_string();
        assert!(error.starts_with("env.KEY: the server's mask"), "{error}");
    }
}
