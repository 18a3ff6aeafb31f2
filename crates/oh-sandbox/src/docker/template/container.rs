//! The container of a template: a process that has imported the server's modules, and from which
//! servers in the same container are forked.

use std::{
    collections::BTreeSet,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use oh_process::internal::{self, LogHub};
use secrecy::SecretString;
use serde_json::json;
use tokio::{sync::watch, time::timeout};

use crate::{
    DockerServerBuilder, Engine, Error, ErrorKind, ExitReport, Logs, Request, Result,
    docker::{
        config,
        container::Container,
        ended::ended_early,
        image,
        launch::{Launched, Prepared, failed},
        ready,
        settings::Settings,
        supervise::Followed,
        template::{
            slots::Slots,
            wire::{Link, Report, TEMPLATE},
        },
    },
};

/// The first of the servers' ports in the container. Few programs use it.
const FIRST_PORT: u16 = 18000;
/// The limit of a wait that the process in the container enforces.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A container with a process that has imported the server's modules. Servers that are forked from
/// this process are ready after 1 to 3 s instead of 10 to 25 s, and use less memory.
///
/// # What the servers of a template share
///
/// **All of them run in the same container, as the same user.** They are not isolated from each
/// other. An agent can read and change the files of the others, also in the home directory and in
/// `/tmp`. It can end their processes, and read their memory with their keys. They also share the
/// network and the limits of the container. Use a template for the agents of one user or one task.
/// For agents that must not trust each other, use one [`DockerServer`] each, or a
/// [`WarmPool`](crate::WarmPool) of them.
///
/// Each server has its own process, port, keys, variables, logs, and directories for its state and
/// temporary files. The home directory is the image's.
///
/// The container lasts until the last clone of this value and the last of its servers are dropped.
/// It is removed when this process ends for any reason. A template whose process ends is replaced
/// when the next server is started.
///
/// ```no_run
/// # async fn run() -> Result<(), oh_sandbox::Error> {
/// use oh_sandbox::{DockerServer, DockerTemplate};
///
/// let template = DockerTemplate::start(4, DockerServer::builder().memory(4 << 30)).await?;
/// let one = template.server().await?;
/// let two = template.server().workspace_dir("/workspace/two").await?;
/// println!("{} {}", one.url(), two.url());
/// # Ok(()) }
/// ```
///
/// [`DockerServer`]: crate::DockerServer
#[derive(Clone)]
#[must_use = "the container is removed when this and its servers are dropped"]
pub struct DockerTemplate(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    /// Not set after a shutdown.
    container: Mutex<Option<Container>>,
    engine: Engine,
    id: String,
    pub(crate) host: String,
    pub(crate) link: Link,
    pub(crate) slots: Slots,
    next: AtomicU64,
    pub(crate) settings: Settings,
    /// Variables that were read while the modules were imported.
    read: BTreeSet<String>,
    pub(crate) logs: LogHub,
    pub(crate) ended: watch::Receiver<Option<ExitReport>>,
    // Ends with the container.
    _followed: Followed,
}

impl DockerTemplate {
    /// Starts a container with a template for up to `servers` servers at a time (at least 1), and
    /// waits until the modules are imported; await the result. `builder` configures the container
    /// that all servers share. Its keys, `arg`, `keep` and `remove_image` have no meaning here and
    /// are rejected.
    ///
    /// Cancel-safe: if the future is dropped, the container is removed.
    ///
    /// # Errors
    ///
    /// - As for [`DockerServerBuilder::start`].
    /// - [`ErrorKind::Unsupported`] if the image starts its server in another way than with
    ///   `python -m openhands.agent_server`, or the modules cannot be shared.
    pub fn start(servers: u16, builder: DockerServerBuilder) -> Request<Self> {
        Request::new(Box::pin(start(servers.max(1), builder.settings)))
    }

    /// Returns the id of the container.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Returns the engine that runs the container.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Returns how many more servers can be started now.
    pub fn available(&self) -> usize {
        self.0.slots.available()
    }

    /// Returns a stream of the lines that the template writes from now on. Servers have their own.
    pub fn logs(&self) -> Logs {
        self.0.logs.subscribe()
    }

    /// Shuts all servers of this template down: sends SIGTERM, after `grace` kills everything in
    /// the container, and removes the container.
    ///
    /// Cancel-safe: dropping the future removes the container at once.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine does not stop or remove the container. A keeper process then
    /// tries again for some minutes.
    pub fn shutdown(self, grace: Duration) -> Request<()> {
        Request::new(async move {
            let container = self.0.container.lock();
            let container = container.unwrap_or_else(PoisonError::into_inner).take();
            let Some(container) = container else {
                return Ok(());
            };
            self.0.engine.stop(&self.0.id, grace).await?;
            container.remove().await
        })
    }
}

/// Rejects settings that a container of several servers cannot have.
fn check(settings: &Settings) -> Result<()> {
    let options = &settings.options;
    let of_one = [
        ("session_api_key", !options.server.keys.is_empty()),
        ("secret_key", options.server.secret_key.is_some()),
        ("arg", !options.arguments.is_empty()),
        ("keep", settings.keep),
        ("remove_image", settings.remove_image),
    ];
    match of_one.iter().find(|(_, set)| *set) {
        Some((option, _)) => {
            let message = format!("`{option}` cannot be set for the container of a template");
            Err(Error::new(ErrorKind::InvalidInput, message))
        }
        None => Ok(()),
    }
}

async fn start(servers: u16, mut settings: Settings) -> Result<DockerTemplate> {
    check(&settings)?;
    let ports: Vec<u16> = (FIRST_PORT..).take(servers.into()).collect();
    settings.ports.extend(ports.iter().skip(1));
    let prepared = Prepared::new(&settings).await?;
    let entrypoint = image::with_program(&prepared.engine, &settings.image, config::BROKER);
    settings.entrypoint = Some(entrypoint.await?);
    let variables = settings.options.chosen_variables().into_iter();
    let secrets: Vec<SecretString> = variables.map(|(_, value)| value).collect();
    let logs = LogHub::new(secrets);
    let files = config::scripts()?;
    let launched = prepared.start(&settings, FIRST_PORT, files, &logs).await?;
    let Launched {
        engine,
        host,
        container,
        mut followed,
    } = launched;
    let deadline = settings.options.server.deadline;
    let begin = async {
        let published = match settings.shares_network() {
            true => Vec::new(),
            false => ready::published(&engine, &container.id, &ports).await?,
        };
        let link = Link::open(&engine, &container.id).await?;
        let mut reports = link.register(TEMPLATE, &logs);
        link.orders()
            .send(&json!({ "begin": deadline.min(LONGEST).as_secs_f64() }));
        let refused = |why: String| {
            let message = format!("cannot create a template in the container: {why}");
            Error::new(ErrorKind::Unsupported, message)
        };
        match timeout(deadline, reports.recv()).await {
            Ok(Some(Report::Ready(read))) => Ok((published, link, read)),
            Ok(Some(Report::Refused(why))) => Err(refused(why)),
            Ok(_) => {
                let message = "the connection with the template in the container was lost";
                Err(Error::new(ErrorKind::Interrupted, message))
            }
            Err(_) => {
                let seconds = deadline.as_secs_f32();
                let message =
                    format!("the template in the container was not ready within {seconds} s");
                Err(Error::new(ErrorKind::NotReady, message))
            }
        }
    };
    let begun = tokio::select! {
        biased;
        end = followed.end() => Err(ended_early(&end)),
        begun = begin => begun,
    };
    let (published, link, read): (Vec<(u16, SocketAddr)>, _, _) = match begun {
        Ok(begun) => begun,
        Err(error) => return Err(failed(container, &mut followed, &logs, error).await),
    };
    let slots = match settings.shares_network() {
        true => Slots::of_machine(settings.published_on, servers),
        false => Slots::published(published),
    };
    Ok(DockerTemplate(Arc::new(Inner {
        id: container.id.clone(),
        container: Mutex::new(Some(container)),
        engine,
        host,
        link,
        slots,
        next: AtomicU64::new(TEMPLATE + 1),
        settings,
        read: read.into_iter().collect(),
        logs,
        ended: followed.ended.clone(),
        _followed: followed,
    })))
}

impl Inner {
    /// Returns a number that no other server of this template has.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Rejects a variable that a forked server cannot have.
    pub(crate) fn check_variable(&self, name: &str) -> Result<()> {
        if !internal::read_at_import(name, &self.read) {
            return Ok(());
        }
        let message = format!(
            "environment variable {name} is read when the server's modules are imported; set it \
             on the builder of the template"
        );
        Err(Error::new(ErrorKind::InvalidInput, message))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // First the container, then the tasks that would report its end.
        let container = self.container.get_mut();
        drop(container.unwrap_or_else(PoisonError::into_inner).take());
        self.logs.close();
    }
}

impl fmt::Debug for DockerTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerTemplate")
            .field("container", &self.0.id)
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}
