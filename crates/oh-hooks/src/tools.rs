//! The names of the server's built-in tools as hooks see them, and suggestions for misspelt names.

/// The names of the built-in tools of server version 1.58.
pub(crate) const TOOLS: &[&str] = &[
    "apply_patch",
    "ask_oracle",
    "browser_click",
    "browser_close_tab",
    "browser_get_content",
    "browser_get_state",
    "browser_get_storage",
    "browser_go_back",
    "browser_list_tabs",
    "browser_navigate",
    "browser_scroll",
    "browser_set_storage",
    "browser_start_recording",
    "browser_stop_recording",
    "browser_switch_tab",
    "browser_type",
    "edit",
    "file_editor",
    "finish",
    "glob",
    "grep",
    "invoke_skill",
    "list_directory",
    "planning_file_editor",
    "read_file",
    "route_task_to_model",
    "sleeptime_compute",
    "start_child_conversation",
    "switch_llm",
    "task",
    "task_tracker",
    "terminal",
    "think",
    "tom_consult",
    "vision_inspect",
    "workflow",
    "write_file",
];

/// Names that other agents use for an equivalent tool.
const FOREIGN_NAMES: &[(&str, &str)] = &[
    ("bash", "terminal"),
    ("cmd", "terminal"),
    ("command", "terminal"),
    ("create", "file_editor"),
    ("edit", "file_editor"),
    ("execute", "terminal"),
    ("execute_bash", "terminal"),
    ("ls", "list_directory"),
    ("multi_edit", "file_editor"),
    ("notebook_edit", "file_editor"),
    ("read", "file_editor"),
    ("run", "terminal"),
    ("shell", "terminal"),
    ("str_replace_editor", "file_editor"),
    ("todo_write", "task_tracker"),
    ("view", "file_editor"),
    ("web_fetch", "browser_navigate"),
    ("web_search", "browser_navigate"),
    ("write", "file_editor"),
];

/// Returns the tool with the most similar name, among the built-in tools and `more`.
pub(crate) fn nearest<'a>(name: &str, more: &'a [String]) -> Option<&'a str> {
    let name = plain(name);
    let otherwise = FOREIGN_NAMES.iter().find(|(other, _)| plain(other) == name);
    if let Some((_, tool)) = otherwise {
        return Some(tool);
    }
    let all = TOOLS.iter().copied().chain(more.iter().map(String::as_str));
    all.map(|tool| (distance(&name, &plain(tool)), tool))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, tool)| *distance <= tool.len().max(name.len()) / 2)
        .map(|(_, tool)| tool)
}

/// Normalizes a name: removes case, dashes and underscores.
fn plain(name: &str) -> String {
    let letters = name.chars().filter(|letter| letter.is_alphanumeric());
    letters.flat_map(char::to_lowercase).take(64).collect()
}

/// Returns the edit distance between two names.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, same) in other.iter().enumerate() {
            let change = diagonal + usize::from(letter != *same);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_tool_is_matched_with_the_intended_one() {
        for (name, tool) in [
            ("file-editor", Some("file_editor")),
            ("FileEditor", Some("file_editor")),
            ("Bash", Some("terminal")),
            ("Edit", Some("file_editor")),
            ("TodoWrite", Some("task_tracker")),
            ("terminl", Some("terminal")),
            ("Grep", Some("grep")),
            ("quux_frobnicate_everything", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, &[]), tool, "{name}");
        }
        let more = ["github_search".to_owned()];
        assert_eq!(nearest("github-search", &more), Some("github_search"));
    }
}
