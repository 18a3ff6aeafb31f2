//! Makes and caches the Python environment of a server. Starts no server, prints nothing.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    Candidate, Environment, Error, ErrorKind, Origin, Result,
    install::{Installer, Tool},
    interpreter,
    lock::try_lock,
};

/// The version of the server that this crate is made for and provisions by default.
pub const SERVER_VERSION: &str = "1.58.0";

/// Names the cache directory, in the place of `$XDG_CACHE_HOME/openhands-rs`.
const CACHE_VARIABLE: &str = "OPENHANDS_CACHE_DIR";
/// Written last: an environment without it is half-made.
const MARKER: &str = "openhands-rs.complete";

/// What is being done. More steps may come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// A finished environment was found in the cache and is used again.
    Reused(PathBuf),
    /// Another process is making the same environment; waiting for it.
    Waiting,
    /// What was in the cache is half-made or broken, and is made anew; why.
    Rebuilding(String),
    /// Looking for an interpreter.
    Searching,
    /// An interpreter was looked at.
    Looked(Candidate),
    /// The environment is being made there.
    Creating(PathBuf),
    /// A line of what the installer says, such as `Collecting fastapi`.
    Installing(String),
    /// The environment is made.
    Created(PathBuf),
    /// The server's process is started; its imports take some ten seconds.
    Starting,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reused(path) => write!(f, "using the environment in {}", path.display()),
            Self::Waiting => f.write_str("another process makes this environment, waiting"),
            Self::Rebuilding(why) => write!(f, "making the environment anew: {why}"),
            Self::Searching => f.write_str("looking for Python 3.12 or newer, or uv"),
            Self::Looked(candidate) => write!(f, "found {candidate}"),
            Self::Creating(path) => write!(f, "making an environment in {}", path.display()),
            Self::Installing(line) => f.write_str(line),
            Self::Created(path) => write!(f, "made the environment in {}", path.display()),
            Self::Starting => f.write_str("starting the server"),
        }
    }
}

/// Whom to tell of progress.
#[derive(Clone)]
pub(crate) struct Report(Arc<dyn Fn(Progress) + Send + Sync>);

impl Report {
    pub(crate) fn new(report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self(Arc::new(report))
    }

    pub(crate) fn tell(&self, progress: Progress) {
        (self.0)(progress);
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report")
    }
}

/// Finds or makes an environment with the server's packages, pinned.
///
/// Made environments are cached in `$OPENHANDS_CACHE_DIR`, else `$XDG_CACHE_HOME/openhands-rs`,
/// else `~/.cache/openhands-rs`; one that is there is used without the network. Settings of pip
/// and uv (index, proxy, certificates) are theirs: their configuration and variables apply.
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
#[must_use = "a provisioner does nothing until it is told to provision"]
pub struct Provisioner {
    version: String,
    extra: Vec<String>,
    interpreter: Option<PathBuf>,
    cache: Option<PathBuf>,
    uv: bool,
    report: Option<Report>,
}

impl Default for Provisioner {
    fn default() -> Self {
        Self::new()
    }
}

impl Provisioner {
    /// One for [`SERVER_VERSION`].
    pub fn new() -> Self {
        Self {
            version: SERVER_VERSION.to_owned(),
            extra: Vec::new(),
            interpreter: None,
            cache: None,
            uv: true,
            report: None,
        }
    }

    /// Another version of the server's three packages.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// One more requirement, such as `my-tools==1.2`, for custom tools.
    pub fn requirement(mut self, requirement: impl Into<String>) -> Self {
        self.extra.push(requirement.into());
        self
    }

    /// The interpreter to make the environment with, instead of the best found.
    pub fn python(mut self, python: impl Into<PathBuf>) -> Self {
        self.interpreter = Some(python.into());
        self
    }

