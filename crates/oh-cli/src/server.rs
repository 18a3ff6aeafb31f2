//! The server that a command uses.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
#[cfg(feature = "kubernetes")]
use openhands::sandbox::KubernetesServer;
use openhands::{
    Client, LocalServer, Workspace,
    process::{Attach, AttachedServer, ConversationContainers, Progress},
    protocol::printable,
    sandbox::Engine,
};

use crate::{
    exit::{Exit, Failure},
    records::{self, Container, Place, Record},
};

/// The agent's directory in a container and in a sandbox.
pub(crate) const MOUNTED: &str = "/workspace";
/// Time after which the cluster removes a sandbox whose program was killed.
#[cfg(feature = "kubernetes")]
const LEASE: Duration = Duration::from_secs(60);
/// Number of lines of a log that explain a failure.
const LOG_LINES: usize = 12;
/// Time in which an own server must end.
const GRACE: Duration = Duration::from_secs(10);
/// Time between two looks at a server that another program starts.
const PAUSE: Duration = Duration::from_millis(50);
/// Time in which a server that another program has started must respond.
const PRESENT: Duration = Duration::from_secs(10);

/// The place of the server.
#[derive(Args)]
pub(crate) struct At {
    /// Use the server at this URL, with the session key in OH_SESSION_API_KEYS_0 or
    /// SESSION_API_KEY; or the server of this file, which `oh serve --detach` has written.
    /// Default: OH_SERVER, or the background server.
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
}

impl At {
    /// Returns the URL of the option or the variable.
    pub(crate) fn url(&self) -> Option<String> {
        let variable = || std::env::var("OH_SERVER").ok();
        let url = self.server.clone().or_else(variable);
        url.filter(|url| !url.is_empty())
    }
}

/// A server with which a command works.
pub(crate) enum Server {
    /// A server that ends with this program.
    Own {
        server: LocalServer,
        /// Kept so that no other program uses the same state.
        place: Option<Place>,
    },
    /// A server in a sandbox of a cluster, which is removed at the end of this program.
    #[cfg(feature = "kubernetes")]
    Pod(Box<KubernetesServer>),
    /// A server that another program runs.
    Given {
        client: Client,
        version: String,
        /// Whether the server was started by `oh`, so it works with the files of this machine.
        local: bool,
    },
}

impl Server {
    /// Returns the given server, or the background server, or a private one without stored state.
    pub(crate) async fn any(at: &At) -> Result<Self, Failure> {
        match at.url() {
            Some(url) => Self::at(&url).await,
            None => match Self::background().await? {
                Some(server) => Ok(server),
                None => Self::temporary(note).await,
            },
        }
    }

    /// Connects to the server at the URL, or to the server of a connection file.
    pub(crate) async fn at(url: &str) -> Result<Self, Failure> {
        if !url.contains("://") && Path::new(url).is_file() {
            return Self::of_file(Path::new(url)).await;
        }
        let client = Client::builder(url).session_api_key_from_env().build()?;
        client.check().await?;
        let version = client.server_info().await?.version.to_string();
        Ok(Self::Given {
            client,
            version,
            local: false,
        })
    }

    /// Connects to the background server, if one is running.
    pub(crate) async fn background() -> Result<Option<Self>, Failure> {
        Self::of_another_program(&records::background()?).await
    }

