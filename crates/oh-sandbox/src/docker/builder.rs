//! The builder for a server in a container.

use std::{net::IpAddr, time::Duration};

use secrecy::SecretString;

use crate::{
    DockerServer, Engine, Progress, Pull, Result, Volume,
    docker::{
        progress::Report,
        settings::{Settings, default_image},
    },
    options::option_setters,
};

/// Configures and starts a [`DockerServer`].
///
/// # What the server and its agents can do
///
/// The container sees the image, the [`volume`](Self::volume)s and the network; no directory and no
/// variable of this process is passed on unless a method of this builder names it. By default it
/// has no capabilities, and its processes cannot get new privileges, so `sudo` does not work in it.
/// [`usual_capabilities`](Self::usual_capabilities) and
/// [`allow_new_privileges`](Self::allow_new_privileges) relax this. The server's port is published
/// on `127.0.0.1` only.
///
/// Keys are in no variable, label or command line. The server reads them from a file in the
/// container, which is overwritten when the server is ready.
///
/// ```no_run
/// # async fn start() -> oh_sandbox::Result<()> {
/// use oh_sandbox::{DockerServer, Volume};
///
/// let server = DockerServer::builder()
///     .volume(Volume::bind("/home/me/project", "/workspace"))
///     .user("1000:1000")
///     .memory(4 << 30)
///     .cpus(2.0)
///     .on_progress(|step| eprintln!("{step}"))
///     .start()
///     .await?;
/// println!("{}", server.url());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct DockerServerBuilder {
    pub(crate) settings: Settings,
}

impl DockerServer {
    /// Creates a builder with default settings.
    pub fn builder() -> DockerServerBuilder {
        DockerServerBuilder::default()
    }

    /// Returns the name of the default image: the one of the pinned version
    /// ([`SERVER_VERSION`](oh_process::SERVER_VERSION)) that the server's authors publish. For
    /// programs that download it before the first start.
    ///
    /// The name contains a tag and no digest. To exclude that the tag is moved, pass the name with
    /// the digest (`name@sha256:…`) of an image that you have checked to
    /// [`image`](DockerServerBuilder::image).
    pub fn default_image() -> String {
        default_image()
    }
}

impl DockerServerBuilder {
    /// Sets the engine. Default: [`Engine::connect`].
    pub fn engine(mut self, engine: Engine) -> Self {
        self.settings.engine = Some(engine);
        self
    }

    /// Sets the image: a name with a tag or a digest. Default: [`DockerServer::default_image`]. Any
    /// image that starts an agent server will do.
    pub fn image(mut self, image: impl Into<String>) -> Self {
        self.settings.image = image.into();
        self
    }

    /// Sets when the image is downloaded. Default [`Pull::Missing`].
    pub fn pull(mut self, pull: Pull) -> Self {
        self.settings.pull = pull;
        self
    }

    /// Sets the platform of the image, such as `linux/amd64`. Default: the engine's.
    pub fn platform(mut self, platform: impl Into<String>) -> Self {
        self.settings.platform = Some(platform.into());
        self
    }

