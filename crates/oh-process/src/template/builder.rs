//! The builder for a template.

use std::{ffi::OsString, time::Duration};

use crate::{
    Environment, LogLevel, Progress, Provisioner, Result, TemplateServer,
    provision::Report,
    start::{
        options::ServerOptions,
        settings::{Settings, Source},
        variables::Value,
    },
};

/// Configures and starts a [`TemplateServer`].
///
/// Sets what all servers forked from the template share: the environment, and the variables that
/// are read when the server's modules are imported. A template cannot be given a secret.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is started"]
pub struct TemplateServerBuilder {
    settings: Settings,
    fork_within: Duration,
}

/// Default of [`TemplateServerBuilder::fork_within`].
const FORK_WITHIN: Duration = Duration::from_secs(20);

impl Default for TemplateServerBuilder {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            fork_within: FORK_WITHIN,
        }
    }
}

impl TemplateServer {
    /// Creates a builder with default settings.
    pub fn builder() -> TemplateServerBuilder {
        TemplateServerBuilder::default()
    }
}

impl TemplateServerBuilder {
    /// Creates a builder for a template for servers with these settings. Their variables are not
    /// copied, because any of them may be a secret.
    pub(crate) fn like(settings: &Settings) -> Self {
        Self {
            settings: Settings {
                source: settings.source.clone(),
                server: ServerOptions {
                    log_level: settings.server.log_level,
                    deadline: settings.server.deadline,
                    ..ServerOptions::default()
                },
                report: settings.report.clone(),
                ..Settings::default()
            },
            ..Self::default()
        }
    }

    /// Sets the provisioner that finds or creates the environment. Default: [`Provisioner::new`].
    pub fn provisioner(mut self, provisioner: Provisioner) -> Self {
        self.settings.source = Source::Provision(provisioner);
        self
    }

    /// Sets the environment whose modules are imported.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.settings.source = Source::Environment(environment);
        self
    }

    /// Sets a callback for progress: the steps of [`Provisioner::on_progress`], and
    /// [`Progress::Starting`].
    pub fn on_progress(mut self, report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.settings.report = Some(Report::new(report));
        self
    }

    /// Sets the log level of the servers. Default [`LogLevel::Info`]. A server with another level
    /// is started cold.
    pub fn log_level(mut self, level: LogLevel) -> Self {
        self.settings.server.log_level = level;
        self
    }

    /// Sets a variable that is read when modules are imported, such as `LITELLM_DROP_PARAMS`. Only
    /// a server with the same value can be forked. Must not be a secret, because it is part of the
    /// template's environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let value = Value::Plain(value.into());
        self.settings.variables.set.push((name.into(), value));
        self
    }

    /// Sets how long the imports may take. Default 180 s; 8 to 14 s are usual.
    pub fn ready_within(mut self, deadline: Duration) -> Self {
        self.settings.server.deadline = deadline;
        self
    }

    /// Sets how long the template may take to fork a keeper. After this time the template is
    /// replaced and the server started cold. Default 20 s; about 20 ms are usual.
    pub fn fork_within(mut self, deadline: Duration) -> Self {
        self.fork_within = deadline;
        self
    }

    /// Starts the template and waits until the server's modules are imported.
    ///
    /// A task of the runtime that this is called on replaces the template when its process ends.
    ///
    /// Cancel-safe: dropping the future stops everything that was started.
    ///
    /// # Errors
    ///
    /// - The error of [`Provisioner::provision`] if the environment is not available.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the server's
    ///   version is too old.
    /// - [`ErrorKind::BadEnvironment`](crate::ErrorKind::BadEnvironment) if the modules cannot be
    ///   imported, or one of them starts a thread.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on systems other than Linux.
    ///
    /// Everything that was started is cleaned up.
    pub async fn start(self) -> Result<TemplateServer> {
        TemplateServer::start(self.settings, self.fork_within).await
    }
}
