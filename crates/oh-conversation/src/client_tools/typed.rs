//! Client tools whose arguments are a Rust type: the JSON Schema for the model is derived from it.

use std::future::Future;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ClientTool, ClientToolCall, ToolError, ToolResult};

/// A handler of a client tool with typed arguments. Implemented by closures and functions that take
/// the arguments and the call, and return a future like that of a handler of [`ClientTool::new`].
pub trait ToolHandler<Args>:
    Fn(Args, ClientToolCall) -> Self::Future + Send + Sync + 'static
{
    /// The result of a successful call.
    type Success: Into<ToolResult>;
    /// The future that the handler returns.
    type Future: Future<Output = Result<Self::Success, ToolError>> + Send + 'static;
}

impl<Args, F, Fut, R> ToolHandler<Args> for F
where
    F: Fn(Args, ClientToolCall) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, ToolError>> + Send + 'static,
    R: Into<ToolResult>,
{
    type Success = R;
    type Future = Fut;
}

impl ClientTool {
    /// Creates a tool whose arguments are a Rust type. Requires the feature `schemars`.
    ///
    /// The parameters for the model are the JSON Schema of `Args`; the comments on its fields are
    /// their descriptions. [`schemars`](crate::schemars) is re-exported. `Args` must be a struct
    /// with named fields. A field that is an [`Option`], or has `#[serde(default)]`, is optional.
    ///
    /// ```
    /// use oh_conversation::{ClientTool, schemars};
    ///
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// struct Deploy {
    ///     /// The branch to deploy.
    ///     branch: String,
    ///     /// How many instances to start.
    ///     #[serde(default)]
    ///     instances: u8,
    /// }
    ///
    /// let deploy = ClientTool::typed::<Deploy>(
    ///     "deploy",
    ///     "Deploys a branch.",
    ///     |arguments, _call| async move { Ok(format!("{} is on its way", arguments.branch)) },
    /// );
    /// # let _ = deploy;
    /// ```
    ///
    /// If the model's arguments cannot be decoded as `Args`, the handler is not called. The agent
    /// receives the reason as the result, with the path of the invalid argument.
    ///
    /// The start of a conversation fails with [`ErrorKind::InvalidInput`](crate::ErrorKind) if the
    /// server could never accept the arguments. `Args` must not be or flatten a map or an enum. The
    /// server reserves the names `security_risk` and `model_config`, and all names that begin with
    /// an underscore.
    pub fn typed<Args>(
        name: impl Into<String>,
        description: impl Into<String>,
        handler: impl ToolHandler<Args>,
    ) -> Self
    where
        Args: DeserializeOwned + JsonSchema + 'static,
    {
        let schema = schema::<Args>();
        let unusable = unusable(&schema);
        let handler = move |call: ClientToolCall| {
            let handling = call.decode().map(|arguments| handler(arguments, call));
            async move {
                match handling {
                    Ok(handling) => Ok(handling.await?.into()),
                    Err(reason) => Err(ToolError::from(format!(
                        "invalid arguments: {reason}; correct the arguments and call the tool again"
                    ))),
                }
            }
        };
        let mut tool = Self::new(name, description, handler);
        if unusable.is_none() {
            tool = tool.parameters(schema);
        }
        tool.unusable = unusable;
        tool
    }
}

/// Returns the JSON Schema of a type, without references where that is possible: some models do not
/// resolve them.
fn schema<Args: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<Args>();
    schema.remove("title");
    schema.to_value()
}