    /// Connects to the server of the program that works in this place. Waits if that program is
    /// starting its server. `None` if no program works there.
    pub(crate) async fn of_another_program(place: &Path) -> Result<Option<Self>, Failure> {
        let file = records::connection(place);
        while records::in_use(place) {
            if file.exists() {
                match AttachedServer::from_file(&file) {
                    Ok(attach) => return Self::attached(attach).await.map(Some),
                    // Removed in this moment.
                    Err(_) if !file.exists() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(None)
    }

    /// Connects to the server that has written this file.
    async fn of_file(file: &Path) -> Result<Self, Failure> {
        Self::attached(AttachedServer::from_file(file)?).await
    }

    async fn attached(attach: Attach) -> Result<Self, Failure> {
        let server = attach.ready_within(PRESENT).await?;
        Ok(Self::Given {
            client: server.client().clone(),
            version: server.info().version.to_string(),
            local: true,
        })
    }

    /// Starts a server whose state is in this place, where other programs find it.
    ///
    /// `modules` are directories of Python modules that conversations can load. The agents run in
    /// the container, if there is one.
    pub(crate) async fn own(
        place: Place,
        modules: &[PathBuf],
        container: Option<&Container>,
        report: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let builder = LocalServer::builder()
            .state_dir(place.server())
            .connection_file(records::connection(place.path()))
            .on_progress(move |step: Progress| report(&step.to_string()));
        let modules = modules.iter();
        let mut builder = modules.fold(builder, |builder, path| builder.python_path(path));
        if let Some(container) = container {
            // The server would not say why it cannot create a container.
            Engine::connect().await?;
            let mut containers = ConversationContainers::new();
            if let Some(image) = &container.image {
                containers = containers.image(image);
            }
            builder = builder.conversation_containers(containers);
        }
        let server = builder.start().await?;
        Ok(Self::Own {
            server,
            place: Some(place),
        })
    }

    /// Starts a server without stored state.
    pub(crate) async fn temporary(
        report: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let server = LocalServer::builder()
            .on_progress(move |step: Progress| report(&step.to_string()))
            .start()
            .await?;
        Ok(Self::Own {
            server,
            place: None,
        })
    }

    /// Claims a sandbox from a warm pool of the current cluster.
    #[cfg(feature = "kubernetes")]
    pub(crate) async fn pod(pool: &str) -> Result<Self, Failure> {
        let set = |name| std::env::var(name).ok().filter(|key| !key.is_empty());
        let mut builder = KubernetesServer::builder().warm_pool(pool).lease(LEASE);
        let session = || set("OH_SESSION_API_KEYS_0").or_else(|| set("SESSION_API_KEY"));
        if let Some(key) = set("OH_INIT_KEY") {
            builder = builder.init_key(key);
        } else if let Some(key) = session() {
            builder = builder.session_api_key(key);
        }
        let server = builder.start().await?;
        if server.is_open() {
            note("the server in the sandbox has no key: everyone in the cluster can use it");
        }
        Ok(Self::Pod(Box::new(server)))
    }

    #[cfg(not(feature = "kubernetes"))]
    pub(crate) async fn pod(_pool: &str) -> Result<Self, Failure> {
        let message = "this `oh` was built without Kubernetes: install it with `cargo install \
                       --path crates/oh-cli --features kubernetes`";
        Err(Exit::Configuration.because(message))
    }

    pub(crate) fn client(&self) -> &Client {
        match self {
            #[cfg(feature = "kubernetes")]
            Self::Pod(server) => server.client(),
            Self::Own { server, .. } => server.client(),
            Self::Given { client, .. } => client,
        }
    }

    pub(crate) fn version(&self) -> String {
        match self {
            #[cfg(feature = "kubernetes")]
            Self::Pod(server) => server.info().version.to_string(),
            Self::Own { server, .. } => server.info().version.to_string(),
            Self::Given { version, .. } => version.clone(),
        }
    }

    pub(crate) fn workspace(&self, directory: &str) -> Workspace {
        Workspace::new(self.client(), directory)
    }

    /// Returns the directory of a run, as its agent sees it. Commands there run where the agent
    /// runs: outside of its container, git would obey the settings that the agent has written.
    pub(crate) fn workspace_of(&self, record: &Record) -> Workspace {
        match record.container {
            Some(_) => self.workspace(MOUNTED).in_conversation(record.conversation),
            None => self.workspace(&record.directory),
        }
    }

    /// Adds the last lines of an own server's log to a failure.
    pub(crate) fn with_log(&self, failure: Failure) -> Failure {
        let Self::Own { server, .. } = self else {
            return failure;
        };
        let log = server.log_tail();
        let lines = log.iter().rev().take(LOG_LINES).rev();
        let lines: Vec<_> = lines.map(|line| printable(line)).collect();
        let message = format!("{}\n{}", failure.message, lines.join("\n"));
        failure.exit.because(message)
    }

    /// Returns whether the server works with the files of this machine.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Own { .. } => true,
            Self::Given { local, .. } => *local,
            #[cfg(feature = "kubernetes")]
            Self::Pod(_) => false,
        }
    }

    /// Returns whether the server ends with this program.
    pub(crate) fn is_own(&self) -> bool {
        !matches!(self, Self::Given { .. })
    }

    /// Returns the place of an own server's state.
    pub(crate) fn place(&self) -> Option<&Place> {
        match self {
            Self::Own { place, .. } => place.as_ref(),
            _ => None,
        }
    }

    /// Ends an own server: at once, or in order.
    pub(crate) async fn end(self, at_once: bool) -> Result<(), Failure> {
        let (server, _place) = match self {
            Self::Own { server, place } => (server, place),
            Self::Given { .. } => return Ok(()),
            #[cfg(feature = "kubernetes")]
            Self::Pod(server) => return Ok(server.shutdown(GRACE).await.map(drop)?),
        };
        if at_once {
            drop(server);
            return Ok(());
        }
        let report = server.shutdown(GRACE).await?;
        match report.success() {
            true => Ok(()),
            false => {
                Err(Exit::Internal.because(format!("the server did not end in order: {report}")))
            }
        }
    }
}

/// Writes a line to stderr: progress, and what a person must know.
pub(crate) fn note(text: &str) {
    use std::io::Write as _;

    let _ = writeln!(std::io::stderr(), "oh: {text}");
}
