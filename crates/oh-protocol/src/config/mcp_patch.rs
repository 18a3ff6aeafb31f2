//! Changes of an MCP server that is stored on the server.

use secrecy::SecretString;

use super::{
    fields::{Field, Fields},
    mcp::McpAuth,
    model::model,
};

model! {
    /// Changes of some fields of an MCP server in the settings. Fields that are not set keep their
    /// values. `None` resets a field to its default.
    ///
    /// ```
    /// use oh_protocol::config::McpServerPatch;
    ///
    /// let patch = McpServerPatch::new().env("TOKEN", "new").remove_env("OLD").enabled(false);
    /// assert!(!format!("{patch:?}").contains("new"));
    /// ```
    pub struct McpServerPatch;
    by_hand: ["transport", "command", "url", "args", "env", "headers", "auth"];

    /// Changes the program's working directory.
    nullable cwd: String;
    /// Changes the description of the server.
    nullable description: String;
    /// Changes the URL of the icon.
    nullable icon: String;
    /// Changes the timeout of a request.
    nullable_seconds timeout;
    /// Changes the maximum time without data in an event stream.
    nullable_seconds sse_read_timeout;
    /// Changes whether the connection is kept open between calls.
    nullable keep_alive: bool;
    /// Changes whether agents can use the server's tools. Server default: true.
    nullable enabled: bool;
}

impl McpServerPatch {
    /// Creates a patch without changes.
    pub fn new() -> Self {
        Self {
            fields: Fields::of("McpServerPatch"),
        }
    }

    /// Changes the program to run.
    pub fn command(mut self, command: impl Into<String>) -> Self {
        self.fields.put("command", command.into());
        self
    }

    /// Changes the arguments of the program. Not shown, because arguments may contain secrets.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let args: Vec<String> = args.into_iter().map(Into::into).collect();
        self.fields.put("args", Field::hidden(args.into()));
        self
    }

    /// Changes the URL of the server.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.fields.put("url", Field::endpoint(url));
        self
    }

    /// Changes the transport: `stdio`, `http`, `streamable-http` or `sse`.
    pub fn transport(mut self, transport: impl Into<String>) -> Self {
        self.fields.put("transport", transport.into());
        self
    }

    /// Sets a variable in the program's environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.fields.insert("env", name, Field::secret(value));
        self
    }

    /// Removes a variable from the program's environment.
    pub fn remove_env(mut self, name: impl Into<String>) -> Self {
        self.fields.insert("env", name, Field::plain(()));
        self
    }

    /// Sets a header of every request.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.fields.insert("headers", name, Field::secret(value));
        self
    }

    /// Removes a header.
    pub fn remove_header(mut self, name: impl Into<String>) -> Self {
        self.fields.insert("headers", name, Field::plain(()));
        self
    }

    /// Changes the authentication method. `None` removes it.
    pub fn auth(mut self, auth: impl Into<Option<McpAuth>>) -> Self {
        let auth = auth.into().map_or(Field::plain(()), Field::from);
        self.fields.put("auth", auth);
        self
    }
}

impl Default for McpServerPatch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_changes_are_sent_and_null_removes() {
        let patch = McpServerPatch::new()
            .url("https://h/s/canary")
            .env("A", "canary")
            .remove_env("B")
            .header("X", "canary")
            .remove_header("Y")
            .timeout(None)
            .enabled(None)
            .auth(None);
        let wire = serde_json::to_value(&patch).unwrap();
        assert_eq!(
            wire,
            json!({"url": "https://h/s/canary", "env": {"A": "canary", "B": null},
                "headers": {"X": "canary", "Y": null}, "timeout": null, "enabled": null,
                "auth": null})
        );
        assert!(!format!("{patch:?}").contains("canary"));
        let masked = McpServerPatch::new().env("A", "**********");
        assert!(masked.check().is_err());
    }
}