/// Returns why the server can never accept arguments with this schema. It accepts only arguments
/// that are in `properties` at the top, and none whose name it uses itself.
fn unusable(schema: &Value) -> Option<String> {
    if schema["type"] != "object" || schema.get("$ref").is_some() {
        return Some("the arguments must be a struct with named fields".to_owned());
    }
    let more = schema.get("additionalProperties");
    if more.is_some_and(|more| *more != Value::Bool(false)) {
        return Some("the arguments must not be or flatten a map".to_owned());
    }
    if ["oneOf", "anyOf", "allOf"]
        .iter()
        .any(|key| schema.get(key).is_some())
    {
        return Some("the arguments must not be or flatten an enum".to_owned());
    }
    let names = schema["properties"].as_object()?.keys();
    let reserved =
        |name: &str| name.starts_with('_') || matches!(name, "security_risk" | "model_config");
    let name = names.into_iter().find(|name| reserved(name))?;
    Some(format!(
        "the server reserves the name `{name}`: rename the argument"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use oh_protocol::{ConversationId, Event};
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize, JsonSchema)]
    struct Order {
        /// The item to buy.
        item: String,
        #[serde(default)]
        count: u8,
        size: Option<Size>,
        #[serde(default)]
        notes: Vec<Note>,
    }

    #[derive(Debug, PartialEq, serde::Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Size {
        Small,
        Large,
    }

    #[derive(Debug, PartialEq, serde::Deserialize, JsonSchema)]
    struct Note {
        text: String,
    }

    fn call(arguments: Value) -> ClientToolCall {
        let mut action = arguments;
        action["kind"] = json!("ClientAction_order");
        let event = json!({"kind": "ActionEvent", "id": "a-1", "source": "agent",
            "tool_name": "order", "tool_call_id": "call_9", "action": action});
        ClientToolCall {
            conversation: ConversationId::random(),
            event: Event::from_json(event.to_string()).unwrap(),
        }
    }

    async fn result(arguments: Value) -> ToolResult {
        let tool = ClientTool::typed::<Order>("order", "Orders.", |order, call| async move {
            assert_eq!(call.id(), "a-1");
            Ok(format!("{order:?}"))
        });
        (tool.handler)(call(arguments)).await
    }

    #[test]
    fn the_schema_is_the_type_without_references() {
        let expected = json!({
            "type": "object",
            "properties": {
                "item": {"type": "string", "description": "The item to buy."},
                "count": {"type": "integer", "format": "uint8", "minimum": 0, "maximum": 255,
                    "default": 0},
                "size": {"type": ["string", "null"], "enum": ["small", "large", null]},
                "notes": {"type": "array", "items": {"type": "object",
                    "properties": {"text": {"type": "string"}}, "required": ["text"]}},
            },
            "required": ["item"],
        });
        assert_eq!(schema::<Order>(), expected);
        assert_eq!(unusable(&expected), None);
    }

    #[tokio::test]
    async fn arguments_are_decoded_also_where_the_server_filled_in_nulls() {
        for arguments in [
            json!({"item": "tea"}),
            json!({"item": "tea", "count": null, "size": null, "notes": null}),
        ] {
            let order = "Order { item: \"tea\", count: 0, size: None, notes: [] }";
            assert_eq!(result(arguments).await, ToolResult::text(order));
        }
    }

    #[tokio::test]
    async fn invalid_arguments_are_reported_to_the_agent_with_their_path() {
        for (arguments, reason) in [
            (json!({}), "missing field `item`"),
            (
                json!({"item": "tea", "size": "huge"}),
                "size: unknown variant `huge`, expected `small` or `large`",
            ),
            (
                json!({"item": "tea", "notes": [{"text": "a"}, {"text": 7}]}),
                "notes[1].text: invalid type: integer `7`, expected a string",
            ),
            (
                json!({"item": "tea", "count": 300}),
                "count: invalid value: integer `300`, expected u8",
            ),
        ] {
            let expected = format!(
                "It failed: invalid arguments: {reason}; correct the arguments and call the tool \
                 again"
            );
            assert_eq!(result(arguments).await, ToolResult::text(expected));
        }
    }

    #[derive(serde::Deserialize, JsonSchema)]
    #[serde(tag = "kind")]
    #[allow(dead_code, reason = "only the schema counts")]
    enum Tagged {
        One { a: u8 },
    }

    #[derive(serde::Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only the schema counts")]
    struct Flat {
        item: String,
        #[serde(flatten)]
        rest: BTreeMap<String, Value>,
    }

    #[derive(serde::Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only the schema counts")]
    struct FlatEnum {
        item: String,
        #[serde(flatten)]
        rest: Tagged,
    }

    #[derive(serde::Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only the schema counts")]
    struct Reserved {
        security_risk: String,
    }

    #[derive(serde::Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only the schema counts")]
    struct Private {
        #[serde(rename = "_id")]
        id: String,
    }

    #[derive(serde::Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only the schema counts")]
    struct Tree {
        children: Vec<Tree>,
    }

    #[test]
    fn types_that_the_server_can_never_accept_are_unusable() {
        for (schema, reason) in [
            (schema::<String>(), "a struct with named fields"),
            (schema::<(u8, u8)>(), "a struct with named fields"),
            (schema::<Option<Order>>(), "a struct with named fields"),
            (schema::<Tagged>(), "a struct with named fields"),
            (schema::<BTreeMap<String, u8>>(), "a map"),
            (schema::<Flat>(), "a map"),
            (schema::<FlatEnum>(), "an enum"),
            (schema::<Reserved>(), "`security_risk`"),
            (schema::<Private>(), "`_id`"),
        ] {
            let found = unusable(&schema).unwrap_or_default();
            assert!(found.contains(reason), "{schema}: {found:?}");
        }
        let tree = schema::<Tree>();
        assert_eq!(unusable(&tree), None, "{tree}");
        let tool = ClientTool::typed::<Flat>("t", "d", |_, _| async { Ok(()) });
        assert!(tool.unusable().is_some());
        assert!(
            tool.parameters(json!({"type": "object"}))
                .unusable()
                .is_none()
        );
    }
}
