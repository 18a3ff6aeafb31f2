//! Measures a clean build of each layer: its time, the number of compiled crates, and the size of a
//! small stripped program. The layers are the protocol alone, the facade with default features, and
//! `oh`.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    time::Instant,
};

use openhands_benches::{Outcome, row, skipped};
use tokio::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const MIB: f64 = 1024.0 * 1024.0;

/// A layer, its crate, and a program that uses it.
const LAYERS: &[(&str, &str, &str)] = &[
    (
        "oh-protocol",
        "crates/oh-protocol",
        include_str!("layers/protocol.rs"),
    ),
    (
        "openhands, default features",
        "crates/openhands",
        include_str!("layers/facade.rs"),
    ),
];

pub(crate) async fn bench(smoke: bool) -> Outcome {
    for (layer, path, program) in LAYERS {
        let directory = tempfile::tempdir()?;
        let manifest = write(directory.path(), path, program)?;
        let crates = crates(&manifest, "layer").await?;
        row("crates", layer, crates, "crates");
        // A smoke run only checks that the smallest layer still builds.
        if !smoke || *layer == "oh-protocol" {
            build(layer, &manifest, "layer", "layer", smoke).await?;
        }
    }
    let manifest = PathBuf::from(ROOT).join("Cargo.toml");
    row("crates", "oh", crates(&manifest, "oh-cli").await?, "crates");
    if !smoke {
        build("oh", &manifest, "oh-cli", "oh", smoke).await?;
    }
    python()
}

/// Creates a separate package with the workspace's versions.
fn write(directory: &Path, path: &str, program: &str) -> Outcome<PathBuf> {
    let root = fs::canonicalize(ROOT)?;
    let name = path.trim_start_matches("crates/");
    let path = root.join(path);
    let manifest = directory.join("Cargo.toml");
    fs::write(
        &manifest,
        format!(
            "[package]\nname = \"layer\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n\
             {name} = {{ path = {path:?} }}\ntokio = {{ version = \"1\", features = [\"rt\"] }}\n"
        ),
    )?;
    fs::create_dir(directory.join("src"))?;
    fs::write(directory.join("src/main.rs"), program)?;
    fs::copy(root.join("Cargo.lock"), directory.join("Cargo.lock"))?;
    Ok(manifest)
}

fn cargo(manifest: &Path, verb: &str) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.arg(verb).arg("--manifest-path").arg(manifest);
    command
}

async fn crates(manifest: &Path, package: &str) -> Outcome<f64> {
    let mut command = cargo(manifest, "tree");
    command.args(["--package", package, "--edges", "normal,build"]);
    let output = command.args(["--prefix", "none"]).output().await?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let name = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let all: BTreeSet<String> = text
        .lines()
        .filter(|line| !line.is_empty())
        .map(name)
        .collect();
    Ok(all.len() as f64)
}

async fn build(layer: &str, manifest: &Path, package: &str, program: &str, smoke: bool) -> Outcome {
    let target = tempfile::tempdir()?;
    let mut command = cargo(manifest, "build");
    command
        .args(["--quiet", "--package", package, "--target-dir"])
        .arg(target.path())
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    if !smoke {
        command.arg("--release");
    }
    let begun = Instant::now();
    if !command.status().await?.success() {
        return Err(format!("{layer} does not build").into());
    }
    row("clean build", layer, begun.elapsed().as_secs_f64(), "s");
    let profile = if smoke { "debug" } else { "release" };
    let binary = target.path().join(profile).join(program);
    let size = fs::metadata(binary)?.len() as f64 / MIB;
    row("program", layer, size, "MiB");
    Ok(())
}

/// Measures what users of the Python SDK install instead, which includes the server.
fn python() -> Outcome {
    let name = "Python SDK with server";
    let Some(python) = env::var_os("OPENHANDS_PYTHON") else {
        skipped("program", name, "not provisioned");
        return Ok(());
    };
    let root = Path::new(&python).parent().and_then(Path::parent);
    let (mut bytes, mut packages) = (0, 0.0);
    let mut directories = vec![root.ok_or("no environment")?.join("lib")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                let name = entry.file_name();
                packages += f64::from(u8::from(name.to_string_lossy().ends_with(".dist-info")));
                directories.push(entry.path());
            } else if kind.is_file() {
                bytes += entry.metadata()?.len();
            }
        }
    }
    row("crates", name, packages, "packages");
    row("program", name, bytes as f64 / MIB, "MiB");
    Ok(())
}
