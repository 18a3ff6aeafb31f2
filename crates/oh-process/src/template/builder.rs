//! Collects what a template is to be like.

use std::{ffi::OsString, time::Duration};

use crate::{
    Environment, LogLevel, Progress, Provisioner, Result, TemplateServer,
    provision::Report,
    settings::{Settings, Source},
    variables::Value,
};

/// Makes a [`TemplateServer`].
///
/// Sets what all servers forked from the template share: the environment, and the variables that
/// are read when the server's modules are imported. There is no way to give a template a secret.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is started"]
pub struct TemplateServerBuilder {
    settings: Settings,
    fork_within: Duration,
}

/// The default of [`TemplateServerBuilder::fork_within`].
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
    /// Begins a template with everything at its default.
    pub fn builder() -> TemplateServerBuilder {
        TemplateServerBuilder::default()
    }
}

impl TemplateServerBuilder {
    /// A template for servers with these settings. Their variables are not the template's: one of
    /// them may be a secret.
    pub(crate) fn like(settings: &Settings) -> Self {
        Self {
            settings: Settings {
                source: settings.source.clone(),
                log_level: settings.log_level,
                deadline: settings.deadline,
                report: settings.report.clone(),
                ..Settings::default()
            },
            ..Self::default()
        }
    }

    /// Finds or makes the environment with this. Default: [`Provisioner::new`].
    pub fn provisioner(mut self, provisioner: Provisioner) -> Self {
        self.settings.source = Source::Provision(provisioner);
        self
    }

    /// Imports the modules of this environment.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.settings.source = Source::Environment(environment);
        self
    }

    /// Sets a callback for progress: [`Provisioner::on_progress`], and [`Progress::Starting`].
    pub fn on_progress(mut self, report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.settings.report = Some(Report::new(report));
        self
    }

    /// What the servers log. Default [`LogLevel::Info`]. A server that wants another level is
    /// started cold.
    pub fn log_level(mut self, level: LogLevel) -> Self {
        self.settings.log_level = level;
        self
    }

    /// Sets a variable that is read when modules are imported, such as `LITELLM_DROP_PARAMS`. A
    /// server that is to be forked needs the same value. Must not be a secret: it is in the
    /// template's environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let value = Value::Plain(value.into());
        self.settings.variables.set.push((name.into(), value));
        self
    }

    /// How long the imports may take. Default 180 s; 8 to 14 s are usual.
    pub fn ready_within(mut self, deadline: Duration) -> Self {
        self.settings.deadline = deadline;
        self
    }

    /// How long the template may take to fork a keeper before it is replaced, and the server started
    /// cold. Default 20 s; some 20 ms are usual.
    pub fn fork_within(mut self, deadline: Duration) -> Self {
        self.fork_within = deadline;
        self
    }

    /// Starts the template and waits until the server's modules are imported.
    ///
    /// A task of the runtime that this is called on replaces the template when its process ends.
    ///
    /// Cancel safe: dropping the future ends what was started.
    ///
    /// # Errors
    ///
    /// When the environment cannot be had (see [`Provisioner::provision`]); when the modules cannot
    /// be imported, or one of them starts a thread
    /// ([`ErrorKind::BadEnvironment`](crate::ErrorKind::BadEnvironment)); on other systems than
    /// Linux ([`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported)). Nothing is left behind.
    pub async fn start(self) -> Result<TemplateServer> {
        TemplateServer::start(self.settings, self.fork_within).await
    }
}
