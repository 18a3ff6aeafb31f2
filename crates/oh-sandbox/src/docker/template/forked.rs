//! Servers that are forked from a template, in the template's container.

use std::{
    fmt,
    future::IntoFuture,
    time::{Duration, Instant},
};

use oh_process::internal::{self, LogHub};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    Error, ErrorKind, ExitReport, Request, Result, Status,
    docker::{
        address::url_of,
        config,
        ended::ended_early,
        ready,
        template::{
            container::{DockerTemplate, LONGEST},
            slots::Slot,
            wire::{Orders, Report},
        },
    },
    options::{check_key, check_value, check_variable},
    running::{RunningServer, running_server},
};

/// Additional time for the container to report the end of a server.
const ANSWER: Duration = Duration::from_secs(30);

impl DockerTemplate {
    /// Prepares a server in the template's container; await the result to start it.
    pub fn server(&self) -> Fork {
        Fork {
            template: self.clone(),
            variables: Vec::new(),
            key: None,
            secret_key: None,
            workspace: None,
        }
    }
}

/// A pending start of a server from a [`DockerTemplate`]. Await it to start the server.
#[must_use = "no server is started until this is awaited"]
pub struct Fork {
    template: DockerTemplate,
    variables: Vec<(String, SecretString)>,
    key: Option<SecretString>,
    secret_key: Option<SecretString>,
    workspace: Option<String>,
}

impl Fork {
    /// Sets a variable for the server and the commands of its agents. The value is in nothing that
    /// the engine shows, and is removed from the server's logs.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Sets the only session key that the server accepts. Default: a random key. At least 16
    /// characters.
    pub fn session_api_key(mut self, key: impl Into<SecretString>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the key that encrypts the data that the server stores. Default: a random key.
    pub fn secret_key(mut self, key: impl Into<SecretString>) -> Self {
        self.secret_key = Some(key.into());
        self
    }

    /// Sets the directory of conversations that do not name one. Default: the template's, which all
    /// of its servers then share.
    pub fn workspace_dir(mut self, path: impl Into<String>) -> Self {
        self.workspace = Some(path.into());
        self
    }

    fn check(&self) -> Result<()> {
        for (name, value) in &self.variables {
            check_variable(name)?;
            check_value(name, value)?;
            self.template.0.check_variable(name)?;
        }
        for key in self.key.iter().chain(&self.secret_key) {
            check_key(key)?;
        }
        match self.workspace.as_deref() {
            Some(path) if !path.starts_with('/') || path.contains('\0') => {
                let message = format!("path {path:?} in the container must be absolute");
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
            _ => Ok(()),
        }
    }

    async fn run(self) -> Result<ForkedServer> {
        self.check()?;
        let Self {
            template,
            variables,
            key,
            secret_key,
            workspace,
        } = self;
        let inner = template.0.clone();
        let slot = inner.slots.take()?;
        let key = key.unwrap_or_else(internal::random_key);
        let secret_key = secret_key.unwrap_or_else(internal::random_key);
        let workspace = workspace.unwrap_or_else(|| inner.settings.workspace.clone());
        let host = match inner.settings.shares_network() {
            true => inner.settings.published_on.to_string(),
            false => "0.0.0.0".to_owned(),
        };
        let env: Map<String, Value> = variables
            .iter()
            .map(|(name, value)| (name.clone(), value.expose_secret().into()))
            .collect();
        let id = inner.number();
        let order = json!({
            "id": id,
            "host": host,
            "port": slot.inside(),
            "env": env,
            "config": config::text(std::slice::from_ref(&key), &secret_key),
            "workspace": workspace,
        });
        let mut secrets = vec![key.clone(), secret_key];
        secrets.extend(variables.into_iter().map(|(_, value)| value));
        let logs = LogHub::new(secrets);
        let reports = inner.link.register(id, &logs);
        let url = url_of(inner.host.clone(), slot.outside());
        let mut life = Life {
            reports,
            container: inner.ended.clone(),
            // From now on, an early return ends the server.
            running: Running {
                orders: inner.link.orders(),
                id,
                ended: false,
            },
            _slot: slot,
        };
        inner.link.orders().send(&order);
        let deadline = inner.settings.options.server.deadline;
        let ready = async {
            match timeout(deadline, ready::verified(&url, &key, deadline)).await {
                Ok(verified) => verified,
                Err(_) => Err(not_ready(deadline)),
            }
        };
        let begun = tokio::select! {
            biased;
            end = life.early_end() => Err(end),
            begun = ready => begun,
        };
        let info = begun.map_err(|error| error.with_log_tail(logs.tail()))?;
        inner.link.orders().send(&json!({ "id": id, "read": true }));
        let client = ready::client(&url, Some(&key), &ready::network()?)?;
        let name = format!("{}/{id}", template.id());
        let running = RunningServer::new(name, client, key, info, logs, workspace);
        let (sender, exit) = watch::channel(None);
        let on_end = running.on_end();
        tokio::spawn(async move {
            let report = life.end().await;
            on_end(&report);
            // The port is free before a shutdown returns.
            drop(life);
            sender.send_replace(Some(report));
        });
        Ok(ForkedServer {
            number: id,
            running,
            exit,
            template,
        })
    }
}

fn not_ready(deadline: Duration) -> Error {
    let seconds = deadline.as_secs_f32();
    let message = format!("the forked server was not ready within {seconds} s");
    Error::new(ErrorKind::NotReady, message)
}

impl IntoFuture for Fork {
    type Output = Result<ForkedServer>;
    type IntoFuture = Request<ForkedServer>;

    fn into_future(self) -> Self::IntoFuture {
        Request::new(self.run())
    }
}

impl fmt::Debug for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.variables.iter().map(|(name, _)| name).collect();
        f.debug_struct("Fork")
            .field("template", &self.template)
            .field("env", &names)
            .field("workspace", &self.workspace)
            .finish_non_exhaustive()
    }
}

