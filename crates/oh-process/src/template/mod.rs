//! The template: a process that has imported the server's modules. Forking a server from it takes a
//! fraction of the time and memory of a cold start. Each forked server is a [`LocalServer`].
//!
//! [`LocalServer`]: crate::LocalServer

mod builder;
mod fit;
pub(crate) mod parameters;
#[cfg(target_os = "linux")]
mod process;
#[cfg(not(target_os = "linux"))]
#[path = "process_unsupported.rs"]
mod process;

use std::{
    ffi::OsString,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::{task::JoinHandle, time::sleep};
use tracing::{debug, warn};

pub use builder::TemplateServerBuilder;
pub(crate) use fit::read_at_import;

use crate::{
    Environment, Error, Progress, Result,
    provision::requirements,
    start::settings::{Settings, Source},
    supervise::keeper::Keeper,
};
use process::{End, Failed, Process};

/// First delay before another attempt to replace a template that has ended.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A process that has imported the server's modules once and forks servers from there. Linux only.
///
/// A forked server ([`LocalServerBuilder::template`](crate::LocalServerBuilder::template)) is ready
/// after about 1.5 s instead of 12 s and uses about 76 MiB of private memory instead of 340 MiB. In
/// all other respects it is like a server that was started cold: it has its own process, session,
/// keeper, keys, directories, variables and logs.
///
/// Forked servers share the state of the imported modules. This includes the values of the
/// variables that are read at import, the seed of Python's hashes and the memory layout. The
/// template has no key and no secret, opens no port and runs no agent.
///
/// A server is started cold if its variables, log level or environment differ from the template's,
/// or while the template is being replaced. [`LocalServer::startup`](crate::LocalServer::startup)
/// returns the reason.
///
/// Clones share one template. The template ends with the last clone, and when this process ends for
/// any reason. Servers that were forked from it keep running. A template whose process ends is
/// replaced.
///
/// ```no_run
/// # async fn run() -> Result<(), oh_process::Error> {
/// use oh_process::{LocalServer, TemplateServer};
///
/// let template = TemplateServer::builder().start().await?;
/// let one = LocalServer::builder().template(&template).start().await?;
/// let two = LocalServer::builder().template(&template).start().await?;
/// println!("{} ({}), {}", one.url(), one.startup(), two.url());
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "the template ends when this is dropped"]
pub struct TemplateServer(Arc<Inner>);

/// A handle that does not keep the template alive.
#[derive(Clone)]
pub(crate) struct TemplateHandle(Weak<Inner>);

struct Inner {
    environment: Environment,
    fork_within: Duration,
    present: Mutex<Present>,
    replacer: Mutex<Option<JoinHandle<()>>>,
}

struct Present {
    process: Option<Arc<Process>>,
    /// Why there is no process.
    missing: String,
    statistics: TemplateStatistics,
}

/// Counters of a template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TemplateStatistics {
    /// Number of keepers forked, each for one server and its restarts.
    pub forked: u64,
    /// Number of servers started cold instead.
    pub cold_starts: u64,
    /// Number of times the template's process ended unexpectedly.
    pub ended: u64,
    /// Time that the last process took to import the server's modules.
    pub import_time: Duration,
}

impl TemplateServer {
    pub(crate) async fn start(settings: Settings, fork_within: Duration) -> Result<Self> {
        settings.check()?;
        let environment = match &settings.source {
            Source::Environment(environment) => environment.clone(),
            Source::Provision(provisioner) => {
                let provisioner = provisioner.clone().reporting(settings.report.as_ref());
                provisioner.provision().await?
            }
        };
        requirements::check_supported(environment.server_version())?;
        if let Some(report) = &settings.report {
            report.notify(Progress::Starting);
        }
        let begun = Instant::now();
        let started = Box::pin(Process::start(&environment, &settings)).await;
        let (process, end) = started.map_err(|failed| failed.error)?;
        let inner = Arc::new(Inner {
            environment,
            fork_within,
            present: Mutex::new(Present {
                process: Some(Arc::new(process)),
                missing: String::new(),
                statistics: TemplateStatistics {
                    import_time: begun.elapsed(),
                    ..TemplateStatistics::default()
                },
            }),
            replacer: Mutex::new(None),
        });
        let replacer = tokio::spawn(replace(Arc::downgrade(&inner), settings, end));
        *inner.replacer() = Some(replacer);
        Ok(Self(inner))
    }

