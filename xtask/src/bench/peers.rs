//! The programs that the benches are compared with: the Python SDK of the provisioned environment,
//! the TypeScript client, and this project's example.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{Result, cargo};

const TYPESCRIPT: &str = "@openhands/typescript-client";
const TYPESCRIPT_VERSION: &str = "1.39.0";
const WORKSPACE: &str = "openhands-workspace";

/// The available peers. A missing peer is not measured.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    python: Option<String>,
    typescript: Option<PathBuf>,
    /// The directory with the Python client for servers in containers.
    workspace: Option<PathBuf>,
}

impl Peers {
    /// Creates missing peers where possible. In a smoke run, creates only the environment that the
    /// end-to-end tests need anyway.
    pub(crate) fn provision(smoke: bool) -> Result<Self> {
        let typescript = typescript(smoke);
        if typescript.is_none() {
            cargo::say(
                "bench: the TypeScript client is not measured: node or the client is not installed",
            );
        }
        let python = python()?;
        let workspace = workspace(&python, smoke);
        if workspace.is_none() {
            cargo::say(&format!(
                "bench: {WORKSPACE} is not measured: it is not installed"
            ));
        }
        Ok(Self {
            python: Some(python),
            typescript,
            workspace,
        })
    }

    /// Passes the locations of the peers to a bench.
    pub(crate) fn tell<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let places = [
            ("OPENHANDS_PYTHON", self.python.as_ref().map(PathBuf::from)),
            ("OPENHANDS_TYPESCRIPT", self.typescript.clone()),
            ("OPENHANDS_WORKSPACE", self.workspace.clone()),
        ];
        for (name, place) in places {
            match place {
                Some(place) => command.env(name, place),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Formats the versions of the peers.
    pub(crate) fn versions(&self) -> String {
        let mut versions = Vec::new();
        if let Some(python) = &self.python {
            let version = "import platform, importlib.metadata as m; print('Python', \
                 platform.python_version(), 'with openhands-sdk', m.version('openhands-sdk'))";
            versions.extend(first_line(python, &["-c", version]));
        }
        if let Some(workspace) = self.workspace.as_deref().and_then(Path::file_name) {
            // The name of the directory ends with the version.
            let version = workspace.to_string_lossy();
            let version = version.rsplit('-').next().unwrap_or_default().to_owned();
            versions.push(format!("{WORKSPACE} {version}"));
        }
        if self.typescript.is_some() {
            let node = first_line("node", &["--version"]).unwrap_or_default();
            versions.push(format!(
                "Node {node} with {TYPESCRIPT} {TYPESCRIPT_VERSION}"
            ));
        }
        versions.join(", ")
    }
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::to_owned)
}

/// Returns the Python with the peers' SDK, from the provisioned environment.
fn python() -> Result<String> {
    let output = cargo::cargo(&["run", "--quiet", "--package", "oh-cli", "--", "provision"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run `oh provision`: {error}"))?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !path.is_empty() {
        Ok(path)
    } else {
        Err(format!(
            "cannot create the environment of the Python SDK: {}",
            output.status
        ))
    }
}

/// Returns the TypeScript client's package, installing it below `target/` if it is missing.
fn typescript(smoke: bool) -> Option<PathBuf> {
    first_line("node", &["--version"])?;
    let prefix = cargo::root().join("target/peers");
    let package = prefix.join("node_modules").join(TYPESCRIPT);
    if package.join("package.json").exists() {
        return Some(package);
    }
    if smoke {
        return None;
    }
    let status = Command::new("npm")
        .args([
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
        ])
        .arg("--prefix")
        .arg(&prefix)
        .arg(format!("{TYPESCRIPT}@{TYPESCRIPT_VERSION}"))
        .stdout(Stdio::null())
        .status();
    status
        .is_ok_and(|status| status.success())
        .then_some(package)
}

/// Returns the directory with the Python client for servers in containers, which is installed below
/// `target/` if it is missing: without what it depends on, which the environment has.
fn workspace(python: &str, smoke: bool) -> Option<PathBuf> {
    let version = "import importlib.metadata as m; print(m.version('openhands-sdk'))";
    let version = first_line(python, &["-c", version])?;
    let place = cargo::root()
        .join("target/peers")
        .join(format!("workspace-{version}"));
    if place.join("openhands/workspace").exists() {
        return Some(place);
    }
    if smoke {
        return None;
    }
    let _seen_below = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps"])
        // The Python that installs is not the one that runs it.
        .args(["--only-binary", ":all:", "--ignore-requires-python"])
        .arg("--target")
        .arg(&place)
        .arg(format!("{WORKSPACE}=={version}"))
        .stdout(Stdio::null())
        .status();
    place.join("openhands/workspace").exists().then_some(place)
}

/// Builds the example of the main job and returns its program.
pub(crate) fn main_job(smoke: bool) -> Result<PathBuf> {
    let profile = if smoke { "dev" } else { "bench" };
    let output = cargo::cargo(&["build", "--quiet", "--message-format", "json"])
        .args(["--profile", profile, "--package", "openhands-examples"])
        .args(["--example", "local_agent_server"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot build the main job: {error}"))?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = messages.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        Some(message.get("executable")?.as_str()?.into())
    });
    program.ok_or_else(|| format!("cannot build the main job: {}", output.status))
}
