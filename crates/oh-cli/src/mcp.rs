//! `oh mcp`: MCP servers that are stored on a server.

use std::{env, fs, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use openhands::{
    Workspace,
    protocol::{
        calls::mcp::{TestServer, TestedServer},
        config::{McpAuth, McpFile, McpServer},
        redact::origin,
    },
};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure, Outcome},
    records::clean,
    server::{At, note},
    stored::{admin, lines, server, table, unknown},
};

#[derive(Subcommand)]
pub(crate) enum Mcp {
    /// List the MCP servers that are stored on the server.
    Ls(List),
    /// Store an MCP server: a command, a URL, or the servers of a file.
    Add(Box<Add>),
    /// Connect to a stored MCP server from the server's machine, and list its tools.
    Test(Test),
    /// Remove an MCP server.
    Rm(Remove),
}

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    at: At,
    /// Print each MCP server as a line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(id = "kind", required = true, multiple = false, args = ["url", "file", "command"])]
pub(crate) struct Add {
    /// The name of the MCP server. With --file: the only server of the file to store.
    #[arg(required_unless_present = "file")]
    name: Option<String>,
    /// The URL of a remote MCP server.
    #[arg(long)]
    url: Option<String>,
    /// Use server-sent events, as old MCP servers do.
    #[arg(long, requires = "url")]
    sse: bool,
    /// The variable with the token of the remote MCP server. Only its value is stored.
    #[arg(long, value_name = "VARIABLE", requires = "url")]
    bearer_from: Option<String>,
    /// A file such as .mcp.json, whose servers are stored.
    #[arg(long)]
    file: Option<PathBuf>,
    /// A variable of this environment that the command gets. Can be repeated.
    #[arg(long, value_name = "VARIABLE", conflicts_with_all = ["url", "file"])]
    env: Vec<String>,
    /// The command and its arguments, after `--`.
    #[arg(last = true)]
    command: Vec<String>,
    #[command(flatten)]
    at: At,
}

#[derive(Args)]
pub(crate) struct Test {
    /// The name of the MCP server.
    name: String,
    /// The time that the MCP server may take, at most 120.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    #[command(flatten)]
    at: At,
}

#[derive(Args)]
pub(crate) struct Remove {
    /// The name of the MCP server.
    name: String,
    #[command(flatten)]
    at: At,
}

/// A line of `oh mcp ls --json`.
#[derive(Serialize)]
struct Row {
    name: String,
    transport: Option<String>,
    command: Option<String>,
    /// Without its path, which may be a secret.
    url: Option<String>,
    description: Option<String>,
    enabled: bool,
}

/// `oh mcp`.
pub(crate) async fn mcp(verb: Mcp) -> Outcome {
    match verb {
        Mcp::Ls(options) => list(&options).await?,
        Mcp::Add(options) => add(&options).await?,
        Mcp::Test(options) => test(&options).await?,
        Mcp::Rm(options) => {
            let mcp = admin(&options.at).await?.mcp();
            let known = mcp.list().await?.into_iter().map(|server| server.name);
            let known: Vec<_> = known.collect();
            if !known.contains(&options.name) {
                return Err(unknown("MCP server", &options.name, &known));
            }
            mcp.delete(&options.name).await?;
        }
    }
    Ok(Exit::Finished)
}

async fn list(options: &List) -> Result<(), Failure> {
    let servers = admin(&options.at).await?.mcp().list().await?;
    let rows = servers.into_iter().map(|server| Row {
        name: server.name,
        transport: server.transport,
        command: server.command,
        url: server.url.map(|url| origin(&url).into_owned()),
        description: server.description,
        enabled: server.enabled,
    });
    if options.json {
        return lines(rows);
    }
    let cells = |row: Row| {
        let enabled = if row.enabled { "" } else { "disabled" };
        let place = row.command.or(row.url).unwrap_or_default();
        let transport = row.transport.unwrap_or_default();
        [row.name, transport, place, enabled.to_owned()]
    };
    table(&rows.map(cells).collect::<Vec<_>>())
}

async fn add(options: &Add) -> Result<(), Failure> {
    let servers = described(options, |name| env::var(name).ok())?;
    let mcp = admin(&options.at).await?.mcp();
    for (name, server) in servers {
        mcp.add(&name, server).await?;
        note(&clean(&format!("`{name}` is stored")));
    }
    Ok(())
}

/// Returns the MCP servers that the options describe. `value` returns the value of a variable.
fn described(
    options: &Add,
    value: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(String, McpServer)>, Failure> {
    if let Some(path) = &options.file {
        return of_file(path, options.name.as_deref());
    }
    let value = |name: &str| {
        value(name).ok_or_else(|| Exit::Configuration.because(format!("{name} is not set")))
    };
    let mut server = match (&options.url, options.command.split_first()) {
        (Some(url), _) if options.sse => McpServer::sse(url),
        (Some(url), _) => McpServer::http(url),
        (None, Some((program, arguments))) => McpServer::stdio(program).args(arguments),
        (None, None) => return Err(Exit::Usage.because("name a command after `--`, or use --url")),
    };
    if let Some(name) = &options.bearer_from {
        server = server.auth(McpAuth::bearer(value(name)?));
    }
    for name in &options.env {
        server = server.env(name, value(name)?);
    }
    Ok(vec![(options.name.clone().unwrap_or_default(), server)])
}

fn of_file(
    path: &std::path::Path,
    only: Option<&str>,
) -> Result<Vec<(String, McpServer)>, Failure> {
    let shown = path.display();
    let failed = |error: &dyn std::fmt::Display| {
        Exit::Configuration.because(format!("cannot use {shown}: {error}"))
    };
    let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
    let file = McpFile::parse(&text).map_err(|error| failed(&error))?;
    if !file.ignored().is_empty() {
        note(&clean(&format!(
            "without meaning here: {}",
            file.ignored().join(", ")
        )));
    }
    let known: Vec<_> = file.servers().map(|(name, _)| name.to_owned()).collect();
    let mut servers: Vec<_> = file.into_iter().collect();
    if let Some(only) = only {
        servers.retain(|(name, _)| name == only);
        if servers.is_empty() {
            let known = known.join(", ");
            return Err(failed(&format!(
                "no MCP server is called `{only}`, but {known}"
            )));
        }
    }
    match servers.is_empty() {
        true => Err(failed(&"it has no MCP servers")),
        false => Ok(servers),
    }
}

async fn test(options: &Test) -> Result<(), Failure> {
    let stored = server(&options.at).await?;
    // The directory does not count: the settings are those of the whole server.
    let mut servers = Workspace::new(stored.client(), "/").mcp_config().await?;
    let Some(server) = servers.remove(&options.name) else {
        let known: Vec<_> = servers.into_keys().collect();
        return Err(unknown("MCP server", &options.name, &known));
    };
    let test = TestServer::new(server)
        .name(&options.name)
        .timeout(Duration::from_secs(options.timeout));
    let admin = openhands::admin::Admin::of(stored.client());
    match admin.mcp().test(test).await? {
        TestedServer::Works { tools, .. } => {
            let rows: Vec<_> = tools.into_iter().map(|tool| [tool]).collect();
            table(&rows)
        }
        TestedServer::Fails { error, .. } => {
            let message = format!("the MCP server `{}` does not work: {error}", options.name);
            Err(Exit::Configuration.because(clean(&message)))
        }
        _ => Err(Exit::Internal.because("the server's answer is unknown")),
    }
}
