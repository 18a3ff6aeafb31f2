//! Engines that belong to one test, because the test restarts them or exhausts what they have.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use openhands::sandbox::{DockerServer, DockerServerBuilder, Engine, Pull};
use openhands_tests::containers::{eventually, output};
use tempfile::TempDir;

/// A `dockerd` with its own images, socket and bridge. Needs root. It and its containers end with
/// this value.
pub(crate) struct Private {
    daemon: Option<Child>,
    place: TempDir,
    options: Vec<String>,
    /// The command that starts a program.
    wrapper: Vec<String>,
    /// The interface to remove at the end.
    bridge: Option<String>,
}

impl Private {
    /// Starts an engine with these options.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), options)
    }

    /// Starts an engine in a directory. The engine has a separate bridge: without one, it would
    /// use or remove the bridge of the machine's engine.
    pub(crate) fn start_in(place: TempDir, options: &[&str]) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let bridge = format!("oh{}-{number}", std::process::id());
        let add = ["link", "add", &bridge, "type", "bridge"];
        output(Command::new("ip").args(add));
        let address = format!("198.18.{number}.1/24");
        output(Command::new("ip").args(["addr", "add", &address, "dev", &bridge]));
        let alone = [
            "--bridge",
            &bridge,
            "--iptables=false",
            "--ip-forward=false",
        ];
        let mut engine = Self::start_by(place, &[], &[&alone, options].concat());
        engine.bridge = Some(bridge);
        engine
    }

    /// Starts an engine in a directory, by a command that executes its arguments.
    pub(crate) fn start_by(place: TempDir, wrapper: &[&str], options: &[&str]) -> Self {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let mut engine = Self {
            daemon: None,
            place,
            options: owned(options),
            wrapper: owned(wrapper),
            bridge: None,
        };
        engine.begin();
        engine
    }

    /// Starts the engine.
    pub(crate) fn begin(&mut self) {
        let in_place = |name: &str| self.path().join(name).display().to_string();
        // The engine ends with this process, also after `kill -9`.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).args(&self.wrapper);
        command.args(["dockerd", "--data-root", &in_place("data")]);
        command.args([
            "--exec-root",
            &in_place("exec"),
            "--pidfile",
            &in_place("pid"),
        ]);
        command
            .args(["--host", &self.address()])
            .args(&self.options);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(in_place("log"));
        let daemon = command
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        self.daemon = Some(daemon);
        eventually("an engine", || {
            let daemon = self.daemon.as_mut().unwrap();
            let ended = daemon.try_wait().unwrap();
            let log = || fs::read_to_string(self.place.path().join("log"));
            assert!(ended.is_none(), "{}", log().unwrap_or_default());
            let mut version = docker_at(&format!("unix://{}", in_place_of(&self.place)));
            version
                .arg("version")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            version.status().unwrap().success()
        });
    }

    /// Ends the engine in order.
    pub(crate) fn end(&mut self) {
        let Some(mut daemon) = self.daemon.take() else {
            return;
        };
        output(Command::new("kill").arg(daemon.id().to_string()));
        daemon.wait().unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    pub(crate) fn address(&self) -> String {
        format!("unix://{}", in_place_of(&self.place))
    }

    /// Returns the `docker` command for this engine.
    pub(crate) fn docker(&self) -> Command {
        docker_at(&self.address())
    }

    /// Returns a builder for a server on this engine. The server shares the network of the machine.
    pub(crate) async fn builder(&self, image: &str) -> DockerServerBuilder {
        DockerServer::builder()
            .engine(Engine::at(&self.address()).await.unwrap())
            .image(image)
            .pull(Pull::Never)
            .network("host")
    }

    /// Returns the containers, networks and volumes.
    pub(crate) fn contents(&self) -> Vec<String> {
        let lists: [&[&str]; 3] = [
            &["ps", "--all", "--quiet"],
            &["network", "ls", "--format", "{{.Name}}"],
            &["volume", "ls", "--quiet"],
        ];
        let lists = lists.map(|list| output(self.docker().args(list)));
        lists
            .iter()
            .flat_map(|list| list.lines().map(str::to_owned))
            .collect()
    }

    /// Returns the number of processes of the engine, with the watchers of its containers.
    pub(crate) fn processes(&self) -> usize {
        let place = self.path().display().to_string();
        let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
            String::from_utf8_lossy(&line)
                .contains(&place)
                .then_some(())
        });
        processes.count()
    }
}

fn in_place_of(place: &TempDir) -> String {
    place.path().join("engine.sock").display().to_string()
}

fn docker_at(address: &str) -> Command {
    let mut command = Command::new("docker");
    command.env("DOCKER_HOST", address);
    command
}

impl Drop for Private {
    fn drop(&mut self) {
        if self.daemon.is_none() {
            self.begin();
        }
        let listed = self.docker().args(["ps", "--all", "--quiet"]).output();
        let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
        if !listed.is_empty() {
            let mut remove = self.docker();
            remove
                .args(["rm", "--force"])
                .args(listed.split_whitespace());
            let _best_effort = remove.stdout(Stdio::null()).status();
        }
        self.end();
        if let Some(bridge) = &self.bridge {
            output(Command::new("ip").args(["link", "del", bridge]));
        }
        for mounted in ["exec/netns/default", "data"] {
            let mounted: PathBuf = self.path().join(mounted);
            let mut unmount = Command::new("umount");
            let _not_mounted = unmount.arg(mounted).stderr(Stdio::null()).status();
        }
        // The engine's own children may still be ending.
        thread::sleep(Duration::from_millis(100));
    }
}
