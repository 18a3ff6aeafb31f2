//! Parts that `oh-sandbox` shares with this crate. Hidden: only crates of this project use them,
//! and they may change in any version.

use std::{collections::BTreeSet, ffi::OsString, io, path::Path, sync::Arc};

use oh_protocol::calls::{init::Init, server::ServerInfo};
use oh_transport::{Client, Network};
use secrecy::SecretString;
use tokio::{io::AsyncRead, sync::watch};

use crate::{
    ExitReport, Logs, Result, Status, StatusWatch,
    start::{probe, state},
    supervise::{keeper, logs},
    template,
};

pub use crate::start::activation::Activation;
pub use crate::start::options::{ServerOptions, check_key};

/// An authenticated route that is cheap and exists in every version.
pub const GUARDED: &str = probe::GUARDED;

/// A process that runs a script when this process ends, in any way.
#[derive(Debug, Clone)]
pub struct Keeper(keeper::Keeper);

impl Keeper {
    /// Starts a keeper with this interpreter: any Python 3.9 or newer.
    ///
    /// # Errors
    ///
    /// Returns an error if the interpreter cannot be started, or is too old.
    pub async fn start(python: &Path) -> Result<Self> {
        let environment: Vec<_> = std::env::vars_os().collect();
        crate::children::make_waitable();
        keeper::Keeper::start(python, &environment).await.map(Self)
    }

    /// Runs this Python script now, and its function `end(orphaned)` when the keeper ends. Returns
    /// the script's variable `said`, a string without line breaks. Not cancel-safe.
    ///
    /// # Errors
    ///
    /// Returns an error if the keeper has ended.
    pub async fn at_end(&self, script: &str) -> io::Result<String> {
        self.0.at_end(script).await
    }

    /// Ends the keeper and waits for its script, at most 12 s: then the keeper continues by itself.
    /// Requires no runtime.
    pub fn close_blocking(&self) {
        self.0.close_blocking();
    }

    /// Removes this path when the keeper ends, for any reason.
    ///
    /// # Errors
    ///
    /// Returns an error if the keeper has ended.
    pub fn remove_at_end(&self, path: &Path) -> io::Result<()> {
        self.0.remove_at_end(path)
    }

    /// Starts a command with this complete environment, while no other command runs. The keeper
    /// ends it, and everything that it has started.
    ///
    /// # Errors
    ///
    /// Returns an error if the command cannot be started.
    pub async fn run(
        &self,
        command: &[OsString],
        environment: &[(OsString, OsString)],
        directory: &Path,
    ) -> Result<Running> {
        let job = keeper::Job {
            command,
            environment,
            directory,
            config: b"",
            config_file: Path::new(""),
        };
        self.0.run(job).await.map(Running)
    }

    /// Sends SIGTERM to the command's process group.
    pub fn terminate(&self) {
        self.0.terminate();
    }

    /// Kills the command and everything that it has started.
    pub fn kill(&self) {
        self.0.kill();
    }

    /// Returns whether the keeper still runs.
    pub fn is_alive(&self) -> bool {
        self.0.is_alive()
    }
}

/// A command that a keeper runs.
#[derive(Debug)]
pub struct Running(keeper::Running);

impl Running {
    /// Returns the id of the command's process.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Waits until everything that was started is gone, and all output was read. The lines go to
    /// `logs`.
    pub async fn finish(self, logs: &LogHub) -> ExitReport {
        let keeper::Running {
            stdout,
            stderr,
            mut end,
            ..
        } = self.0;
        // The output ends with the last process.
        let ((), (), report) = tokio::join!(logs.drain(stdout), logs.drain(stderr), end.wait());
        report
    }
}

/// Distributes the lines of one server, without its secrets.
#[derive(Debug, Clone)]
pub struct LogHub(logs::LogHub);

impl LogHub {
    /// Creates a hub that hides these secrets.
    pub fn new(secrets: Vec<SecretString>) -> Self {
        Self(logs::LogHub::new(secrets))
    }

    /// Hides these secrets too, from now on.
    pub fn hide(&self, secrets: impl IntoIterator<Item = SecretString>) {
        self.0.hide(secrets);
    }

    /// Returns a stream of the lines from now on.
    pub fn subscribe(&self) -> Logs {
        self.0.subscribe()
    }

    /// Returns the last lines, oldest first.
    pub fn tail(&self) -> Vec<String> {
        self.0.tail()
    }

    /// Ends the streams of all subscribers.
    pub fn close(&self) {
        self.0.close();
    }

    /// Reads a pipe to its end.
    pub async fn drain(&self, pipe: impl AsyncRead + Unpin) {
        self.0.drain(pipe).await;
    }
}

/// Returns the scripts of a template, and the parameters of `scripts.json`, with their names.
pub fn template_scripts() -> [(&'static str, String); 5] {
    let parameters = serde_json::json!({
        "modules": template::parameters::MODULES,
        "libraries": template::parameters::LIBRARIES,
    });
    [
        ("loader.py", include_str!("supervise/loader.py").to_owned()),
        ("keeper.py", include_str!("supervise/keeper.py").to_owned()),
        (
            "template.py",
            include_str!("template/template.py").to_owned(),
        ),
        ("launch.py", include_str!("start/launch.py").to_owned()),
        ("scripts.json", parameters.to_string()),
    ]
}

/// Returns whether a variable is read when a template imports the server's modules. `noted` are the
/// names that the template has noted.
pub fn read_at_import(name: &str, noted: &BTreeSet<String>) -> bool {
    template::read_at_import(name, noted)
}

/// Returns a watch on a status that another crate sets.
pub fn status_watch(status: watch::Receiver<Status>) -> StatusWatch {
    StatusWatch(status)
}

/// Returns 244 random bits from the operating system, in hex.
pub fn random_key() -> SecretString {
    state::random_key().into()
}

/// Returns a network that uses no proxy.
///
/// # Errors
///
/// Returns an error if the certificates of the system cannot be loaded.
pub fn direct() -> oh_transport::Result<Network> {
    probe::direct()
}

/// Returns the status of the response to a `GET`, or `None` if there was no response.
pub async fn get_status(client: &Client, path: &str) -> Option<u16> {
    probe::get_status(client, path).await
}

/// Returns whether the server accepts this session key and no other. Returns `None` if the server
/// did not respond. The wrong key is sent first. `client` must have no key.
///
/// # Errors
///
/// Returns an error if the key contains characters that a header cannot hold.
pub async fn accepts_only(client: &Client, key: &SecretString) -> Result<Option<bool>> {
    probe::session(client, key).await
}

/// Returns whether a dormant server accepts this secret key for its activation and no other.
/// Returns `None` if the server did not respond. The server stays dormant.
///
/// # Errors
///
/// Returns an error if the request cannot be created.
pub async fn accepts_init(client: &Client, key: &SecretString) -> Result<Option<bool>> {
    probe::dormant(client, key).await
}

/// Activates a dormant server, and checks that it accepts the key of `client`.
///
/// # Errors
///
/// Returns an error if the server rejects the activation or the key.
pub async fn activate(client: &Client, init: &Init) -> Result<()> {
    probe::activate(client, init).await
}

/// Returns the server's information about itself. Rejects a version that is too old.
///
/// # Errors
///
/// Returns an error if the request fails, or the version is not supported.
pub async fn version(client: &Client) -> Result<Arc<ServerInfo>> {
    probe::version(client).await
}
