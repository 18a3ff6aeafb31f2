//! A container engine for tests: one that runs already, or one that is started for the tests and
//! stopped afterwards.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::Result;

/// Time limit for the start and the end of an engine.
const LIMIT: Duration = Duration::from_secs(60);

/// The configuration of a Podman that is started for the tests.
const PODMAN: &str = r#"
[containers]
default_ulimits = ["nofile=10000:10000", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"#;

/// Where Podman keeps the state of running containers. It accepts no path of more than 50 bytes,
/// and no other one for the same images later.
const PODMAN_STATE: &str = "/run/openhands-rs/podman";

/// The bridge that Podman creates for its containers, and what removes it with its rules. Podman
/// leaves both.
const PODMAN_BRIDGE: &str = "/sys/class/net/cni-podman0";
const WITHOUT_BRIDGE: &str = r#"
ip link delete cni-podman0
for table in filter nat; do
    iptables -t $table -S | grep -E '^-A [A-Z]+ .*-j CNI-' | while read -r _ rule; do
        eval "iptables -t $table -D $rule"
    done
    chains=$(iptables -t $table -S | sed -n 's/^-N \(CNI-.*\)/\1/p')
    for chain in $chains; do iptables -t $table -F $chain; done
    for chain in $chains; do iptables -t $table -X $chain; done
done
"#;

/// The kind of an engine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The engine of the `docker` command, or a `dockerd` that is started.
    Docker,
    /// A `podman system service` that is started.
    Podman,
}

/// An engine. One that was started for the tests ends with this value.
pub(crate) struct Engine {
    address: String,
    started: Option<Started>,
}

struct Started {
    daemon: Child,
    /// The socket, the log, and the state of running containers.
    place: PathBuf,
    /// The script that removes what the engine leaves.
    cleanup: Option<&'static str>,
}

impl Engine {
    /// Returns the engine that runs: the one that `DOCKER_HOST` names, else the default one of the
    /// `docker` command.
    pub(crate) fn running() -> Result<Self> {
        let chosen = env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        let address = match &chosen {
            Some(address) => address.clone(),
            None => default_address()?,
        };
        let engine = Self {
            address,
            started: None,
        };
        match (engine.version(), chosen) {
            (Ok(_), _) => Ok(engine),
            (Err(error), Some(_)) => Err(format!("DOCKER_HOST: {error}")),
            (Err(error), None) => Err(error),
        }
    }

    /// Returns an engine that runs already, or starts one. The images of a started engine stay in
    /// the cache directory, for the next time.
    pub(crate) fn start(kind: Kind) -> Result<Self> {
        match kind {
            Kind::Podman => Self::podman(),
            Kind::Docker if env::var("DOCKER_HOST").is_ok_and(|host| !host.is_empty()) => {
                Self::running()
            }
            Kind::Docker => Self::running().or_else(|_| Self::dockerd()),
        }
    }

    fn dockerd() -> Result<Self> {
        let cache = cache()?;
        let mut command = ends_with_us("dockerd");
        command.arg("--data-root").arg(cache.join("data"));
        // Refuses to share the images with another dockerd.
        command.arg("--pidfile").arg(cache.join("pid"));
        Self::spawn(command, "--host", |command, place| {
            command.arg("--exec-root").arg(place.join("exec"));
        })
        .map_err(|error| {
            format!(
                "cannot start dockerd: {error}; install it (`apt-get install docker.io`) and run \
                 as root, or set DOCKER_HOST to an engine that runs"
            )
        })
    }

    fn podman() -> Result<Self> {
        let failed = |error| {
            format!(
                "cannot start podman: {error}; install it (`apt-get install podman runc`) and run \
                 as root"
            )
        };
        let cache = cache()?.join("podman");
        fs::create_dir_all(&cache).map_err(|error| failed(error.to_string()))?;
        // The defaults need crun, systemd and the right to raise limits.
        let config = cache.join("containers.conf");
        fs::write(&config, PODMAN).map_err(|error| failed(error.to_string()))?;
        let mut command = ends_with_us("podman");
        command.env("CONTAINERS_CONF", config);
        command.arg("--root").arg(cache.join("images"));
        command.args(["--runroot", PODMAN_STATE]);
        command.args(["system", "service", "--time", "0"]);
        let bridged = Path::new(PODMAN_BRIDGE).exists();
        let mut engine = Self::spawn(command, "", |_, _| ()).map_err(failed)?;
        if let Some(started) = &mut engine.started {
            started.cleanup = (!bridged).then_some(WITHOUT_BRIDGE);
        }
        Ok(engine)
    }

