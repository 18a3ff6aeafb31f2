//! Tools: those that the server runs, and those that the client executes.

use serde_json::{Value, json};

use super::{
    fields::{Field, Fields},
    model::model,
};

model! {
    /// A tool, identified by its registered name, with parameters (`Tool` on the server).
    ///
    /// The server's own tools include `terminal`, `file_editor`, `task_tracker`,
    /// `browser_tool_set`, `apply_patch`, `glob`, `grep` and `task_tool_set`. `GET /api/tools/`
    /// returns all names.
    pub struct ToolSpec;
    by_hand: ["name"];

    /// Sets a parameter. The value is not shown.
    json params/param;
}

impl ToolSpec {
    /// Creates a tool with its default parameters.
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
    /// A tool that the agent calls and the client executes.
    ///
    /// The server acknowledges the call immediately, and the agent continues. The client sees the
    /// call as an `ActionEvent`. A result can only be sent as a new message.
    ///
    /// A server keeps the first schema of a tool name until the server exits. Another schema with
    /// the same name is rejected in all conversations.
    pub struct ClientToolSpec;
    by_hand: ["name", "parameters"];

    /// Sets the description for the model: when to use the tool, and how.
    text description;
    /// Sets the effects of the tool, so that its risk can be rated.
    model annotations: ToolAnnotations;
}

impl ClientToolSpec {
    /// Creates a tool without parameters. The description is sent to the model.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        let fields = Fields::of("ClientToolSpec").with("name", named(name.into()));
        Self { fields }
            .description(description)
            .parameters(json!({"type": "object", "properties": {}}))
    }

    /// Sets the parameters, as a JSON Schema of type `object`.
    pub fn parameters(mut self, schema: impl Into<Value>) -> Self {
        let schema = schema.into();
        let field = match schema.get("type").and_then(Value::as_str) {
            Some("object") => Field::plain(schema),
            _ => Field::refused(
                "must be a JSON Schema of an object: {\"type\": \"object\", \"properties\": …}",
            ),
        };
        self.fields.put("parameters", field);
        self
    }
}

fn named(name: String) -> Field {
    if name.trim().is_empty() {
        return Field::refused("the tool name must not be empty");
    }
    name.into()
}

model! {
    /// The declared effects of a tool (`ToolAnnotations` of the Model Context Protocol).
    pub struct ToolAnnotations;
    by_hand: ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"];

    /// Sets the display title.
    text title;
}

impl ToolAnnotations {
    /// Creates empty annotations: the tool may do anything.
    pub fn new() -> Self {
        Self {
            fields: Fields::of("ToolAnnotations"),
        }
    }

    /// Sets whether the tool changes nothing (`readOnlyHint`). Server default: false.
    pub fn read_only(self, is: bool) -> Self {
        self.hint("readOnlyHint", is)
    }

    /// Sets whether the tool's changes may be destructive (`destructiveHint`). Server default:
    /// true.
    pub fn destructive(self, is: bool) -> Self {
        self.hint("destructiveHint", is)
    }

    /// Sets whether repeated calls have no further effect (`idempotentHint`). Server default:
    /// false.
    pub fn idempotent(self, is: bool) -> Self {
        self.hint("idempotentHint", is)
    }

    /// Sets whether the tool interacts with external systems (`openWorldHint`). Server default:
    /// true.
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
    fn a_schema_that_is_not_an_object_is_rejected() {
        let tool = ClientToolSpec::new("t", "d");
        tool.check().unwrap();
        for schema in [json!({"type": "string"}), json!({}), json!([]), Value::Null] {
            let error = tool.clone().parameters(schema).check().unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("parameters: must be a JSON Schema")
            );
        }
    }

    #[test]
    fn a_tool_needs_a_name() {
        for error in [
            ToolSpec::new("").check().unwrap_err(),
            ClientToolSpec::new(" ", "d").check().unwrap_err(),
        ] {
            assert_eq!(error.to_string(), "name: the tool name must not be empty");
        }
    }

    #[test]
    fn parameters_are_not_shown() {
        let tool = ToolSpec::new("terminal").param("env", json!({"TOKEN": "canary"}));
        assert!(!format!("{tool:?}").contains("canary"));
    }
}
