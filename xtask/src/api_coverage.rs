//! `cargo xtask api-coverage`: reports which operations of a running server have a call in
//! `oh-protocol`, and which can be reached through public methods of `oh-conversation`.
//!
//! Reads the calls from their declarations and the operations from the server's OpenAPI document.
//! Reads the methods from a list that a test of the crate compares with the requests they send.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Stdio},
};

use serde_json::Value;

use crate::{Result, cargo};

/// The routers that must be complete, by the server's own tags. A few operations have no tag.
const COMPLETE: [&str; 11] = [
    "Server Details",
    "Conversations",
    "Events",
    "Bash",
    "Files",
    "Git",
    "Hooks",
    "Tools",
    "Init",
    "Skills",
    "VSCode",
];

/// The routers whose every operation must be reached by a public method of `oh-conversation`.
const REACHED: [&str; 2] = ["Conversations", "Events"];

/// List of the operations that each method sends, verified by
/// `every_listed_method_requests_its_operation`.
const METHODS: &str = "crates/oh-conversation/tests/it/routes.txt";

/// Operations that are aliases, and the operation that each is the same as.
const ALIASES: [(&str, &str); 1] = [("GET /", "GET /server_info")];

/// Prints covered and uncovered operations per router. Fails if a router that must be complete has
/// operations without a call or a public method.
pub(crate) fn run() -> Result {
    let calls = calls(&cargo::root().join("crates/oh-protocol/src/calls"))?;
    let methods = methods(&cargo::root().join(METHODS))?;
    let server = Server::start()?;
    let operations = operations(&server.get("/openapi.json")?)?;
    let mut open = Vec::new();
    let mut report = Vec::new();
    let mut unknown = calls.clone();
    for (router, operations) in &operations {
        let covered = |operation: &&String| {
            let alias = ALIASES.iter().find(|alias| alias.0 == operation.as_str());
            calls.contains(*operation) || alias.is_some_and(|alias| calls.contains(alias.1))
        };
        let missing: Vec<_> = operations.iter().filter(|it| !covered(it)).collect();
        let have = operations.len() - missing.len();
        report.push(format!("{router}: {have} of {}", operations.len()));
        report.extend(
            missing
                .iter()
                .map(|operation| format!("  missing  {operation}")),
        );
        if COMPLETE.contains(&router.as_str()) && !missing.is_empty() {
            open.push(router.as_str());
        }
        for operation in operations {
            unknown.remove(operation);
        }
        if REACHED.contains(&router.as_str()) {
            for operation in operations {
                match methods.get(operation) {
                    Some(method) => report.push(format!("  {operation}: {method}")),
                    None => {
                        report.push(format!("  raw call only  {operation}"));
                        open.push(router.as_str());
                    }
                }
            }
        }
    }
    open.dedup();
    let gone = unknown.iter();
    report.extend(gone.map(|call| format!("not offered by this server: {call}")));
    cargo::print(&format!("{}\n", report.join("\n")));
    if open.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "routers with missing operations: {}",
            open.join(", ")
        ))
    }
}

/// Returns `METHOD route` of every declared call: `…call!(Name => Output, METHOD "route", Repeat;`.
fn calls(directory: &Path) -> Result<BTreeSet<String>> {
    let unreadable = |error| format!("cannot read {}: {error}", directory.display());
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            found.extend(calls(&path)?);
            continue;
        }
        let text = fs::read_to_string(&path).map_err(unreadable)?;
        let mut scoped = false;
        for line in text.lines() {
            if line.contains("call!") {
                scoped = line.contains("scoped_call!");
            }
            let Some((method, route)) = declared(line) else {
                continue;
            };
            if scoped {
                found.insert(format!("{method} /api{route}"));
                let scope = "/api/conversations/{runtime_conversation_id}";
                found.insert(format!("{method} {scope}{route}"));
            } else {
                found.insert(format!("{method} {route}"));
            }
        }
    }
    Ok(found)
}

/// Returns the methods by operation, from lines such as `POST /api/things by Thing::make`.
fn methods(list: &Path) -> Result<BTreeMap<String, String>> {
    let unreadable = |error| format!("cannot read {}: {error}", list.display());
    let text = fs::read_to_string(list).map_err(unreadable)?;
    let mut methods = BTreeMap::<String, String>::new();
    for line in text.lines() {
        let (operation, method) = line.split_once(" by ").ok_or_else(|| {
            format!(
                "{}: `{line}` must end with ` by ` and a method",
                list.display()
            )
        })?;
        methods
            .entry(operation.to_owned())
            .and_modify(|methods| *methods = format!("{methods}, {method}"))
            .or_insert_with(|| method.to_owned());
    }
    Ok(methods)
}

fn declared(line: &str) -> Option<(&str, &str)> {
    let (before, rest) = line.split_once(" \"/")?;
    let (route, repeat) = rest.split_once("\", ")?;
    let ends = repeat.starts_with("Idempotent") || repeat.starts_with("Never");
    let method = before.rsplit([',', ' ']).next()?;
    let route = &line[line.len() - rest.len() - 1..line.len() - rest.len() + route.len()];
    (ends && method.chars().all(|c| c.is_ascii_uppercase())).then_some((method, route))
}

/// Returns the operations by router.
fn operations(openapi: &Value) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let paths = openapi["paths"]
        .as_object()
        .ok_or("the response is not an OpenAPI document")?;
    let mut routers: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let router = operation["tags"][0].as_str().unwrap_or("no router");
            let operation = format!("{} {path}", method.to_uppercase());
            routers
                .entry(router.to_owned())
                .or_default()
                .insert(operation);
        }
    }
    Ok(routers)
}

/// A running server. Killing `oh` also stops it.
struct Server {
    process: Child,
    address: String,
    key: String,
}

impl Server {
    fn start() -> Result<Self> {
        let failed = |error| format!("cannot run `oh serve`: {error}");
        let mut process = cargo::cargo(&["run", "--quiet", "--package", "oh-cli", "--", "serve"])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stdout = process.stdout.take().ok_or("`oh serve` has no stdout")?;
        let mut server = Self {
            process,
            address: String::new(),
            key: String::new(),
        };
        let mut lines = BufReader::new(stdout).lines().map_while(|line| line.ok());
        let url = lines.next().ok_or("`oh serve` printed no URL")?;
        server.key = lines.next().ok_or("`oh serve` printed no session key")?;
        let address = url.strip_prefix("http://").unwrap_or(&url);
        server.address = address.trim_end_matches('/').to_owned();
        Ok(server)
    }

    fn get(&self, path: &str) -> Result<Value> {
        let failed = |error| format!("cannot send a request to {}: {error}", self.address);
        let mut stream = TcpStream::connect(&self.address).map_err(failed)?;
        let (host, key) = (&self.address, &self.key);
        // HTTP/1.0: the body ends with the connection.
        write!(
            stream,
            "GET {path} HTTP/1.0\r\nHost: {host}\r\nX-Session-API-Key: {key}\r\n\r\n"
        )
        .map_err(failed)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(failed)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no response")?;
        serde_json::from_str(body).map_err(|error| format!("{path}: {error}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
