//! A container engine for tests: the one that `DOCKER_HOST` names, or a `dockerd` that is started
//! for the tests and stopped afterwards.

use std::{
    env, fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{Result, cargo};

/// Time limit for the start and the end of `dockerd`.
const LIMIT: Duration = Duration::from_secs(60);

/// An engine. One that was started for the tests ends with this value.
pub(crate) struct Engine {
    address: String,
    started: Option<Started>,
}

struct Started {
    daemon: Child,
    /// The socket and the state of running containers.
    place: PathBuf,
}

impl Engine {
    /// Returns the engine that `DOCKER_HOST` names, or starts one. The images of a started engine
    /// stay in the target directory.
    pub(crate) fn start() -> Result<Self> {
        if let Some(address) = env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()) {
            let engine = Self {
                address,
                started: None,
            };
            engine
                .answers()
                .map_err(|error| format!("DOCKER_HOST: {error}"))?;
            return Ok(engine);
        }
        let place = env::temp_dir().join(format!("oh-engine-{}", std::process::id()));
        fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        let socket = place.join("engine.sock");
        let mut command = Command::new("dockerd");
        command
            .arg("--host")
            .arg(format!("unix://{}", socket.display()));
        command
            .arg("--data-root")
            .arg(cargo::root().join("target/engine"));
        command.arg("--exec-root").arg(place.join("exec"));
        command.arg("--pidfile").arg(place.join("pid"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let log = fs::File::create(place.join("log")).map_err(|error| format!("log: {error}"))?;
        command.stderr(log);
        let daemon = command.spawn().map_err(|error| {
            format!(
                "cannot start dockerd: {error}; install it (`apt-get install docker.io`) and run \
                 as root, or set DOCKER_HOST to an engine that runs"
            )
        })?;
        let mut engine = Self {
            address: format!("unix://{}", socket.display()),
            started: Some(Started { daemon, place }),
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

    fn answers(&self) -> Result {
        let mut version = self.command();
        version.args(["version", "--format", "{{.Server.Version}}"]);
        let output = version.output();
        let output = output.map_err(|error| format!("cannot run docker: {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }

    fn wait(&mut self) -> Result {
        let begun = Instant::now();
        loop {
            let Err(error) = self.answers() else {
                return Ok(());
            };
            let Some(started) = &mut self.started else {
                return Err(error);
            };
            let ended = started.daemon.try_wait().ok().flatten();
            if ended.is_some() || begun.elapsed() > LIMIT {
                let log = fs::read_to_string(started.place.join("log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                return Err(format!(
                    "dockerd does not start: {error}\n{}",
                    last.join("\n")
                ));
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
        let _best_effort = fs::remove_dir_all(&started.place);
    }
}
