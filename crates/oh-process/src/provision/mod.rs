//! Creates and caches the Python environment of a server.

pub(crate) mod cache;
pub(crate) mod download;
pub(crate) mod environment;
pub(crate) mod index;
pub(crate) mod install;
pub(crate) mod interpreter;
pub(crate) mod requirements;
pub(crate) mod search;
pub(crate) mod uv;

use std::{
    fmt,
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::task::spawn_blocking;

use self::{
    cache::{Cache, Content, Slot},
    install::{Installer, Tool},
    interpreter::{ANSWER_LIMIT, Failure},
    search::{Found, var},
    uv::OwnUv,
};
pub(crate) use crate::progress::Report;
use crate::{
    Candidate, Environment, Error, ErrorKind, Origin, Progress, Request, Result, lock::lock,
};
pub use requirements::SERVER_VERSION;

/// Environment variable that overrides the cache directory `$XDG_CACHE_HOME/openhands-rs`.
const CACHE_VARIABLE: &str = "OPENHANDS_CACHE_DIR";
/// Environment variable that forbids every download.
const OFFLINE_VARIABLE: &str = "OPENHANDS_OFFLINE";

/// Finds or creates a Python environment with the server's packages at pinned versions.
///
/// New environments are cached in `$OPENHANDS_CACHE_DIR`, else `$XDG_CACHE_HOME/openhands-rs`, else
/// `~/.cache/openhands-rs`. A cached environment is used without network access.
///
/// # Installers and downloads
///
/// If uv is on the PATH, it creates the environment. Otherwise venv and pip of the best Python do.
/// The installers' own configuration and variables apply (index, proxy, certificates). uv also
/// receives `PIP_INDEX_URL`, `PIP_EXTRA_INDEX_URL`, `PIP_FIND_LINKS` and `PIP_CERT` where its own
/// variables are not set.
///
/// On a machine without Python 3.12 or newer and without uv, uv is downloaded into the cache. Any
/// installed pip downloads it; without pip, it comes from the index that `UV_DEFAULT_INDEX`,
/// `UV_INDEX_URL` or `PIP_INDEX_URL` names, or from PyPI, and is verified against the checksum in
/// the index. uv then uses a Python that it finds, or downloads one into the cache.
/// [`Progress::Fetching`] announces this download; [`use_uv`](Self::use_uv) and
/// [`offline`](Self::offline) forbid it.
///
/// ```no_run
/// # async fn run() -> Result<(), oh_process::Error> {
/// let environment = oh_process::Provisioner::new()
///     .on_progress(|progress| eprintln!("{progress:?}"))
///     .provision()
///     .await?;
/// println!("{} runs {}", environment.python().display(), environment.server_version());
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a provisioner does nothing until `provision` is called"]
pub struct Provisioner {
    version: String,
    extra: Vec<String>,
    interpreter: Option<PathBuf>,
    cache: Option<PathBuf>,
    uv: bool,
    pinned: bool,
    offline: bool,
    check_timeout: Duration,
    network_timeout: Duration,
    report: Option<Report>,
}

impl Default for Provisioner {
    fn default() -> Self {
        Self::new()
    }
}

impl Provisioner {
    /// Creates a provisioner for [`SERVER_VERSION`].
    pub fn new() -> Self {
        Self {
            version: SERVER_VERSION.to_owned(),
            extra: Vec::new(),
            interpreter: None,
            cache: None,
            uv: true,
            pinned: true,
            offline: is_offline(),
            check_timeout: ANSWER_LIMIT,
            network_timeout: Duration::from_secs(30),
            report: None,
        }
    }

    /// Sets the version of the server's packages. Default [`SERVER_VERSION`].
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Adds a requirement, such as `my-tools==1.2`, for custom tools. If the requirement conflicts
    /// with the [pinned](Self::pinned) versions, the installation fails with the installer's
    /// explanation.
    pub fn requirement(mut self, requirement: impl Into<String>) -> Self {
        self.extra.push(requirement.into());
        self
    }

    /// Sets the interpreter to create the environment with. Default: the best one found.
    pub fn python(mut self, python: impl Into<PathBuf>) -> Self {
        self.interpreter = Some(python.into());
        self
    }

    /// Sets the cache directory for environments. Default: see [`Provisioner`].
    pub fn cache_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.cache = Some(path.into());
        self
    }

    /// Sets whether uv may be used. Default true: uv creates the environment when it is on the
    /// PATH, and is downloaded into the cache when no suitable Python exists. With false, only venv
    /// and pip are used.
    pub fn use_uv(mut self, yes: bool) -> Self {
        self.uv = yes;
        self
    }

    /// Sets whether the server's dependencies are installed at the versions that the server was
    /// tested with. Default true.
    ///
    /// Pinning applies to the server versions for which this crate has a constraints file,
    /// including [`SERVER_VERSION`]. Other versions always get the newest compatible packages. A
    /// package that only another operating system or Python version needs is not pinned. A cached
    /// environment is used without changes.
    pub fn pinned(mut self, yes: bool) -> Self {
        self.pinned = yes;
        self
    }

    /// Sets whether all downloads are forbidden. Default: true if `OPENHANDS_OFFLINE` is set to a
    /// value other than `0`, `false` or `no`. When offline, a new environment can only be created
    /// from the installer's local files: uv's cache, or a directory named by `PIP_FIND_LINKS`.
    pub fn offline(mut self, yes: bool) -> Self {
        self.offline = yes;
        self
    }

    /// Sets the timeout for checking one interpreter. Default 60 s. Up to 16 interpreters are
    /// checked in parallel.
    pub fn check_timeout(mut self, limit: Duration) -> Self {
        self.check_timeout = limit;
        self
    }

    /// Sets the maximum time without data from the package index during the download of uv. Default
    /// 30 s. pip and uv have their own settings (`PIP_DEFAULT_TIMEOUT`, `UV_HTTP_TIMEOUT`).
    pub fn network_timeout(mut self, limit: Duration) -> Self {
        self.network_timeout = limit;
        self
    }

    /// Sets a callback for progress. The task that provisions calls it, so the callback must return
    /// quickly.
    pub fn on_progress(mut self, report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.report = Some(Report::new(report));
        self
    }

    /// Sets the progress callback, unless one is set already.
    pub(crate) fn reporting(mut self, report: Option<&Report>) -> Self {
        self.report = self.report.or_else(|| report.cloned());
        self
    }

    fn notify(&self, progress: Progress) {
        if let Some(report) = &self.report {
            report.notify(progress);
        }
    }

    /// Returns the requirements to install: the server's packages at the chosen version, the upper
    /// bounds that an old version needs, and the extra requirements.
    pub fn packages(&self) -> Vec<String> {
        let packages = requirements::packages(&self.version);
        packages.into_iter().chain(self.extra.clone()).collect()
    }

    /// Returns all interpreters of this machine, suitable ones first. Each rejected interpreter
    /// carries the reason.
    pub fn candidates(&self) -> impl Future<Output = Vec<Candidate>> + Send + use<> {
        let limit = self.check_timeout;
        async move {
            let found = search::find(limit).await;
            found.into_iter().map(|(candidate, _)| candidate).collect()
        }
    }

    /// Returns an environment: the cached one if it works, otherwise a new one.
    ///
    /// A cached environment is replaced only if it is proven to be damaged, and only by a complete
    /// new one. Programs that use the old environment keep it until the last of them has ended.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Unsupported`] if the chosen version of the server is too old for this
    ///   crate. Nothing was installed.
    /// - [`ErrorKind::CheckFailed`] if the cached environment, or the only interpreter, could not
    ///   be checked. Nothing was changed.
    /// - [`ErrorKind::NoInterpreter`] if there is no suitable interpreter, and uv must not be used
    ///   or downloaded. The message lists the places that were searched.
    /// - [`ErrorKind::IndexUnreachable`], [`ErrorKind::UnknownVersion`], [`ErrorKind::NoSpace`],
    ///   [`ErrorKind::Io`] or [`ErrorKind::Provision`] if a new environment cannot be
    ///   created.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the installer and removes the unfinished environment. So does
    /// killing this process. Concurrent provisioners, in this and other processes, wait for each
    /// other.
    pub fn provision(&self) -> Request<Environment> {
        let this = self.clone();
        Request::new(async move { this.find_or_create().await })
    }

    async fn find_or_create(&self) -> Result<Environment> {
        self.check_input()?;
        requirements::check_supported(&self.version)?;
        let cache = Cache::at(self.home()?);
        let home = cache.root();
        cache.create().map_err(|error| unusable(home, error))?;
        let named = match &self.interpreter {
            Some(path) => Some(self.named(path).await?),
            None => None,
        };
        let slot = cache.slot(self.name(named.as_ref()));
        if let Cached::Sound(environment) = self.cached_in(&slot).await? {
            return Ok(environment);
        }
        let lock_path = slot.lock_path();
        let lock = lock(&lock_path, || self.notify(Progress::Waiting))
            .await
            .map_err(|error| unusable(&lock_path, error))?;
        // Another process may have created the environment while this one waited for the lock.
        match self.cached_in(&slot).await? {
            Cached::Sound(environment) => return Ok(environment),
            Cached::Damaged(why) => self.notify(Progress::Rebuilding(why)),
            Cached::Nothing => {}
        }
        sweep(&cache, &slot).await;
        let own = OwnUv {
            root: home,
            patience: self.network_timeout,
            limit: self.check_timeout,
            report: &|step| self.notify(step),
        };
        let tool = self.tool(named, &own).await?;
        let settings = match &tool {
            Tool::Uv { uv, .. } if *uv == own.path() => own.settings(),
            _ => Vec::new(),
        };
        let build = slot.build();
        self.notify(Progress::Creating(build.path().to_owned()));
        let report = |line: String| self.notify(Progress::Installing(line));
        let packages = self.packages();
        let installer = Installer {
            root: build.path(),
            scratch: home,
            lock: &lock,
            packages: &packages,
            constraints: self.constraints(),
            offline: self.offline,
            settings: &settings,
            report: &report,
        };
        installer.run(&tool).await?;
        self.notify(Progress::Verifying);
        installer.verify().await?;
        let path = build.path().to_owned();
        let python = interpreter::in_environment(&path);
        let made = Environment::examine(&python, Origin::Made, None, self.check_timeout).await;
        let environment = made.map_err(|failure| {
            let context = "the environment was created, but cannot run the server";
            let source = format!("{} {}", python.display(), failure.reason());
            Error::new(ErrorKind::Provision, context).with_source(source)
        })?;
        if environment.server_version() != self.version {
            let context = format!(
                "version {} was requested, but {} was installed",
                self.version,
                environment.server_version()
            );
            return Err(Error::new(ErrorKind::Provision, context));
        }
        let lease = build
            .finish(&packages.join("\n"))
            .map_err(|error| unusable(&path, error))?;
        // The replaced environment may have no users left.
        sweep(&cache, &slot).await;
        self.notify(Progress::Created(path));
        Ok(environment.leased(lease))
    }

    /// Returns the directories of the finished environments in the cache, sorted by name.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Io`] if no cache directory is known, or it cannot be read.
    pub fn cached(&self) -> Result<Vec<PathBuf>> {
        let cache = Cache::at(self.home()?);
        cache.finished().map_err(|error| {
            let path = cache.root().display();
            Error::directory(format!("cannot read the cache directory {path}"), error)
        })
    }

    /// Returns the uv that would be used: the one on the PATH, or else the one in the cache.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Io`] if no cache directory is known.
    pub fn uv(&self) -> Result<Option<PathBuf>> {
        let own = self.home()?.join(uv::PATH);
        let on_path = search::on_path("uv").into_iter().next();
        let found = on_path.or_else(|| own.exists().then_some(own));
        Ok(found.filter(|_| self.uv))
    }

    /// Returns the cached environment, and whether it works.
    async fn cached_in(&self, slot: &Slot) -> Result<Cached> {
        let content = slot.content().map_err(|error| {
            let path = slot.path();
            let context = format!("cannot examine the environment in {}", path.display());
            Error::directory(context, error)
        })?;
        let (root, lease) = match content {
            Content::Nothing => return Ok(Cached::Nothing),
            Content::HalfMade => {
                return Ok(Cached::Damaged("its creation was interrupted".to_owned()));
            }
            Content::Finished { root, lease } => (root, lease),
        };
        let python = interpreter::in_environment(&root);
        let examined = Environment::examine(&python, Origin::Cached, lease, self.check_timeout);
        match examined.await {
            Ok(environment) if environment.server_version() == self.version => {
                self.notify(Progress::Reused(root));
                Ok(Cached::Sound(environment))
            }
            Ok(environment) => {
                let other = environment.server_version();
                let why = format!("it contains version {other} instead of {}", self.version);
                Ok(Cached::Damaged(why))
            }
            Err(Failure::Absent(why)) => Ok(Cached::Damaged(format!("{} {why}", python.display()))),
            Err(Failure::Failed(why) | Failure::Unknown(why)) => {
                let (python, path) = (python.display(), slot.path());
                let context = format!(
                    "cannot check the cached environment: {python} {why}; nothing was changed; \
                     try again, or remove {} to create a new one",
                    path.display()
                );
                Err(Error::new(ErrorKind::CheckFailed, context))
            }
        }
    }

    fn constraints(&self) -> Option<&'static str> {
        self.pinned
            .then(|| requirements::constraints(&self.version))
            .flatten()
    }

    fn home(&self) -> Result<PathBuf> {
        let cache = self
            .cache
            .clone()
            .or_else(|| var(CACHE_VARIABLE))
            .or_else(|| Some(var("XDG_CACHE_HOME")?.join("openhands-rs")))
            .or_else(|| Some(search::home()?.join(".cache/openhands-rs")));
        let Some(cache) = cache else {
            let message = format!(
                "cannot determine the cache directory: set {CACHE_VARIABLE}, XDG_CACHE_HOME or HOME"
            );
            return Err(Error::new(ErrorKind::InvalidInput, message));
        };
        // An environment contains its own absolute path, so the path must not depend on the current
        // directory.
        let cache = std::path::absolute(&cache).unwrap_or(cache);
        if cache.to_str().is_none() {
            let message = format!(
                "the path of the cache directory must be valid UTF-8, because the installers \
                 accept no other: {}; set {CACHE_VARIABLE}",
                cache.display()
            );
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(cache)
    }

    fn check_input(&self) -> Result<()> {
        let fine = |c: char| c.is_ascii_alphanumeric() || ".+-_".contains(c);
        let bad_version = self.version.is_empty() || !self.version.chars().all(fine);
        let bad_extra = |text: &String| text.trim().is_empty() || text.starts_with('-');
        if bad_version || self.extra.iter().any(bad_extra) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a version must consist of letters, digits and `.+-_`; a requirement must not be \
                 empty or begin with `-`",
            ));
        }
        Ok(())
    }

    fn name(&self, named: Option<&(PathBuf, String)>) -> String {
        let mut name = format!("server-{}", self.version);
        if let Some((_, version)) = named {
            name.push_str(&format!("-py{version}"));
        }
        if !self.pinned && requirements::constraints(&self.version).is_some() {
            name.push_str("-unpinned");
        }
        if !self.extra.is_empty() {
            let hash = crate::hash::stable(self.extra.join("\n").as_bytes());
            name.push_str(&format!("-with-{hash:016x}"));
        }
        name
    }

    async fn named(&self, path: &Path) -> Result<(PathBuf, String)> {
        let looked = interpreter::look(path.to_owned(), "named", self.check_timeout).await;
        let (candidate, facts) = looked;
        self.notify(Progress::Checked(candidate.clone()));
        let kind = match (facts, &candidate.rejected) {
            (Ok(facts), None) => {
                let version = facts.version_text();
                return Ok((facts.executable, version));
            }
            (Err(Failure::Unknown(_)), _) => ErrorKind::CheckFailed,
            _ => ErrorKind::NoInterpreter,
        };
        let message = format!("the chosen interpreter cannot be used: {candidate}");
        Err(Error::new(kind, message))
    }

    async fn tool(&self, named: Option<(PathBuf, String)>, own: &OwnUv<'_>) -> Result<Tool> {
        let uv = self
            .uv
            .then(|| search::on_path("uv").into_iter().next())
            .flatten();
        let found = match &named {
            Some(_) => Vec::new(),
            None => {
                self.notify(Progress::Searching);
                search::find(self.check_timeout).await
            }
        };
        for (candidate, _) in &found {
            self.notify(Progress::Checked(candidate.clone()));
        }
        let fit = found.iter().find_map(|(candidate, facts)| {
            let facts = facts.as_ref().ok()?;
            candidate
                .rejected
                .is_none()
                .then(|| facts.executable.clone())
        });
        // uv can use an interpreter that lacks venv.
        let without_venv = found.iter().find_map(|(_, facts)| {
            let facts = facts.as_ref().ok().filter(|facts| !facts.is_old());
            facts.map(|facts| facts.executable.clone())
        });
        match (uv, named.map(|(path, _)| path).or(fit)) {
            (Some(uv), python) => {
                let python = python.or(without_venv);
                Ok(Tool::Uv { uv, python })
            }
            (None, Some(python)) => Ok(Tool::Pip { python }),
            (None, None) => {
                let uv = self.own_uv(own, &found).await?;
                let python = without_venv;
                Ok(Tool::Uv { uv, python })
            }
        }
    }

    /// Returns the uv in the cache, downloading it if it is missing.
    async fn own_uv(&self, own: &OwnUv<'_>, found: &[Found]) -> Result<PathBuf> {
        let path = own.path();
        if self.uv && path.exists() {
            return Ok(path);
        }
        let unknown = |(_, facts): &Found| matches!(facts, Err(Failure::Unknown(_)));
        if !self.uv || self.offline || found.iter().any(unknown) {
            return Err(no_interpreter(found, self.uv && self.offline));
        }
        let pips: Vec<_> = found
            .iter()
            .filter_map(|(_, facts)| facts.as_ref().ok())
            .filter(|facts| facts.pip)
            .map(|facts| facts.executable.clone())
            .collect();
        own.obtain(&pips).await
    }
}

