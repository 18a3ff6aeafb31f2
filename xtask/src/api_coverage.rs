//! `cargo xtask api-coverage`: shows how a program can request each operation of the pinned server.
//!
//! Every operation must have a typed call in `oh-protocol`, or be listed here with the reason why
//! it has none. The operations of the server are a file of `oh-testkit`, which an end-to-end test
//! compares with the server's OpenAPI document. The typed calls are exported by `oh-protocol`. The
//! methods of the handles are lists, which tests compare with the requests that they send.

mod untyped;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::{Result, api, cargo};

use untyped::BY_ANY;

/// The operations of the pinned server, one per line.
const SERVER: &str = "crates/oh-testkit/src/fake/wire/routes.txt";

/// Lists of the operations that each method of a handle sends.
const METHODS: [&str; 2] = [
    "crates/oh-admin/tests/it/routes.txt",
    "crates/oh-conversation/tests/it/routes.txt",
];

/// The groups whose every operation must be reached by a public method.
const REACHED: [&str; 13] = [
    "acp",
    "agent-profiles",
    "auth",
    "conversations",
    "events",
    "llm",
    "mcp",
    "meta-profiles",
    "plugins",
    "profiles",
    "settings",
    "sub-agents",
    "workspaces",
];

/// Operations that the server has, but that its OpenAPI document omits. The last two exist only for
/// conversations in containers.
const HIDDEN: [&str; 4] = [
    "POST /api/conversations/prepare-for-sandbox-pause",
    "PUT /api/conversations/{conversation_id}/credential-bindings/{secret_name}",
    "DELETE /api/conversations/{conversation_id}/runtime",
    "POST /api/conversations/{conversation_id}/runtime/credentials",
];

/// Operations that are aliases, and the operation that each is the same as.
const ALIASES: [(&str, &str); 2] = [
    ("GET /", "GET /server_info"),
    (
        "GET /api/conversations/{conversation_id}/workspace",
        "GET /api/conversations/{conversation_id}/workspace/{file_path}",
    ),
];

/// Prints each group of operations, and how each operation is reached. Fails if an operation is
/// neither typed nor listed, or if a listed operation is typed or gone. Also fails if no method
/// reaches an operation of a group that must be reached.
pub(crate) fn run() -> Result {
    let mut server = lines(SERVER)?;
    if let Some(listed) = HIDDEN
        .iter()
        .find(|hidden| server.iter().any(|line| line == *hidden))
    {
        return Err(format!(
            "api-coverage: listed as hidden without need: {listed}"
        ));
    }
    server.extend(HIDDEN.map(str::to_owned));
    let typed = typed()?;
    let mut methods = BTreeMap::new();
    for list in METHODS {
        read_methods(list, &lines(list)?, &mut methods)?;
    }
    let (report, faults) = compare(&server, &typed, &methods);
    cargo::print(&report);
    match faults.is_empty() {
        true => Ok(()),
        false => Err(format!("api-coverage:\n  {}", faults.join("\n  "))),
    }
}

/// Returns the operations with a typed call, printed by an example of `oh-protocol`.
fn typed() -> Result<BTreeSet<String>> {
    let output = Command::new(cargo::example_program("operations")?)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run the example `operations`: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "the example `operations` failed: {}",
            output.status
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::to_owned).collect())
}

