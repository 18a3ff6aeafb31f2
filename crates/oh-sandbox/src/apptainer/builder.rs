//! The builder for a server in a container of Apptainer.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::{
    ApptainerServer, Result,
    apptainer::command::{Image, Settings},
    options::option_setters,
};

/// Configures and starts an [`ApptainerServer`].
///
/// ```no_run
/// # async fn start() -> oh_sandbox::Result<()> {
/// use oh_sandbox::ApptainerServer;
///
/// let server = ApptainerServer::builder()
///     .sif("/images/agent-server.sif")
///     .workspace("/home/me/project")
///     .start()
///     .await?;
/// println!("{}", server.url());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct ApptainerServerBuilder {
    settings: Settings,
}

impl ApptainerServer {
    /// Creates a builder with default settings.
    pub fn builder() -> ApptainerServerBuilder {
        ApptainerServerBuilder::default()
    }
}

impl ApptainerServerBuilder {
    /// Sets the image of a registry. `apptainer pull` converts it to a file in
    /// [`cache_dir`](Self::cache_dir), unless that file exists. Default: the published image of the
    /// pinned server.
    pub fn image(mut self, name: impl Into<String>) -> Self {
        self.settings.image = Image::Registry(name.into());
        self
    }

    /// Sets the file of the image (`.sif`), or a directory with an unpacked image. Nothing is
    /// downloaded.
    pub fn sif(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.image = Image::File(path.into());
        self
    }

    /// Sets the directory for files of converted images. A missing directory is created. Default:
    /// `openhands-rs/apptainer` in the user's cache directory.
    pub fn cache_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.cache = Some(path.into());
        self
    }

    /// Sets the program. Default: `apptainer` on the `PATH`.
    pub fn executable(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.executable = path.into();
        self
    }

    /// Mounts a directory of this machine as `/workspace`, where agents work. Default: the files of
    /// the container, which are lost at its end.
    pub fn workspace(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.workspace = Some(path.into());
        self
    }

    /// Adds a mount in the notation of Apptainer: `source[:target[:ro]]`. The environment variable
    /// `OPENHANDS_APPTAINER_EXTRA_BINDS` can contain more, separated by commas.
    pub fn bind(mut self, mount: impl Into<String>) -> Self {
        self.settings.binds.push(mount.into());
        self
    }

    /// Sets whether the user appears as root in the container (`--fakeroot`). Default true.
    pub fn fakeroot(mut self, yes: bool) -> Self {
        self.settings.fakeroot = yes;
        self
    }

    /// Sets whether the container is separated from this machine as one of Docker is (`--compat`):
    /// own `/tmp`, home, process ids, and files that can be written until the end. Default true.
    /// Without it, servers of one user share the terminals' sockets in `/tmp`.
    pub fn docker_compat(mut self, yes: bool) -> Self {
        self.settings.compat = yes;
        self
    }

    /// Sets which mounts of the system's configuration are disabled (`--no-mount`). Default:
    /// `hostfs` and `bind-paths`.
    pub fn disabled_mounts<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.settings.disabled = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets whether NVIDIA GPUs are usable (`--nv`). Default false.
    pub fn gpus(mut self, yes: bool) -> Self {
        self.settings.gpus = yes;
        self
    }

    option_setters!(
        /// The container gets no other variable of this machine.
        env;
        /// Sets how long the server may take to become ready. Default 180 s.
        ready_within
    );

    /// Starts the container, and waits until its server is ready and verified.
    ///
    /// Cancel-safe: dropping the future ends everything that was started.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if a setting is invalid.
    /// - [`ErrorKind::NoEngine`](crate::ErrorKind::NoEngine) if Apptainer is not installed.
    /// - [`ErrorKind::NoImage`](crate::ErrorKind::NoImage) if the file of the image is missing, and
    ///   [`ErrorKind::PullFailed`](crate::ErrorKind::PullFailed) if it cannot be downloaded.
    /// - [`ErrorKind::NoVolume`](crate::ErrorKind::NoVolume) if a directory to mount is missing.
    /// - [`ErrorKind::Died`](crate::ErrorKind::Died) if the container ends, and
    ///   [`ErrorKind::NotReady`](crate::ErrorKind::NotReady) if its server is not ready in time.
    pub async fn start(self) -> Result<ApptainerServer> {
        ApptainerServer::start(self.settings).await
    }
}
