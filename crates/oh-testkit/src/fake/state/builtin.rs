//! The built-in tools that the fake server supports: their names, tool sets and event fields. Their
//! observations are in `tools`.

use serde_json::{Value, json};

/// A tool set that has one name in an agent's configuration.
const BROWSER: &str = "browser_tool_set";

/// The tools of [`BROWSER`], in the server's order.
const BROWSER_TOOLS: [&str; 14] = [
    "browser_navigate",
    "browser_click",
    "browser_get_state",
    "browser_get_content",
    "browser_type",
    "browser_scroll",
    "browser_go_back",
    "browser_list_tabs",
    "browser_switch_tab",
    "browser_close_tab",
    "browser_get_storage",
    "browser_set_storage",
    "browser_start_recording",
    "browser_stop_recording",
];

/// The names that an agent's configuration may use: the tools of the server's default agent.
pub(crate) const GIVEN: [&str; 4] = ["terminal", "file_editor", "task_tracker", BROWSER];

/// The tools of every agent.
pub(crate) const ALWAYS: [&str; 2] = ["finish", "think"];

/// Returns whether an agent can call a tool with this name.
pub(crate) fn has(name: &str) -> bool {
    let given = GIVEN.contains(&name) && name != BROWSER;
    given || ALWAYS.contains(&name) || BROWSER_TOOLS.contains(&name)
}

/// Returns the tools for a name in an agent's configuration.
pub(crate) fn members(name: &str) -> Vec<String> {
    match name {
        BROWSER => BROWSER_TOOLS.map(str::to_owned).into(),
        _ => vec![name.to_owned()],
    }
}

/// Returns whether the server declares a tool as read-only.
pub(crate) fn only_reads(tool: &str) -> bool {
    const READERS: [&str; 13] = [
        "ask_oracle",
        "browser_get_content",
        "browser_get_state",
        "browser_get_storage",
        "browser_list_tabs",
        "finish",
        "glob",
        "grep",
        "invoke_skill",
        "list_directory",
        "read_file",
        "think",
        "vision_inspect",
    ];
    READERS.contains(&tool)
}

/// Returns the `kind` of a tool's observations.
pub(crate) fn observation_kind(tool: &str) -> String {
    match BROWSER_TOOLS.contains(&tool) {
        true => "BrowserObservation".to_owned(),
        false => format!("{}Observation", camel(tool)),
    }
}

/// Adds the default values of fields that a model may omit.
pub(crate) fn complete(tool: &str, action: &mut Value) {
    let defaults = match tool {
        "terminal" => json!({"is_input": false, "reset": false}),
        "browser_navigate" | "browser_click" => json!({"new_tab": false}),
        "browser_get_state" => json!({"include_screenshot": false}),
        "browser_get_content" => json!({"extract_links": false, "start_from_char": 0}),
        "browser_scroll" => json!({"direction": "down"}),
        _ => return,
    };
    for (field, default) in defaults.as_object().into_iter().flatten() {
        if action[field].is_null() {
            action[field] = default.clone();
        }
    }
}

/// Converts a name to camel case, as in class names: `file_editor` becomes `FileEditor`.
pub(crate) fn camel(tool: &str) -> String {
    let mut name = String::new();
    for word in tool.split(['_', '-']) {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}