fn lines(path: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(cargo::root().join(Path::new(path)))
        .map_err(|error| format!("cannot read {path}: {error}"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Adds the methods by operation, from lines such as `POST /api/things by Thing::make`.
fn read_methods(list: &str, lines: &[String], all: &mut BTreeMap<String, String>) -> Result {
    for line in lines {
        let (operation, method) = line
            .split_once(" by ")
            .ok_or_else(|| format!("{list}: `{line}` must end with ` by ` and a method"))?;
        all.entry(operation.to_owned())
            .and_modify(|methods| *methods = format!("{methods}, {method}"))
            .or_insert_with(|| method.to_owned());
    }
    Ok(())
}

/// Returns the group of an operation, by its route.
fn group(operation: &str) -> &str {
    const WITHIN: &str = "/api/conversations/{conversation_id}/";
    let route = operation
        .split_once(' ')
        .map_or(operation, |(_, route)| route);
    let within = route.strip_prefix(WITHIN).unwrap_or_default();
    if within.starts_with("events") {
        return "events";
    }
    if within.starts_with("workspace") {
        return "files";
    }
    if route.starts_with("/api/conversations/{runtime_conversation_id}") {
        return "in the workspace of a conversation";
    }
    match route.strip_prefix("/api/") {
        Some(rest) => rest.split('/').next().unwrap_or(rest),
        None if route.starts_with("/v1/") => "v1",
        None => "server",
    }
}

/// Returns why an operation has no typed call, if it is listed.
fn excuse(operation: &str) -> Option<&'static str> {
    let listed = BY_ANY
        .iter()
        .find(|(_, operations)| operations.contains(&operation));
    listed.map(|(why, _)| *why)
}

/// Returns the report and the faults.
fn compare(
    server: &[String],
    typed: &BTreeSet<String>,
    methods: &BTreeMap<String, String>,
) -> (String, Vec<String>) {
    let mut faults = Vec::new();
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    for operation in server {
        let same = ALIASES.iter().find(|alias| alias.0 == operation);
        let excuse = excuse(operation);
        let generated = match api::operations().contains(&operation.as_str()) {
            true => " (generated)",
            false => "",
        };
        let how = match (
            typed.contains(operation),
            same,
            methods.get(operation),
            excuse,
        ) {
            (true, _, Some(method), _) => format!("{method}{generated}"),
            (true, _, None, _) => {
                if REACHED.contains(&group(operation)) {
                    faults.push(format!("no method sends {operation}"));
                }
                "typed call".to_owned()
            }
            (false, Some((_, same)), _, _) => format!("the same as {same}"),
            (false, None, _, Some(why)) => format!("by `Any` only: {why}"),
            (false, None, _, None) => {
                faults.push(format!("neither typed nor listed: {operation}"));
                "MISSING".to_owned()
            }
        };
        count += usize::from(typed.contains(operation) || same.is_some());
        let lines = groups.entry(group(operation)).or_default();
        lines.push(format!("  {operation}: {how}"));
    }
    let known: BTreeSet<_> = server.iter().map(String::as_str).collect();
    for listed in BY_ANY.iter().flat_map(|(_, operations)| *operations) {
        if typed.contains(*listed) || !known.contains(listed) {
            faults.push(format!("listed without need: {listed}"));
        }
    }
    for call in typed.iter().filter(|call| !known.contains(call.as_str())) {
        faults.push(format!("not offered by the pinned server: {call}"));
    }
    let mut report = String::new();
    for (group, lines) in groups {
        report.push_str(&format!("{group}\n{}\n", lines.join("\n")));
    }
    report.push_str(&format!(
        "{count} of {} operations are typed\n",
        server.len()
    ));
    (report, faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(server: &[&str], typed: &[&str]) -> Vec<String> {
        let listed = BY_ANY.iter().flat_map(|(_, operations)| *operations);
        let server = server.iter().chain(listed).map(|line| (*line).to_owned());
        let typed = typed.iter().map(|line| (*line).to_owned()).collect();
        compare(&server.collect::<Vec<_>>(), &typed, &BTreeMap::new()).1
    }

    #[test]
    fn each_operation_must_be_typed_or_listed() {
        assert!(faults(&["GET /api/new", "GET /"], &["GET /api/new"]).is_empty());
        assert_eq!(
            faults(&["GET /api/new"], &[]),
            ["neither typed nor listed: GET /api/new"]
        );
        assert_eq!(
            faults(&[], &["GET /api/gone"]),
            ["not offered by the pinned server: GET /api/gone"]
        );
        let listed = BY_ANY[0].1[0];
        assert_eq!(
            faults(&[], &[listed]),
            [format!("listed without need: {listed}")]
        );
        assert_eq!(
            faults(&["GET /api/llm/x"], &["GET /api/llm/x"]),
            ["no method sends GET /api/llm/x"]
        );
    }
}
