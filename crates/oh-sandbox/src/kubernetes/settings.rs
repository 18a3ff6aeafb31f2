//! The settings of a claim, and the checks that need no cluster.

use std::{collections::BTreeMap, time::Duration};

use secrecy::SecretString;

use crate::{
    Error, ErrorKind, Result,
    kubernetes::cluster::Cluster,
    options::{check_key, check_value, check_variable},
};

/// The shortest lease. A shorter one would end with the first slow request.
pub(crate) const SHORTEST_LEASE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) cluster: Option<Cluster>,
    pub(crate) context: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) warm_pool: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) pod_labels: BTreeMap<String, String>,
    pub(crate) pod_annotations: BTreeMap<String, String>,
    pub(crate) port: u16,
    pub(crate) direct: bool,
    pub(crate) key: Option<SecretString>,
    pub(crate) init_key: Option<SecretString>,
    pub(crate) variables: Vec<(String, SecretString)>,
    pub(crate) lease: Duration,
    pub(crate) keep: bool,
    pub(crate) ready_within: Duration,
    pub(crate) workspace: String,
}

impl Default for Settings {
    fn default() -> Self {
        let managed = ("app.kubernetes.io/managed-by", "openhands-rs");
        Self {
            cluster: None,
            context: None,
            namespace: None,
            warm_pool: String::new(),
            labels: [managed]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            annotations: BTreeMap::new(),
            pod_labels: BTreeMap::new(),
            pod_annotations: BTreeMap::new(),
            port: 8000,
            direct: false,
            key: None,
            init_key: None,
            variables: Vec::new(),
            lease: Duration::from_secs(300),
            keep: false,
            ready_within: Duration::from_secs(180),
            workspace: "/workspace".to_owned(),
        }
    }
}

impl Settings {
    /// Rejects invalid values before anything is claimed.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |message: &str| Err(Error::new(ErrorKind::InvalidInput, message));
        if self.warm_pool.is_empty() {
            return invalid("`warm_pool` must be set");
        }
        self.check_connection()
    }

    /// Rejects invalid values of what is not part of a new claim.
    pub(crate) fn check_connection(&self) -> Result<()> {
        let invalid = |message: &str| Err(Error::new(ErrorKind::InvalidInput, message));
        if self.cluster.is_some() && self.context.is_some() {
            return invalid("`cluster` and `context` cannot be set together");
        }
        if self.port == 0 {
            return invalid("`port` must be above 0");
        }
        if self.lease < SHORTEST_LEASE {
            return invalid("`lease` must be at least 1 s");
        }
        if self.ready_within.is_zero() {
            return invalid("`ready_within` must be above 0");
        }
        if !self.workspace.starts_with('/') {
            return invalid("`workspace_dir` must be an absolute path");
        }
        if self.init_key.is_none() && !self.variables.is_empty() {
            return invalid("`env` needs `init_key`: variables are sent to a dormant server only");
        }
        for (name, value) in &self.variables {
            check_variable(name)?;
            check_value(name, value)?;
        }
        self.key.iter().try_for_each(check_key)
    }

    /// Returns the cluster, in the chosen namespace.
    pub(crate) async fn cluster(&self) -> Result<Cluster> {
        let cluster = match (&self.cluster, &self.context) {
            (Some(cluster), _) => cluster.clone(),
            (None, Some(context)) => Cluster::with_context(context).await?,
            (None, None) => Cluster::connect().await?,
        };
        Ok(match &self.namespace {
            Some(namespace) => cluster.in_namespace(namespace),
            None => cluster,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_settings_are_rejected_by_name() {
        let rejects = |change: &dyn Fn(&mut Settings), part: &str| {
            let mut settings = Settings {
                warm_pool: "agents".to_owned(),
                ..Settings::default()
            };
            settings.check().unwrap();
            change(&mut settings);
            let error = settings.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(part), "{error}");
        };
        rejects(&|s| s.warm_pool.clear(), "warm_pool");
        rejects(&|s| s.port = 0, "port");
        rejects(&|s| s.lease = Duration::from_millis(999), "lease");
        rejects(&|s| s.ready_within = Duration::ZERO, "ready_within");
        rejects(&|s| s.workspace = "here".to_owned(), "workspace_dir");
        rejects(&|s| s.key = Some("short".into()), "16 visible");
        let variable = ("TOKEN".to_owned(), SecretString::from("canary"));
        rejects(&|s| s.variables = vec![variable.clone()], "init_key");
    }
}
