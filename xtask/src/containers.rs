//! `cargo xtask containers`: runs the tests of servers in containers on a real engine.

use std::{
    env, fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use clap::Args;

use crate::{
    Result, cargo,
    engine::{Engine, Kind},
    image,
};

#[derive(Args)]
pub(crate) struct Options {
    /// Run the long tests instead of the usual ones.
    #[arg(long)]
    long: bool,
    /// Start Podman and use it. Default: `DOCKER_HOST`, the default engine, or a started `dockerd`.
    #[arg(long)]
    podman: bool,
    /// Run only the tests whose names contain one of these texts. Names of scenes begin with
    /// `in_a_container::`.
    names: Vec<String>,
}

/// The tests of containers.
pub(crate) const PROGRAM: &str = "docker";
/// The end-to-end tests that share a process, and thus a template for each version of the server.
pub(crate) const SHARED: &str = "real";
/// The example that a test of containers runs.
const EXAMPLE: &str = "docker";
/// The scenes of these tests that are played in a container.
pub(crate) const SCENES: &str = "in_a_container::";
/// Number of tests that run at once. Most of the time they wait for servers.
const AT_ONCE: &str = "6";
/// The same on Podman, whose service takes many seconds for an answer while containers start.
const AT_ONCE_ON_PODMAN: &str = "2";
/// Names of the tests that start a separate `dockerd`, and so are not about Podman.
const OWN_DOCKERD: &[&str] = &["restarts::", "soak_fifty_starts_", "soak_a_run_goes_on_"];
/// Names of the tests in which a server starts containers. It asks for no core files (`--ulimit
/// core=0`). Podman then sets the limits of files and processes too, to [`PODMAN_LIMIT`].
const WITH_LIMITS: &[&str] = &[
    "runtime::a_conversation_lives_",
    "runtime::a_killed_owner_",
    "runtime::an_owner_killed_",
    "runtime::only_conversations_",
    "command::",
];
const PODMAN_LIMIT: u64 = 1_048_576;
/// The bit of the capability to raise limits.
const CAP_SYS_RESOURCE: u32 = 24;
/// Time limit of the usual tests, and of the long ones.
const LIMIT: Duration = Duration::from_secs(15 * 60);
const LONG_LIMIT: Duration = Duration::from_secs(60 * 60);
/// Time in which the last containers of the tests are removed.
const REMOVAL: Duration = Duration::from_secs(60);

/// Runs the tests of containers. Starts an engine if none runs.
pub(crate) fn run(options: &Options) -> Result {
    let kind = match options.podman {
        true => Kind::Podman,
        false => Kind::Docker,
    };
    on(&Engine::start(kind)?, kind, options.long, &options.names)
}

/// Returns the engine that runs, if it has the image. Otherwise returns what is missing.
pub(crate) fn usable_engine() -> Result<Engine> {
    let engine = Engine::running().map_err(|error| format!("no container engine: {error}"))?;
    match image::is_current(&mut engine.command())? {
        true => Ok(engine),
        false => Err("the engine does not have the image (`cargo xtask image`)".to_owned()),
    }
}

/// Runs the usual tests of containers.
pub(crate) fn usual(engine: &Engine) -> Result {
    on(engine, Kind::Docker, false, &[])
}

/// Runs the long tests of containers.
pub(crate) fn long() -> Result {
    on(&Engine::start(Kind::Docker)?, Kind::Docker, true, &[])
}

fn on(engine: &Engine, kind: Kind, long: bool, names: &[String]) -> Result {
    image::ensure(&mut || engine.command(), false)?;
    let (at_once, left_out) = match kind {
        Kind::Docker => (AT_ONCE, Vec::new()),
        Kind::Podman => (AT_ONCE_ON_PODMAN, left_out_on_podman()),
    };
    // Other tests may use the same engine, so containers are counted by this label.
    let run = format!("run-{}", std::process::id());
    let place = env::temp_dir().join(format!("oh-containers-{}", std::process::id()));
    fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    let example = cargo::example_program(EXAMPLE)?;
    let oh = cargo::command_program("oh")?;
    let run_tests = |program: &str, selected: &[String]| -> Result {
        let mut command = Command::new(cargo::test_program(program)?);
        command.env("DOCKER_HOST", engine.address());
        command.env("OPENHANDS_TEST_IMAGE", image::tag()?);
        command.env("OPENHANDS_TEST_EXAMPLE", &example);
        command.env("OPENHANDS_TEST_OH", &oh);
        command
            .env("OPENHANDS_TEST_RUN", &run)
            .env("TMPDIR", &place);
        command.args(selected);
        match long {
            true => command.args(["--test-threads", "1", "--nocapture"]),
            false => command.args(["--test-threads", at_once, "--skip", "soak_"]),
        };
        command.args(left_out.iter().flat_map(|(name, _)| ["--skip", *name]));
        command.current_dir(cargo::root().join("tests"));
        let limit = if long { LONG_LIMIT } else { LIMIT };
        cargo::run_within(limit, command).map(drop)
    };
    let (scenes, own): (Vec<&str>, Vec<&str>) = names
        .iter()
        .map(String::as_str)
        .partition(|name| name.starts_with(SCENES));
    let chosen = |own: Vec<&str>, usual: &str, long_ones: &str| match (names.is_empty(), long) {
        (false, _) => own.into_iter().map(str::to_owned).collect(),
        (true, true) => vec![long_ones.to_owned()],
        (true, false) => vec![usual.to_owned()],
    };
    let programs = [
        (PROGRAM, chosen(own, "", "soak_")),
        (SHARED, chosen(scenes, SCENES, &format!("{SCENES}soak_"))),
    ];
    let mut tests = programs.iter().filter(|(_, selected)| !selected.is_empty());
    let tests = tests.try_for_each(|(program, selected)| run_tests(program, selected));
    let left = nothing_left(engine, &run);
    let _best_effort = fs::remove_dir_all(&place);
    let images = remove_images(engine, &run);
    for (name, reason) in left_out {
        cargo::say(&format!("left out on Podman: {name}*, because {reason}"));
    }
    tests.and(left).and(images)
}

/// Returns the beginnings of the names of tests that cannot run on Podman here, with the reasons.
fn left_out_on_podman() -> Vec<(&'static str, &'static str)> {
    let dockerd = OWN_DOCKERD
        .iter()
        .map(|name| (*name, "it starts a dockerd"));
    let limits = WITH_LIMITS.iter().map(|name| {
        let reason = "the server asks for a limit, and Podman then sets others that are higher \
                      than permitted here";
        (*name, reason)
    });
    let permitted = may_set_limits();
    dockerd.chain(limits.filter(|_| !permitted)).collect()
}

/// Returns whether processes of this user may set the limits that Podman sets.
fn may_set_limits() -> bool {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (limits, status) = (read("/proc/self/limits"), read("/proc/self/status"));
    let highest = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        let hard = line.and_then(|line| line.split_whitespace().nth(1));
        hard.is_some_and(|hard| {
            hard == "unlimited" || hard.parse().is_ok_and(|hard: u64| hard >= PODMAN_LIMIT)
        })
    };
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    capabilities.is_some_and(|all| all >> CAP_SYS_RESOURCE & 1 == 1)
        || (highest("Max processes") && highest("Max open files"))
}

/// Waits until the engine has no container of these tests.
fn nothing_left(engine: &Engine, run: &str) -> Result {
    let begun = Instant::now();
    loop {
        let mut list = engine.command();
        list.args(["ps", "--all", "--quiet", "--filter"]);
        list.arg(format!("label=oh-test-run={run}"));
        let output = list.output().map_err(|error| format!("docker: {error}"))?;
        let listed = String::from_utf8_lossy(&output.stdout);
        if output.status.success() && listed.trim().is_empty() {
            return Ok(());
        }
        if begun.elapsed() > REMOVAL {
            return Err(format!("the tests left containers: {}", listed.trim()));
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Removes the images that the tests have made.
fn remove_images(engine: &Engine, run: &str) -> Result {
    let mut list = engine.command();
    list.args(["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let listed = list.output().map_err(|error| format!("docker: {error}"))?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let made = listed
        .lines()
        .filter(|name| name.contains("oh-test-") && name.ends_with(run));
    for name in made {
        let mut remove = engine.command();
        remove.args(["rmi", name]).stdout(Stdio::null());
        cargo::run(remove)?;
    }
    Ok(())
}
