//! The tools that each server has, as far as the fake server plays them: names, sets of tools, and
//! the words of their events. What they answer is decided in `tools`.

use serde_json::{Value, json};

/// A set of tools that an agent is given by one name.
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

/// What an agent can be given by name: the tools of the server's default agent.
pub(super) const GIVEN: [&str; 4] = ["terminal", "file_editor", "task_tracker", BROWSER];

/// What each agent has.
pub(super) const ALWAYS: [&str; 2] = ["finish", "think"];

/// Whether an agent can call a tool of this name.
pub(super) fn has(name: &str) -> bool {
    let given = GIVEN.contains(&name) && name != BROWSER;
    given || ALWAYS.contains(&name) || BROWSER_TOOLS.contains(&name)
}

/// The tools that a name in an agent's configuration stands for.
pub(super) fn members(name: &str) -> Vec<String> {
    match name {
        BROWSER => BROWSER_TOOLS.map(str::to_owned).into(),
        _ => vec![name.to_owned()],
    }
}

/// Whether a tool of the server says of itself that it only reads.
pub(super) fn only_reads(tool: &str) -> bool {
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

/// The `kind` of a tool's observations.
pub(super) fn observation_kind(tool: &str) -> String {
    match BROWSER_TOOLS.contains(&tool) {
        true => "BrowserObservation".to_owned(),
        false => format!("{}Observation", camel(tool)),
    }
}

/// Adds the fields of an action that a model may leave out.
pub(super) fn complete(tool: &str, action: &mut Value) {
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

/// `file_editor` as class names spell it: `FileEditor`.
pub(super) fn camel(tool: &str) -> String {
    let mut name = String::new();
    for word in tool.split(['_', '-']) {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}
