//! Tools: those the server runs, and those it leaves to its client.

use serde_json::{Value, json};

use super::{
    fields::{Field, Fields},
    model::model,
};

model! {
    /// A tool by its registered name, with its parameters (`Tool` on the server).
    ///
    /// Names of the server's own: `terminal`, `file_editor`, `task_tracker`,
    /// `browser_tool_set`, `apply_patch`, `glob`, `grep`, `task_tool_set` and others;
    /// `GET /api/tools/` lists them.
    pub struct ToolSpec;
    by_hand: ["name"];

    /// Sets a parameter. Its value is not shown.
    json params/param;
}

impl ToolSpec {
    /// A tool with its default parameters.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("ToolSpec").with("name", named(name.into())),
        }
    }
}

impl From<&str> for ToolSpec {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for ToolSpec {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

model! {
    /// A tool that the agent calls and the client carries out.
    ///
    /// The server answers the call itself, at once, and goes on; the call is seen as an
    /// `ActionEvent`. There is no way back for a result but another message.
    ///
    /// A server holds on to a name's first schema until it ends: another schema under the same
    /// name is refused, in whatever conversation.
    pub struct ClientToolSpec;
    by_hand: ["name", "parameters"];

    /// What the model is told of it: when to use it, and how.
    text description;
    /// What calling it does, so that its risk can be judged.
    model annotations: ToolAnnotations;
}

impl ClientToolSpec {
    /// A tool by its name, with no parameters. The model is told this of it.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        let fields = Fields::of("ClientToolSpec").with("name", named(name.into()));
        Self { fields }
            .description(description)
            .parameters(json!({"type": "object", "properties": {}}))
    }

    /// Its parameters, as a JSON Schema of type `object`.
    pub fn parameters(mut self, schema: impl Into<Value>) -> Self {
        let schema = schema.into();
        let field = match schema.get("type").and_then(Value::as_str) {
            Some("object") => Field::plain(schema),
            _ => Field::refused(
                "it is a JSON Schema of an object: {\"type\": \"object\", \"properties\": …}",
            ),
        };
        self.fields.put("parameters", field);
        self
    }
}

fn named(name: String) -> Field {
    if name.trim().is_empty() {
        return Field::refused("a tool needs a name");
    }
    name.into()
}

model! {
    /// What a tool says of its effects (`ToolAnnotations` of the Model Context Protocol).
    pub struct ToolAnnotations;
    by_hand: ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"];

    /// A title for people.
    text title;
}

impl ToolAnnotations {
    /// Nothing said: may do anything.
    pub fn new() -> Self {
        Self {
            fields: Fields::of("ToolAnnotations"),
        }
    }

    /// Whether it changes nothing (`readOnlyHint`). Server's default: no.
    pub fn read_only(self, is: bool) -> Self {
        self.hint("readOnlyHint", is)
    }

    /// Whether its changes may destroy something (`destructiveHint`). Server's default: yes.
    pub fn destructive(self, is: bool) -> Self {
        self.hint("destructiveHint", is)
    }

    /// Whether calling it again changes nothing more (`idempotentHint`). Server's default: no.
    pub fn idempotent(self, is: bool) -> Self {
        self.hint("idempotentHint", is)
    }

    /// Whether it deals with the world outside (`openWorldHint`). Server's default: yes.
    pub fn open_world(self, is: bool) -> Self {
        self.hint("openWorldHint", is)
    }

    fn hint(mut self, name: &'static str, is: bool) -> Self {
        self.fields.put(name, Field::plain(is));
        self
    }
}

impl Default for ToolAnnotations {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_of_anything_but_an_object_is_refused() {
        let tool = ClientToolSpec::new("t", "d");
        tool.check().unwrap();
        for schema in [json!({"type": "string"}), json!({}), json!([]), Value::Null] {
            let error = tool.clone().parameters(schema).check().unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("parameters: it is a JSON Schema")
            );
        }
    }

    #[test]
    fn a_tool_needs_a_name() {
        for error in [
            ToolSpec::new("").check().unwrap_err(),
            ClientToolSpec::new(" ", "d").check().unwrap_err(),
        ] {
            assert_eq!(error.to_string(), "name: a tool needs a name");
        }
    }

    #[test]
    fn parameters_are_not_shown() {
        let tool = ToolSpec::new("terminal").param("env", json!({"TOKEN": "canary"}));
        assert!(!format!("{tool:?}").contains("canary"));
    }
}
