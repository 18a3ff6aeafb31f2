//! Servers of the Model Context Protocol, and how they are signed in to.

use secrecy::SecretString;

use super::{
    fields::{Field, Fields},
    model::model,
};

const AUTHORIZATION: &str = "authorization";

const TWICE: &str = "there is `auth` and a header `Authorization`: one is enough";

model! {
    /// A server of the Model Context Protocol, whose tools an agent gets.
    pub struct McpServer;
    by_hand: ["transport", "command", "url", "headers", "auth"];

    /// The program's arguments. Not shown: they may hold secrets.
    hidden args;
    /// Sets a variable in the program's environment.
    secrets env/env;
    /// The program's directory.
    text cwd;
    /// What it is for.
    text description;
    /// A picture of it, by its address.
    text icon;
    /// How long a request may take, in seconds.
    value timeout: f64;
    /// How long an event stream may be silent, in seconds.
    value sse_read_timeout: f64;
    /// Whether the connection is kept between calls.
    value keep_alive: bool;
    /// Whether the agent gets its tools. Server's default: yes.
    value enabled: bool;
}

impl McpServer {
    /// A program, by its command.
    pub fn stdio(command: impl Into<String>) -> Self {
        let command = command.into();
        let command = match command.as_str() {
            "" => Field::refused("it names the program to run"),
            _ => command.into(),
        };
        Self {
            fields: Fields::of("McpServer")
                .with("transport", Field::plain("stdio"))
                .with("command", command),
        }
    }

    /// A remote server, over streamable HTTP.
    pub fn http(url: impl Into<String>) -> Self {
        Self::remote("http", url.into())
    }

    /// A remote server, over server-sent events.
    pub fn sse(url: impl Into<String>) -> Self {
        Self::remote("sse", url.into())
    }

    /// A header of every request.
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

    /// How the server is signed in to; not along with a header `Authorization`.
    pub fn auth(mut self, auth: McpAuth) -> Self {
        let headers = self.fields.get("headers");
        let auth = match headers.is_some_and(|headers| headers.has(AUTHORIZATION)) {
            true => Field::refused(TWICE),
            false => auth.into(),
        };
        self.fields.put("auth", auth);
        self
    }

    /// One whose fields have been checked.
    pub(super) fn of(fields: Fields) -> Self {
        Self { fields }
    }

    fn remote(transport: &'static str, url: String) -> Self {
        let url = match url.as_str() {
            "" => Field::refused("it says where the server is"),
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
    /// How a server of the Model Context Protocol is signed in to.
    pub struct McpAuth;
    by_hand: ["strategy", "value", "header_name", "username", "password"];

    /// Adds a header, for [`headers`](Self::headers).
    secrets headers/header;
    /// How the client identifies itself, for [`oauth`](Self::oauth).
    model authentication: McpOAuth;
    /// What an earlier authorization gave, for [`oauth`](Self::oauth).
    model state: McpOAuthState;
}

impl McpAuth {
    /// Not at all.
    pub fn none() -> Self {
        Self::of("none")
    }

    /// By a key in a header, or as a bearer token if no header is named.
    pub fn api_key(key: impl Into<SecretString>, header: Option<&str>) -> Self {
        let mut auth = Self::of("api_key");
        auth.fields.put("value", Field::secret(key));
        if let Some(header) = header {
            auth.fields.put("header_name", Field::plain(header));
        }
        auth
    }

    /// By a bearer token.
    pub fn bearer(token: impl Into<SecretString>) -> Self {
        let mut auth = Self::of("bearer");
        auth.fields.put("value", Field::secret(token));
        auth
    }

    /// By name and password.
    pub fn basic(username: impl Into<String>, password: impl Into<SecretString>) -> Self {
        let mut auth = Self::of("basic");
        auth.fields.put("username", username.into());
        auth.fields.put("password", Field::secret(password));
        auth
    }

    /// By headers that [`header`](Self::header) gives.
    pub fn headers() -> Self {
        Self::of("header")
    }

    /// By OAuth.
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
    /// How a client of OAuth identifies itself.
    pub struct McpOAuth;
    by_hand: ["type"];

    /// How it proves who it is: `none`, `client_secret_post`, `client_secret_basic` or
    /// `private_key_jwt`.
    text client_auth_method;
    /// What it asks for.
    list scopes: String;
    /// Its name for people.
    text client_name;
    /// Where its description is.
    text client_metadata_url;
    /// Its id, if it is registered.
    text client_id;
    /// Its secret, if it is registered.
    secret client_secret;
    /// Adds anything else for its registration. Not shown.
    json additional_client_metadata/client_metadata;
}

impl McpOAuth {
    /// A client that registers itself.
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
    /// What an earlier OAuth authorization gave.
    pub struct McpOAuthState;
    by_hand: ["tokens", "client_info"];

    /// When the access token ends, in seconds since 1970.
    value token_expires_at: f64;
}

impl McpOAuthState {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            fields: Fields::of("McpOAuthState"),
        }
    }

    /// The token for requests.
    pub fn access_token(mut self, token: impl Into<SecretString>) -> Self {
        self.fields
            .insert("tokens", "access_token", Field::secret(token));
        self
    }

    /// The token for new tokens.
    pub fn refresh_token(mut self, token: impl Into<SecretString>) -> Self {
        self.fields
            .insert("tokens", "refresh_token", Field::secret(token));
        self
    }

    /// The secret that the client was given at its registration.
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
    fn no_way_to_sign_in_is_shown() {
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
    fn a_server_is_somewhere() {
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
