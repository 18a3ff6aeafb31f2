//! The settings of a container, and the checks that need no engine.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use crate::{
    Engine, Error, ErrorKind, Result,
    docker::{leftovers::PREFIX, progress::Report},
    options::Options,
};

/// Returns the image with the pinned server that its authors publish.
pub(crate) fn default_image() -> String {
    let version = oh_process::SERVER_VERSION;
    format!("ghcr.io/openhands/agent-server:{version}-python")
}

/// Port of the server in its container.
pub(crate) const PORT: u16 = 8000;

/// When to download the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Pull {
    /// If the engine does not have the image. The default.
    #[default]
    Missing,
    /// Before each start, so that a tag that was moved is followed.
    Always,
    /// Never. A missing image is an error.
    Never,
}

/// A directory, file or named volume that the container sees.
///
/// ```
/// use oh_sandbox::Volume;
///
/// let sources = Volume::bind("/home/me/project", "/workspace/project");
/// let cache = Volume::named("cargo-cache", "/cache").read_only(true);
/// # drop((sources, cache));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) named: bool,
    pub(crate) read_only: bool,
}

impl Volume {
    /// Creates a mount of a directory or file of the engine's machine. Both paths are absolute. The
    /// container's user needs the permission to use the files: see
    /// [`user`](crate::DockerServerBuilder::user).
    pub fn bind(source: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            target: target.into(),
            named: false,
            read_only: false,
        }
    }

    /// Creates a mount of a volume of the engine. The volume must exist, and is never removed.
    pub fn named(name: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            named: true,
            ..Self::bind(name, target)
        }
    }

    /// Sets whether the container can only read. Default false.
    #[must_use]
    pub fn read_only(mut self, yes: bool) -> Self {
        self.read_only = yes;
        self
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) engine: Option<Engine>,
    pub(crate) image: String,
    pub(crate) pull: Pull,
    pub(crate) platform: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: Options,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) network: Option<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) ports: Vec<u16>,
    pub(crate) published_on: IpAddr,
    pub(crate) user: Option<String>,
    pub(crate) memory: Option<u64>,
    pub(crate) cpus: Option<f64>,
    pub(crate) pids: Option<u32>,
    pub(crate) limits: Vec<(String, u64, u64)>,
    pub(crate) gpus: bool,
    pub(crate) capabilities: Vec<String>,
    pub(crate) usual_capabilities: bool,
    pub(crate) new_privileges: bool,
    pub(crate) workspace: String,
    pub(crate) grace: Duration,
    pub(crate) keep: bool,
    pub(crate) remove_image: bool,
    pub(crate) keeper: bool,
    /// The program of the container, if it is not the image's. It reads orders from its stdin, and
    /// writes reports to stdout.
    pub(crate) entrypoint: Option<Vec<String>>,
    /// Whether the server waits for its activation (deferred initialization).
    pub(crate) dormant: bool,
    pub(crate) report: Report,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            engine: None,
            image: default_image(),
            pull: Pull::default(),
            platform: None,
            name: None,
            labels: BTreeMap::new(),
            options: Options::default(),
            volumes: Vec::new(),
            network: None,
            hosts: Vec::new(),
            ports: Vec::new(),
            published_on: Ipv4Addr::LOCALHOST.into(),
            user: None,
            memory: None,
            cpus: None,
            pids: None,
            // As many as the server's own scripts ask for.
            limits: vec![("nofile".to_owned(), 65536, 65536)],
            gpus: false,
            capabilities: Vec::new(),
            usual_capabilities: false,
            new_privileges: false,
            workspace: "/workspace".to_owned(),
            grace: Duration::ZERO,
            keep: false,
            remove_image: false,
            keeper: true,
            entrypoint: None,
            dormant: false,
            report: Report::default(),
        }
    }
}

impl Settings {
    /// Rejects invalid values before anything is started.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        if self.image.trim().is_empty() || self.image.contains(char::is_whitespace) {
            return invalid(format!("{:?} is not the name of an image", self.image));
        }
        let word = |name: &str| {
            let mut letters = name.chars();
            letters.next().is_some_and(|c| c.is_ascii_alphanumeric())
                && letters.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        };
        if let Some(name) = self.name.as_deref().filter(|name| !word(name)) {
            return invalid(format!(
                "container name {name:?} is invalid: must begin with a letter or digit, and \
                 contain only letters, digits, `_`, `.` and `-`"
            ));
        }
        if let Some(label) = self.labels.keys().find(|label| label.starts_with(PREFIX)) {
            return invalid(format!(
                "label {label} is reserved: must not begin with {PREFIX}"
            ));
        }
        self.options.check()?;
        let targets = self.volumes.iter().map(|volume| &volume.target);
        for path in targets.chain([&self.workspace]) {
            if !path.starts_with('/') {
                return invalid(format!("path {path:?} in the container must be absolute"));
            }
        }
        for volume in &self.volumes {
            let fits = match volume.named {
                true => word(&volume.source),
                false => std::path::Path::new(&volume.source).is_absolute(),
            };
            if !fits {
                let needed = if volume.named {
                    "a volume's name"
                } else {
                    "an absolute path"
                };
                return invalid(format!(
                    "volume source {:?} must be {needed}",
                    volume.source
                ));
            }
        }
        if self
            .cpus
            .is_some_and(|cpus| !cpus.is_finite() || cpus <= 0.0)
        {
            return invalid("the number of CPUs must be above 0".to_owned());
        }
        if self.ports.contains(&0) || self.ports.contains(&PORT) {
            return invalid(format!(
                "a port of the container must be above 0, and other than the server's ({PORT})"
            ));
        }
        Ok(())
    }

    /// Returns whether the container shares the network of the engine's machine.
    pub(crate) fn shares_network(&self) -> bool {
        self.network.as_deref() == Some("host")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejects(change: impl FnOnce(&mut Settings), part: &str) {
        let mut settings = Settings::default();
        change(&mut settings);
        let error = settings.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn invalid_values_are_rejected_before_an_engine_is_needed() {
        Settings::default().check().unwrap();
        rejects(|s| s.image = "a b".to_owned(), "image");
        rejects(|s| s.name = Some("-x".to_owned()), "container name");
        rejects(|s| s.workspace = "here".to_owned(), "absolute");
        rejects(
            |s| s.volumes = vec![Volume::bind("here", "/x")],
            "absolute path",
        );
        rejects(|s| s.volumes = vec![Volume::bind("/x", "x")], "absolute");
        rejects(
            |s| s.volumes = vec![Volume::named("/x", "/x")],
            "volume's name",
        );
        rejects(|s| s.cpus = Some(f64::NAN), "CPUs");
        rejects(|s| s.ports = vec![8000], "port");
        rejects(
            |s| s.options.server.deadline = Duration::ZERO,
            "ready_within",
        );
        let label = |s: &mut Settings| s.labels.insert(format!("{PREFIX}owner"), String::new());
        rejects(|s| drop(label(s)), "reserved");
    }
}