/// A server that was started in the container.
struct Life {
    reports: mpsc::UnboundedReceiver<Report>,
    container: watch::Receiver<Option<ExitReport>>,
    running: Running,
    _slot: Slot,
}

/// Ends the server when this is dropped.
struct Running {
    // Not the template: its container is removed without waiting for this server.
    orders: Orders,
    id: u64,
    ended: bool,
}

impl Life {
    /// Waits for the next report. Returns how the container ended, if it ended first. Cancel-safe.
    async fn next(&mut self) -> Result<Report, ExitReport> {
        let ended = async {
            let ended = self.container.wait_for(Option::is_some).await;
            let ended = ended.ok().and_then(|report| report.clone());
            ended.unwrap_or_else(|| ExitReport::of_container(None, false))
        };
        tokio::select! {
            biased;
            Some(report) = self.reports.recv() => Ok(report),
            // The connection may outlast the container.
            report = ended => Err(report),
        }
    }

    /// Waits for the end of the server, or of its container. Cancel-safe.
    async fn end(&mut self) -> ExitReport {
        let report = loop {
            match self.next().await {
                Ok(Report::Exited(report)) | Err(report) => break report,
                Ok(_) => {}
            }
        };
        self.running.ended = true;
        report
    }

    /// Waits until the server cannot become ready anymore. Cancel-safe.
    async fn early_end(&mut self) -> Error {
        loop {
            match self.next().await {
                Ok(Report::Started | Report::Ready(_)) => {}
                Ok(Report::Refused(why)) => {
                    self.running.ended = true;
                    let message = format!("the server could not be forked in the container: {why}");
                    return Error::new(ErrorKind::Spawn, message);
                }
                Ok(Report::Exited(report)) => {
                    self.running.ended = true;
                    if report.code != Some(3) {
                        return ended_early(&report);
                    }
                    let message = "another program in the container uses the server's port; end it";
                    return Error::new(ErrorKind::PortTaken, message).with_exit(report);
                }
                Err(report) => return ended_early(&report),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.orders.end(self.id, Duration::ZERO);
        }
    }
}

/// A running server in the container of a [`DockerTemplate`], owned by this value. The server, and
/// everything that it started, is killed when this value is dropped, when
/// [`shutdown`](Self::shutdown) returns, and when this process ends for any reason.
///
/// Other servers of the template run in the same container: see [`DockerTemplate`].
#[must_use = "the server ends when this is dropped"]
pub struct ForkedServer {
    number: u64,
    running: RunningServer,
    exit: watch::Receiver<Option<ExitReport>>,
    template: DockerTemplate,
}

// A forked server cannot be paused, because its container has other servers.
running_server!(
    ForkedServer,
    "Returns the id of the container, with the number of the server in it.",
    "server"
);

impl ForkedServer {
    /// Returns the template whose container the server runs in.
    pub fn template(&self) -> &DockerTemplate {
        &self.template
    }

    /// Shuts the server down: sends SIGTERM, and after `grace` (at most a day) kills everything
    /// that the server started. Returns when all of it is gone and the server's own directories are
    /// removed. Other servers of the template keep running.
    ///
    /// Cancel-safe: dropping the future kills the server at once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`] if the container does not report the end. Dropping the template then
    /// removes the container.
    pub async fn shutdown(self, grace: Duration) -> Result<ExitReport> {
        let begun = Instant::now();
        let grace = grace.min(LONGEST);
        self.running.reporter.set(Status::Stopping);
        self.template.0.link.orders().end(self.number, grace);
        let mut exit = self.exit.clone();
        let ended = timeout(grace + ANSWER, exit.wait_for(Option::is_some)).await;
        let ended = ended.ok().and_then(Result::ok);
        let Some(mut report) = ended.and_then(|report| report.clone()) else {
            let message = "the container did not report the end of the server";
            return Err(Error::new(ErrorKind::Timeout, message));
        };
        report.killed = report.signal == Some(9);
        report.duration = begun.elapsed();
        Ok(report)
    }
}

impl Drop for ForkedServer {
    fn drop(&mut self) {
        if self.exit.borrow().is_none() {
            let orders = self.template.0.link.orders();
            orders.end(self.number, Duration::ZERO);
        }
        self.running.removed();
    }
}