    /// Returns the environment whose modules are imported.
    pub fn environment(&self) -> &Environment {
        &self.0.environment
    }

    /// Returns the id of the template's process, or `None` while it is being replaced.
    pub fn pid(&self) -> Option<u32> {
        self.0.present().process.as_ref().map(|now| now.pid())
    }

    /// Returns the template's counters.
    pub fn statistics(&self) -> TemplateStatistics {
        self.0.present().statistics.clone()
    }

    pub(crate) fn handle(&self) -> TemplateHandle {
        TemplateHandle(Arc::downgrade(&self.0))
    }
}

impl TemplateHandle {
    /// Forks a keeper for a server with this environment and these variables.
    ///
    /// # Errors
    ///
    /// Returns the reason why the server must be started cold.
    pub(crate) async fn keeper(
        &self,
        environment: &Environment,
        variables: &[(OsString, OsString)],
    ) -> Result<Keeper, String> {
        let inner = self.0.upgrade();
        let inner = inner.ok_or_else(|| "the template was dropped".to_owned())?;
        let forked = inner.keeper(environment, variables).await;
        let statistics = &mut inner.present().statistics;
        match &forked {
            Ok(_) => statistics.forked += 1,
            Err(_) => statistics.cold_starts += 1,
        }
        forked
    }
}

impl Inner {
    async fn keeper(
        &self,
        environment: &Environment,
        variables: &[(OsString, OsString)],
    ) -> Result<Keeper, String> {
        let ours = &self.environment;
        if environment.python() != ours.python()
            || environment.server_version() != ours.server_version()
            || environment.python_version() != ours.python_version()
        {
            return Err("the template uses another environment".to_owned());
        }
        let process = {
            let present = self.present();
            match &present.process {
                Some(process) => process.clone(),
                None => return Err(present.missing.clone()),
            }
        };
        match process.fixed.refusal(variables) {
            Some(reason) => Err(reason),
            None => process.fork(self.fork_within).await,
        }
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replacer(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.replacer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(replacer) = self.replacer().take() {
            replacer.abort();
        }
    }
}

/// Replaces the process each time it ends.
async fn replace(inner: Weak<Inner>, settings: Settings, mut end: End) {
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        end.wait().await;
        if begun.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        let Some(environment) = ended(&inner) else {
            return;
        };
        warn!(
            ?pause,
            "the server template ended unexpectedly; starting another"
        );
        end = loop {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let begun = Instant::now();
            match Box::pin(Process::start(&environment, &settings)).await {
                Ok((process, end)) => {
                    let Some(inner) = inner.upgrade() else {
                        return;
                    };
                    let mut present = inner.present();
                    present.process = Some(Arc::new(process));
                    present.statistics.import_time = begun.elapsed();
                    debug!("the new template is ready");
                    break end;
                }
                Err(Failed { error, is_final }) => {
                    warn!(%error, "cannot restart the template");
                    let Some(inner) = inner.upgrade() else {
                        return;
                    };
                    inner.present().missing = error_in_short(&error);
                    if is_final {
                        return;
                    }
                }
            }
        };
    }
}

/// Records that the process has ended, and returns the environment for its successor.
fn ended(inner: &Weak<Inner>) -> Option<Environment> {
    let inner = inner.upgrade()?;
    let mut present = inner.present();
    let process = present.process.take();
    present.missing = "the template has ended and is being replaced".to_owned();
    present.statistics.ended += 1;
    drop(present);
    drop(process);
    Some(inner.environment.clone())
}

/// Formats an error without the last lines of its log.
fn error_in_short(error: &Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    format!("the template could not be restarted: {first}")
}

impl fmt::Debug for TemplateServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateServer")
            .field("environment", &self.0.environment)
            .field("pid", &self.pid())
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TemplateHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TemplateHandle")
    }
}