    /// Starts an engine that listens on a new socket. `option` precedes the address.
    fn spawn(
        mut command: Command,
        option: &str,
        add: impl FnOnce(&mut Command, &Path),
    ) -> Result<Self> {
        let place = env::temp_dir().join(format!("oh-engine-{}", std::process::id()));
        fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        let address = format!("unix://{}", place.join("engine.sock").display());
        add(&mut command, &place);
        if !option.is_empty() {
            command.arg(option);
        }
        command
            .arg(&address)
            // Podman leaves a file here when a container runs out of memory.
            .current_dir(&place)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let log = fs::File::create(place.join("log")).map_err(|error| format!("log: {error}"))?;
        let daemon = command.stderr(log).spawn().map_err(|e| e.to_string())?;
        let mut engine = Self {
            address,
            started: Some(Started {
                daemon,
                place,
                cleanup: None,
            }),
        };
        engine.wait()?;
        Ok(engine)
    }

    /// Returns the address, for `DOCKER_HOST`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the `docker` command for this engine.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", &self.address);
        command
    }

    /// Returns the version of the engine.
    pub(crate) fn version(&self) -> Result<String> {
        let mut version = self.command();
        version.args(["version", "--format", "{{.Server.Version}}"]);
        output_of(version)
    }

    fn wait(&mut self) -> Result {
        let begun = Instant::now();
        loop {
            let Err(error) = self.version() else {
                return Ok(());
            };
            let Some(started) = &mut self.started else {
                return Err(error);
            };
            let ended = started.daemon.try_wait().ok().flatten();
            if ended.is_some() || begun.elapsed() > LIMIT {
                let log = fs::read_to_string(started.place.join("log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                return Err(format!("{error}\n{}", last.join("\n")));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(started) = &mut self.started else {
            return;
        };
        // SIGTERM, so that dockerd also stops its containerd.
        let pid = started.daemon.id().to_string();
        let _ended = Command::new("kill").arg(pid).status();
        let begun = Instant::now();
        while matches!(started.daemon.try_wait(), Ok(None)) {
            if begun.elapsed() > LIMIT {
                let _ended = started.daemon.kill();
            }
            thread::sleep(Duration::from_millis(50));
        }
        // dockerd leaves this mounted after a container has shared the machine's network.
        let mounted = started.place.join("exec/netns/default");
        if mounted.exists() {
            let _best_effort = Command::new("umount").arg(mounted).status();
        }
        if let Some(script) = started.cleanup
            && Path::new(PODMAN_BRIDGE).exists()
        {
            let _best_effort = Command::new("sh").args(["-c", script]).status();
        }
        let _best_effort = fs::remove_dir_all(&started.place);
    }
}

/// Returns the directory with the images of engines that are started for tests.
fn cache() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let below = match (set("XDG_CACHE_HOME"), set("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => Path::new(&home).join(".cache"),
        (None, None) => return Err("HOME is not set".to_owned()),
    };
    let cache = below.join("openhands-rs").join("engine");
    fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    Ok(cache)
}

/// Returns a command whose process gets SIGTERM when this one ends, also after `kill -9`.
fn ends_with_us(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", program]);
    command
}

/// Returns the address of the default engine of the `docker` command.
fn default_address() -> Result<String> {
    let mut inspect = Command::new("docker");
    inspect.args([
        "context",
        "inspect",
        "--format",
        "{{.Endpoints.docker.Host}}",
    ]);
    output_of(inspect)
}

fn output_of(mut command: Command) -> Result<String> {
    let output = command.output().map_err(|error| {
        format!("cannot run docker: {error}; install it (`apt-get install docker.io`)")
    })?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