    /// Sets the name of the container. Default: a name that is never used again.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// Adds a label to the container.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.labels.insert(name.into(), value.into());
        self
    }

    option_setters!(
        /// Everyone who may inspect the container can read the value.
        env;
        /// Sets how long the server may take to become ready, after the image was downloaded, also
        /// in [`DockerServer::resume`]. Default 180 s; 10 to 25 s are usual.
        ready_within
    );

    /// Adds a directory, file or named volume that the container sees.
    pub fn volume(mut self, volume: Volume) -> Self {
        self.settings.volumes.push(volume);
        self
    }

    /// Sets the network: the name of a network of the engine, or `host`. With `host`, the server
    /// listens on a free port of the engine's loopback interface, and the agent reaches everything
    /// that listens there. Default: the engine's default network.
    pub fn network(mut self, network: impl Into<String>) -> Self {
        self.settings.network = Some(network.into());
        self
    }

    /// Adds the name of a host to the container: `add_host("host.docker.internal", "host-gateway")`
    /// lets the agent reach services of the engine's machine by this name.
    pub fn add_host(mut self, name: impl Into<String>, address: impl Into<String>) -> Self {
        let (name, address) = (name.into(), address.into());
        self.settings.hosts.push(format!("{name}:{address}"));
        self
    }

    /// Publishes another port of the container, on a port that the engine chooses:
    /// [`DockerServer::published`] returns it.
    pub fn publish(mut self, port: u16) -> Self {
        self.settings.ports.push(port);
        self
    }

    /// Sets the address of the engine's machine on which ports are published. Default `127.0.0.1`.
    /// For any other address, everyone who can reach it and has the session key can use the server,
    /// and the key is sent unencrypted.
    pub fn publish_on(mut self, address: IpAddr) -> Self {
        self.settings.published_on = address;
        self
    }

    /// Sets the user of the server and its agent: a name, or `uid:gid`. Default: the image's.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.settings.user = Some(user.into());
        self
    }

    /// Limits the memory, in bytes. Swap space is not used in addition. Default: no limit.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.settings.memory = Some(bytes);
        self
    }

    /// Limits the CPU time, as a number of CPUs. Default: no limit.
    pub fn cpus(mut self, cpus: f64) -> Self {
        self.settings.cpus = Some(cpus);
        self
    }

    /// Limits the number of processes and threads. Default: no limit.
    pub fn pids(mut self, pids: u32) -> Self {
        self.settings.pids = Some(pids);
        self
    }

    /// Sets a limit of the container's processes (`ulimit`), such as `nofile`. If the engine
    /// refuses the limits, the container is created without any, and [`Progress::WithoutLimits`]
    /// is reported. Default: `nofile` 65536.
    pub fn ulimit(mut self, name: impl Into<String>, soft: u64, hard: u64) -> Self {
        let name = name.into();
        self.settings.limits.retain(|(other, ..)| *other != name);
        self.settings.limits.push((name, soft, hard));
        self
    }

    /// Sets whether the container gets all GPUs. Default false.
    pub fn gpus(mut self, yes: bool) -> Self {
        self.settings.gpus = yes;
        self
    }

    /// Adds a capability, such as `CHOWN`. By default, the container has none.
    pub fn capability(mut self, name: impl Into<String>) -> Self {
        self.settings.capabilities.push(name.into());
        self
    }

    /// Gives the container the capabilities that the engine's containers usually have.
    pub fn usual_capabilities(mut self) -> Self {
        self.settings.usual_capabilities = true;
        self
    }

    /// Sets whether processes can get more privileges than the server has, for example by `sudo`.
    /// Default false.
    pub fn allow_new_privileges(mut self, yes: bool) -> Self {
        self.settings.new_privileges = yes;
        self
    }

    /// Sets the directory of conversations that do not name one. Default `/workspace`.
    pub fn workspace_dir(mut self, path: impl Into<String>) -> Self {
        self.settings.workspace = path.into();
        self
    }

    /// Sets how long the server may take to shut down (SIGTERM) after this process has ended
    /// without shutting it down. Default zero: the container is removed at once.
    pub fn orphan_grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// Sets whether the container stays when the [`DockerServer`] is dropped, when it is shut down,
    /// and when this process ends. [`DockerServer::attach`] finds it again. Its keys stay in the
    /// container. Default false.
    pub fn keep(mut self, yes: bool) -> Self {
        self.settings.keep = yes;
        self
    }

    /// Sets whether [`DockerServer::shutdown`] also removes the image. Default false.
    pub fn remove_image(mut self, yes: bool) -> Self {
        self.settings.remove_image = yes;
        self
    }

    /// Starts no keeper process. The container is then left running if this process ends without
    /// dropping the [`DockerServer`], for example by Ctrl-C or `kill -9`. The keeper needs Python
    /// 3.9 or newer on this machine.
    pub fn without_keeper(mut self) -> Self {
        self.settings.keeper = false;
        self
    }

    /// Sets a callback for start-up progress.
    pub fn on_progress(mut self, report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.settings.report = Report::new(report);
        self
    }

    /// Starts the container and waits until its server is ready and verified. The image is
    /// downloaded if necessary.
    ///
    /// Cancel-safe: if the future is dropped, the container is removed. A container that the engine
    /// is creating at that moment is removed as soon as it exists.
    ///
    /// # Errors
    ///
    /// - The errors of [`Engine::connect`].
    /// - [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput),
    ///   [`ErrorKind::NoVolume`](crate::ErrorKind::NoVolume),
    ///   [`ErrorKind::NoGpu`](crate::ErrorKind::NoGpu),
    ///   [`ErrorKind::NoImage`](crate::ErrorKind::NoImage),
    ///   [`ErrorKind::WrongPlatform`](crate::ErrorKind::WrongPlatform) and others if the container
    ///   cannot be created as requested.
    /// - [`ErrorKind::Died`](crate::ErrorKind::Died),
    ///   [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) and
    ///   [`ErrorKind::NotReady`](crate::ErrorKind::NotReady), with the last lines of the log.
    /// - [`ErrorKind::NotAnAgentServer`](crate::ErrorKind::NotAnAgentServer) if the container runs
    ///   something else.
    ///
    /// The container is removed in each case.
    pub async fn start(self) -> Result<DockerServer> {
        Box::pin(DockerServer::start(self.settings)).await
    }
}