impl fmt::Debug for Provisioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provisioner")
            .field("packages", &self.packages())
            .field("interpreter", &self.interpreter)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// State of the cached environment.
enum Cached {
    Sound(Environment),
    /// The environment is proven to be unusable, for this reason.
    Damaged(String),
    Nothing,
}

fn no_interpreter(found: &[Found], offline: bool) -> Error {
    let (major, minor) = interpreter::OLDEST;
    let unknown = |(_, facts): &Found| matches!(facts, Err(Failure::Unknown(_)));
    let (kind, mut message) = if found.iter().any(unknown) {
        let message = format!(
            "cannot determine whether Python {major}.{minor} or newer is installed: some \
             interpreters could not be run; try again"
        );
        (ErrorKind::CheckFailed, message)
    } else {
        let message = format!(
            "no Python {major}.{minor} or newer with venv was found on PATH, in ~/.pyenv/versions \
             (or PYENV_ROOT) or among uv's interpreters, and no uv on PATH; install Python \
             {major}.{minor}+ (python.org, your package manager), or uv \
             (https://docs.astral.sh/uv){}",
            match offline {
                true => "; OPENHANDS_OFFLINE forbids downloading uv",
                false => "",
            }
        );
        (ErrorKind::NoInterpreter, message)
    };
    for (candidate, _) in found {
        message.push_str(&format!("\n  rejected {candidate}"));
    }
    Error::new(kind, message)
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    let path = path.display();
    Error::directory(
        format!("cannot use {path} for the environment: {error}"),
        error,
    )
}

/// Removes unused directories from the cache, on a thread that may block.
async fn sweep(cache: &Cache, held: &Slot) {
    let (cache, name) = (cache.clone(), held.name().to_owned());
    let _only_a_panic = spawn_blocking(move || cache.sweep(&name)).await;
}

fn is_offline() -> bool {
    let value = std::env::var(OFFLINE_VARIABLE).unwrap_or_default();
    !matches!(value.trim(), "" | "0" | "false" | "no")
}