    /// Where environments are kept.
    pub fn cache_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.cache = Some(path.into());
        self
    }

    /// Whether uv is used when it is on the PATH. Default true; otherwise venv and pip are.
    pub fn use_uv(mut self, yes: bool) -> Self {
        self.uv = yes;
        self
    }

    /// Is told what is going on, from the task that provisions.
    pub fn on_progress(mut self, report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.report = Some(Report::new(report));
        self
    }

    /// Tells somebody else, unless its owner wanted to know.
    pub(crate) fn reporting(mut self, report: Option<&Report>) -> Self {
        self.report = self.report.or_else(|| report.cloned());
        self
    }

    fn tell(&self, progress: Progress) {
        if let Some(report) = &self.report {
            report.tell(progress);
        }
    }

    /// Returns what will be installed: the server's packages, pinned, the bounds that an old
    /// version needs, and the extra requirements.
    pub fn packages(&self) -> Vec<String> {
        ["agent-server", "sdk", "tools"]
            .iter()
            .map(|part| format!("openhands-{part}=={}", self.version))
            .chain(
                needed_bounds(&self.version)
                    .iter()
                    .map(|&bound| bound.to_owned()),
            )
            .chain(self.extra.iter().cloned())
            .collect()
    }

    /// All interpreters of this machine, fit ones first, each with why it was refused.
    pub async fn candidates(&self) -> Vec<Candidate> {
        let found = interpreter::find().await;
        found.into_iter().map(|(candidate, _)| candidate).collect()
    }

    /// Gives an environment: from the cache when a sound one is there, otherwise a new one.
    ///
    /// Cancel safe: what was half-made is removed. Makers in several processes take turns.
    ///
    /// # Errors
    ///
    /// Says what was looked for and where ([`ErrorKind::NoInterpreter`]), or why it could not be
    /// made: [`ErrorKind::IndexUnreachable`], [`ErrorKind::UnknownVersion`],
    /// [`ErrorKind::DiskFull`], [`ErrorKind::Directory`], [`ErrorKind::Provision`].
    pub async fn provision(&self) -> Result<Environment> {
        self.check_version()?;
        let home = self.home()?;
        fs::create_dir_all(&home).map_err(|error| unusable(&home, error))?;
        let named = match &self.interpreter {
            Some(path) => Some(self.named(path).await?),
            None => None,
        };
        let name = self.name(named.as_ref());
        let path = home.join(&name);
        if let Ok(environment) = self.reuse(&path).await {
            self.tell(Progress::Reused(path));
            return Ok(environment);
        }
        let _lock = self.lock(&home.join(name + ".lock")).await?;
        // Somebody else may have made it while we waited.
        match self.reuse(&path).await {
            Ok(environment) => {
                self.tell(Progress::Reused(path));
                return Ok(environment);
            }
            Err(why) if path.exists() => self.tell(Progress::Rebuilding(why)),
            Err(_) => {}
        }
        remove(&path).map_err(|error| unusable(&path, error))?;
        let half_made = HalfMade(Some(path.clone()));
        let tool = self.tool(named).await?;
        self.tell(Progress::Creating(path.clone()));
        let report = |line: String| self.tell(Progress::Installing(line));
        let installer = Installer {
            root: &path,
            scratch: &home,
            packages: &self.packages(),
            report: &report,
        };
        installer.run(&tool).await?;
        let environment = Environment::check(interpreter::in_environment(&path), Origin::Made)
            .await
            .map_err(|error| {
                let context = "the environment was made, but cannot run the server";
                Error::new(ErrorKind::Provision, context).with_source(error)
            })?;
        fs::write(path.join(MARKER), self.packages().join("\n"))
            .map_err(|error| unusable(&path, error))?;
        half_made.keep();
        self.tell(Progress::Created(path));
        Ok(environment)
    }

    /// The sound-looking environments in the cache: their directories, by name.
    ///
    /// # Errors
    ///
    /// When no cache directory is known.
    pub fn cached(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(self.home()?).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries
            .map(|entry| entry.path())
            .filter(|path| path.join(MARKER).is_file())
            .collect();
        paths.sort();
        Ok(paths)
    }

    /// The environment there if it is whole and sound; otherwise why not.
    async fn reuse(&self, path: &Path) -> Result<Environment, String> {
        if !path.join(MARKER).is_file() {
            return Err("it was left half-made".to_owned());
        }
        let python = interpreter::in_environment(path);
        let checked = Environment::check(python, Origin::Cached).await;
        let environment = checked.map_err(|error| error.to_string())?;
        if environment.server_version() != self.version {
            let other = environment.server_version();
            return Err(format!("it holds {other} instead of {}", self.version));
        }
        Ok(environment)
    }

    fn home(&self) -> Result<PathBuf> {
        let cache = self
            .cache
            .clone()
            .or_else(|| interpreter::var(CACHE_VARIABLE))
            .or_else(|| Some(interpreter::var("XDG_CACHE_HOME")?.join("openhands-rs")))
            .or_else(|| Some(interpreter::home()?.join(".cache/openhands-rs")));
        let Some(cache) = cache else {
            let message = format!(
                "no cache directory is known: set {CACHE_VARIABLE}, XDG_CACHE_HOME or HOME"
            );
            return Err(Error::new(ErrorKind::Directory, message));
        };
        // An environment holds its own path, so that path must mean the same from anywhere.
        let cache = std::path::absolute(&cache).unwrap_or(cache);
        Ok(cache)
    }

    fn check_version(&self) -> Result<()> {
        let fine = |c: char| c.is_ascii_alphanumeric() || ".+-_".contains(c);
        let bad_version = self.version.is_empty() || !self.version.chars().all(fine);
        let bad_extra = |text: &String| text.trim().is_empty() || text.starts_with('-');
        if bad_version || self.extra.iter().any(bad_extra) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a version is digits, letters and dots; a requirement is no option of the installer",
            ));
        }
        Ok(())
    }

    fn name(&self, named: Option<&(PathBuf, String)>) -> String {
        let mut name = format!("server-{}", self.version);
        if let Some((_, version)) = named {
            name.push_str(&format!("-py{version}"));
        }
        if !self.extra.is_empty() {
            // FNV-1a of what else is in it.
            let text = self.extra.join("\n");
            let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            name.push_str(&format!("-with-{hash:016x}"));
        }
        name
    }

    async fn named(&self, path: &Path) -> Result<(PathBuf, String)> {
        let (candidate, facts) = interpreter::look(path.to_owned(), "named").await;
        self.tell(Progress::Looked(candidate.clone()));
        match (facts, &candidate.refused) {
            (Some(facts), None) => {
                let version = facts.version_text();
                Ok((facts.executable, version))
            }
            _ => Err(Error::new(
                ErrorKind::NoInterpreter,
                format!("the interpreter named cannot be used: {candidate}"),
            )),
        }
    }

    async fn tool(&self, named: Option<(PathBuf, String)>) -> Result<Tool> {
        let uv = self.uv.then(|| which::which("uv").ok()).flatten();
        let mut refused = Vec::new();
        let python = match named {
            Some((path, _)) => Some(path),
            None => {
                self.tell(Progress::Searching);
                let mut first = None;
                for (candidate, facts) in interpreter::find().await {
                    self.tell(Progress::Looked(candidate.clone()));
                    match (facts, &candidate.refused) {
                        (Some(facts), None) if first.is_none() => first = Some(facts.executable),
                        (_, Some(_)) => refused.push(candidate),
                        _ => {}
                    }
                }
                first
            }
        };
        match (uv, python) {
            (Some(uv), python) => Ok(Tool::Uv { uv, python }),
            (None, Some(python)) => Ok(Tool::Pip { python }),
            (None, None) => Err(no_interpreter(&refused)),
        }
    }

    async fn lock(&self, path: &Path) -> Result<fs::File> {
        let mut told = false;
        // Polled, not waited for: a blocked thread could not be cancelled.
        loop {
            if let Some(lock) = try_lock(path).map_err(|error| unusable(path, error))? {
                return Ok(lock);
            }
            if !std::mem::replace(&mut told, true) {
                self.tell(Progress::Waiting);
            }
            sleep(Duration::from_millis(100)).await;
        }
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

/// Upper bounds that an old version of the server needs and does not state itself.
fn needed_bounds(version: &str) -> &'static [&'static str] {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    let release = (numbers.next().flatten(), numbers.next().flatten());
    match release {
        // Until 1.47 its routes pass `lte` to `Query`, which newer versions of fastapi reject.
        (Some(major), Some(minor)) if (major, minor) <= (1, 47) => &["fastapi<0.122"],
        _ => &[],
    }
}

