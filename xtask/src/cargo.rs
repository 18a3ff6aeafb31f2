//! Runs cargo and other programs of the toolchain, and prints each command.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Result of a verb; the error is a message for the terminal.
pub(crate) type Result<T = ()> = std::result::Result<T, String>;

/// Returns the workspace's root directory.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// Selects all packages and features. A build with another selection has other features, and so
/// compiles most packages again.
pub(crate) const ALL: [&str; 2] = ["--workspace", "--all-features"];

/// Returns a cargo command in the workspace's root, with the cargo that runs this task.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    // Set by the cargo that runs this task. A build script that reads them would run again whenever
    // cargo was used without this task in between, and all that needs it would be compiled again.
    for (name, _) in env::vars_os() {
        let own = name.to_str().unwrap_or_default();
        if own.starts_with("CARGO_PKG_") || own.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Prints a command and runs it to its end.
pub(crate) fn run(mut command: Command) -> Result<Duration> {
    let line = show(&command);
    say(&format!("$ {line}"));
    let begun = Instant::now();
    let status = command
        .status()
        .map_err(|error| format!("cannot run `{line}`: {error}"))?;
    if status.success() {
        Ok(begun.elapsed())
    } else {
        Err(format!("`{line}` failed: {status}"))
    }
}

/// Runs a command to its end, and returns its output. Its messages go to the terminal.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run {name}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{name} failed: {}", output.status)),
    }
}

/// Builds the integration test `name` with the binaries of its package, and returns its program.
pub(crate) fn test_program(name: &str) -> Result<PathBuf> {
    program(&["test", "--no-run", "--test"], name)
}

/// Builds the example `name`, and returns its program. The tests use the same build of what the
/// example needs.
pub(crate) fn example_program(name: &str) -> Result<PathBuf> {
    program(&["build", "--example"], name)
}

/// Builds the command `name`, and returns its program.
pub(crate) fn command_program(name: &str) -> Result<PathBuf> {
    program(&["build", "--bin"], name)
}

fn program(build: &[&str], name: &str) -> Result<PathBuf> {
    let mut command = cargo(build);
    command.arg(name).args(ALL);
    command.args(["--quiet", "--message-format", "json"]);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot build {name}: {error}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let messages = stdout
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let mut programs = messages.filter_map(|message: Value| {
        let mine = message["target"]["name"] == name;
        message["executable"]
            .as_str()
            .filter(|_| mine)
            .map(PathBuf::from)
    });
    programs
        .next_back()
        .ok_or_else(|| format!("{name} was not built: {}", output.status))
}

/// Prints a command and runs it to its end. Kills it after `limit`.
pub(crate) fn run_within(limit: Duration, mut command: Command) -> Result<Duration> {
    let line = show(&command);
    say(&format!("$ {line}"));
    let begun = Instant::now();
    let failed = |error| format!("cannot run `{line}`: {error}");
    let mut child = command.spawn().map_err(failed)?;
    loop {
        match child.try_wait().map_err(failed)? {
            Some(status) if status.success() => return Ok(begun.elapsed()),
            Some(status) => return Err(format!("`{line}` failed: {status}")),
            None if begun.elapsed() < limit => thread::sleep(Duration::from_millis(50)),
            None => {
                child.kill().map_err(failed)?;
                child.wait().map_err(failed)?;
                return Err(format!("`{line}` did not end within {limit:?}"));
            }
        }
    }
}

/// Returns whether a cargo subcommand (`nextest`, `deny`) is installed.
pub(crate) fn has_subcommand(name: &str) -> bool {
    cargo(&[name, "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Installs a cargo subcommand if it is missing.
pub(crate) fn ensure_subcommand(name: &str, package: &str, version: &str) -> Result {
    if has_subcommand(name) {
        return Ok(());
    }
    run(cargo(&[
        "install",
        "--locked",
        package,
        "--version",
        version,
    ]))
    .map(drop)
}

/// Installs the test runner if it is missing.
pub(crate) fn ensure_nextest() -> Result {
    ensure_subcommand("nextest", "cargo-nextest", "0.9.143")
}

/// Prints a progress line to stderr, so that stdout can be piped.
pub(crate) fn say(line: &str) {
    // A closed terminal must not fail a task.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints output to stdout, so that it can be piped.
pub(crate) fn print(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// Returns the machine and the toolchain, for a table of measurements.
pub(crate) fn machine() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let rustc = Command::new("rustc")
        .arg("--version")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("", |model| model.trim_start_matches(['\t', ':', ' ']));
    format!(
        "{} {}, {cores} cores ({model}), load average {load} at the end, {rustc}",
        env::consts::OS,
        env::consts::ARCH
    )
}

/// Returns the processor time of all ended children of this process. Only Linux reports it.
pub(crate) fn processor_time_of_children() -> Option<Duration> {
    // Linux counts processor time for programs in these units.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut ticks = after_name.split_whitespace().skip(13);
    let (user, system): (u32, u32) = (ticks.next()?.parse().ok()?, ticks.next()?.parse().ok()?);
    Some(TICK * (user + system))
}

fn show(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    std::iter::once(program)
        .chain(command.get_args())
        .map(|part| part.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
