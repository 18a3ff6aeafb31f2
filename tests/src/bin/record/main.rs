//! Records responses of a real server, for the fixtures of `oh-protocol`: `cargo xtask fixtures`.
//! The arguments are optional: a version of the server, and a directory to write to.
//!
//! Everything that a scripted model can cause is recorded from the sockets, byte for byte. The rest
//! is generated with the server's own models (see `models.py`).

#![allow(clippy::print_stdout, reason = "the report is for the terminal")]

mod admin;
mod played;
mod scenes;
mod sockets;
mod stored;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use openhands::{LocalServer, WorkspaceExt, process::Provisioner, protocol::SessionFrame};
use openhands_tests::TIDY;

use sockets::{Outcome, drain, session};

/// Maximum number of recorded messages of each shape.
const OF_EACH: usize = 3;

#[tokio::main]
async fn main() -> Outcome {
    let mut arguments = env::args().skip(1);
    let mut provisioner = Provisioner::new();
    if let Some(version) = arguments.next() {
        provisioner = provisioner.version(version);
    }
    let own = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../crates/oh-protocol/fixtures"
    );
    let fixtures = arguments.next().map_or_else(|| own.into(), PathBuf::from);
    // The agent writes paths into events, so they must not depend on the user.
    let base = env::temp_dir().join("fixtures");
    _ = fs::remove_dir_all(&base);
    let (home, project) = (base.join("home"), base.join("project"));
    fs::create_dir_all(&home)?;
    fs::create_dir_all(&project)?;

    // The MCP server of a scene runs in the server's own environment.
    let environment = provisioner.provision().await?;
    // Link the whole environment: a link to its programs alone would not find the packages.
    let whole = environment.python().ancestors().nth(2);
    std::os::unix::fs::symlink(whole.unwrap_or(Path::new("/")), base.join("python"))?;
    let path = format!("{}/python/bin:/usr/local/bin:/usr/bin:/bin", base.display());
    let server = LocalServer::builder()
        .environment(environment)
        .env("HOME", &home)
        .env("PATH", path)
        .workspace_dir(&project)
        .import_module("openhands.tools.apply_patch")
        .import_module("openhands.tools.workflow")
        .start()
        .await?;
    let version = server.info().version.clone();
    let target = fixtures.join(&version);
    fs::create_dir_all(&target)?;

    let admin = admin::all(&server, &base).await?;
    write_lines(&target.join("admin.jsonl"), &admin)?;
    let mut frames = Vec::new();
    let mut legacy = Vec::new();
    for scene in scenes::all(&project).await? {
        println!("scene: {}", scene.name);
        let taken = scenes::play(&server, &scene).await?;
        if scene.name == "tools" {
            write_lines(
                &target.join("conversation.jsonl"),
                &events_of(&taken.frames)?,
            )?;
        }
        frames.extend(taken.frames);
        legacy.extend(taken.legacy);
    }
    let workspace = server.workspace(project.display().to_string());
    workspace.execute("echo out; echo err >&2; exit 3").await?;
    let rest = [
        ("server_info.json", "/server_info"),
        ("conversations.json", "/api/conversations/search?limit=3"),
        ("bash_events.json", "/api/bash/bash_events/search?limit=20"),
        ("tools.json", "/api/tools/"),
    ];
    for (name, path) in rest {
        fs::write(target.join(name), scenes::get(&server, path).await?)?;
    }
    write_lines(&target.join("session_frames.jsonl"), &few_of_each(frames)?)?;
    write_lines(&target.join("legacy_frames.jsonl"), &few_of_each(legacy)?)?;

    let models = format!("{TIDY}\n{}", include_str!("models.py"));
    let made = Command::new(server.environment().python())
        .args(["-c", &models])
        .env("OPENHANDS_SUPPRESS_BANNER", "1")
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .env("HOME", &home)
        .output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into());
    }
    fs::write(target.join("modelled.jsonl"), made.stdout)?;
    server.shutdown(Duration::from_secs(10)).await?;
    fs::remove_dir_all(&base)?;
    report(&target)
}

fn write_lines(path: &Path, lines: &[String]) -> Outcome {
    let mut text = lines.join("\n");
    text.push('\n');
    Ok(fs::write(path, text)?)
}

/// Returns the events of a conversation, each exactly as in its frame.
fn events_of(frames: &[String]) -> Outcome<Vec<String>> {
    let mut events = Vec::new();
    for frame in frames {
        if let SessionFrame::Durable { event, .. } = SessionFrame::from_json(frame.clone())? {
            events.push(String::from_utf8(event.raw().to_vec())?);
        }
    }
    Ok(events)
}

/// Keeps the first few of each shape: frame type, event kind, kind of action or observation.
fn few_of_each(lines: Vec<String>) -> Outcome<Vec<String>> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut kept = Vec::new();
    for line in lines {
        let frame: serde_json::Value = serde_json::from_str(&line)?;
        let event = frame.get("event").unwrap_or(&frame);
        let inner = ["action", "observation"].map(|field| &event[field]["kind"]);
        let shape = format!(
            "{} {} {inner:?} {}",
            frame["type"], event["kind"], event["key"]
        );
        let count = seen.entry(shape).or_default();
        *count += 1;
        if *count <= OF_EACH {
            kept.push(line);
        }
    }
    Ok(kept)
}

/// Prints the recorded files, by kind.
fn report(target: &Path) -> Outcome {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in [
        "session_frames.jsonl",
        "legacy_frames.jsonl",
        "modelled.jsonl",
        "conversation.jsonl",
    ] {
        for line in fs::read_to_string(target.join(name))?.lines() {
            let frame: serde_json::Value = serde_json::from_str(line)?;
            let event = frame.get("event").unwrap_or(&frame);
            let kind = event["kind"].as_str().or(frame["type"].as_str());
            *counts.entry(kind.unwrap_or("?").to_owned()).or_default() += 1;
            for field in ["action", "observation"] {
                if let Some(kind) = event[field]["kind"].as_str() {
                    *counts.entry(format!("  {kind}")).or_default() += 1;
                }
            }
        }
    }
    for (kind, count) in counts {
        println!("{count:5} {kind}");
    }
    Ok(())
}
