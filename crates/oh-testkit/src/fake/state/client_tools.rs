//! Client tools of a conversation: the agent calls them, the server answers at once, and a client
//! executes them.

use serde_json::{Value, json};

use crate::fake::state::conversation::Conversation;

/// The `kind` of the observations.
pub(crate) const OBSERVATION: &str = "ClientToolObservation";

/// The server's answer to each call.
pub(crate) const DISPATCHED: &str = "Tool call dispatched to client.";

/// Returns the client tool of a conversation with this name.
pub(crate) fn find(conversation: &Conversation, name: &str) -> Option<Value> {
    let inner = conversation.lock();
    let tools = inner.info["client_tools"].as_array()?;
    tools.iter().find(|tool| tool["name"] == name).cloned()
}

/// Returns the entries of all client tools for the event with the system prompt.
pub(crate) fn described(conversation: &Conversation) -> Vec<Value> {
    let inner = conversation.lock();
    let tools = inner.info["client_tools"].as_array();
    let describe = |tool: &Value| {
        let name = tool["name"].as_str().unwrap_or_default();
        json!({
            "description": tool["description"],
            "action_type": kind(name),
            "observation_type": OBSERVATION,
            "client_tool_name": name,
            "input_schema": tool["parameters"],
            "kind": "ClientTool",
            "title": name,
        })
    };
    tools.into_iter().flatten().map(describe).collect()
}

/// Returns the `kind` of a tool's actions.
pub(crate) fn kind(tool: &str) -> String {
    format!("ClientAction_{tool}")
}

/// Checks the names of the arguments as the server does: all required ones, and no others.
pub(crate) fn check(tool: &Value, arguments: &Value) -> Result<(), &'static str> {
    let schema = &tool["parameters"];
    let given = arguments
        .as_object()
        .ok_or("the arguments are not an object")?;
    if given
        .keys()
        .any(|name| schema["properties"].get(name).is_none())
    {
        return Err("the tool has no such argument");
    }
    let required = schema["required"].as_array();
    let names = required.into_iter().flatten().filter_map(Value::as_str);
    match names.into_iter().all(|name| given.contains_key(name)) {
        true => Ok(()),
        false => Err("a required argument is missing"),
    }
}

/// Returns the action of a call. An argument named `kind` is renamed, because that is the server's
/// own field.
pub(crate) fn action(tool: &str, arguments: &Value) -> Value {
    let mut action = arguments.clone();
    if let Value::Object(fields) = &mut action
        && let Some(own) = fields.remove("kind")
    {
        fields.insert("mcp_arg_kind".to_owned(), own);
    }
    action["kind"] = json!(kind(tool));
    action
}