fn no_interpreter(refused: &[Candidate]) -> Error {
    let (major, minor) = interpreter::OLDEST;
    let mut message = format!(
        "no Python {major}.{minor} or newer with venv was found on PATH, in ~/.pyenv/versions \
         (or PYENV_ROOT) or among uv's interpreters, and no uv on PATH; install Python {major}.{minor}+ \
         (python.org, your package manager), or uv (https://docs.astral.sh/uv)"
    );
    for candidate in refused {
        message.push_str(&format!("\n  refused {candidate}"));
    }
    Error::new(ErrorKind::NoInterpreter, message)
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    let path = path.display();
    Error::directory(format!("cannot use {path} for the environment"), error)
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the environment unless it was finished, on cancellation too.
struct HalfMade(Option<PathBuf>);

impl HalfMade {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for HalfMade {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _what_remains_lacks_the_marker = remove(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_up_to_1_47_get_the_fastapi_bound_that_they_need() {
        for (version, bounded) in [
            ("1.40.0", true),
            ("1.43.1", true),
            ("1.45.0", true),
            ("1.47.0", true),
            ("1.48.0", false),
            ("1.58.2", false),
            ("2.0.0", false),
            ("unknown", false),
        ] {
            let packages = Provisioner::new().version(version).packages();
            let found = packages.contains(&"fastapi<0.122".to_owned());
            assert_eq!(found, bounded, "{version}");
        }
    }
}
