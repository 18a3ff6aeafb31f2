//! Waits until the server in a pod is ready, activates it if it is dormant, and verifies its keys.

use std::{sync::Arc, time::Duration};

use oh_process::internal;
use oh_protocol::calls::{
    init::{GetInitStatus, Init, InitState},
    server::ServerInfo,
};
use oh_transport::Client;
use secrecy::SecretString;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use crate::{
    Error, ErrorKind, Result,
    docker::ready::{client, network, verified},
    kubernetes::settings::Settings,
};

/// Delay between two attempts. Each one opens a connection through the API of the cluster.
const PAUSE: Duration = Duration::from_millis(200);

/// How the server in a pod is accessed.
#[derive(Clone)]
pub(crate) struct Keys {
    /// The session key of the client. An open server ignores it.
    pub(crate) session: SecretString,
    fixed: bool,
    init: Option<SecretString>,
    variables: Vec<(String, SecretString)>,
    /// Whether an active server is expected as well as a dormant one.
    attaching: bool,
}

/// A server that was verified.
pub(crate) struct Verified {
    pub(crate) client: Client,
    pub(crate) info: Arc<ServerInfo>,
    /// Whether the server accepts requests without a key.
    pub(crate) open: bool,
}

impl Keys {
    pub(crate) fn new(settings: &Settings) -> Self {
        let chosen = settings.key.clone();
        Self {
            fixed: chosen.is_some(),
            session: chosen.unwrap_or_else(internal::random_key),
            init: settings.init_key.clone(),
            variables: settings.variables.clone(),
            attaching: false,
        }
    }

    /// Accepts an active server, too.
    pub(crate) fn attaching(mut self) -> Self {
        self.attaching = true;
        self
    }

    /// Returns what must not be shown.
    pub(crate) fn secrets(&self) -> Vec<SecretString> {
        let variables = self.variables.iter().map(|(_, value)| value);
        let keys = self.init.iter().chain([&self.session]);
        variables.chain(keys).cloned().collect()
    }

    /// Waits until the server is ready, and verifies that it accepts the session key and no other.
    /// A dormant server is activated first.
    pub(crate) async fn verify(&self, url: &str, deadline: Instant) -> Result<Verified> {
        let checks = async {
            let network = network()?;
            let anonymous = client(url, None, &network)?;
            let state = dormancy(&anonymous).await?;
            let keyed = client(url, Some(&self.session), &network)?;
            match (&self.init, state) {
                (Some(init), InitState::Dormant) => self.activate(&keyed, init).await?,
                (Some(_), _) if self.attaching => {}
                (Some(_), _) => {
                    let message = "the server in the pod is active already; set \
                                   OH_DEFERRED_INIT=1 and OH_SECRET_KEY in the SandboxTemplate, \
                                   or do not set `init_key`";
                    return Err(Error::new(ErrorKind::NotAnAgentServer, message));
                }
                (None, InitState::Dormant) => {
                    let message = "the server in the pod waits for its activation; set `init_key` \
                                   to the OH_SECRET_KEY of the SandboxTemplate";
                    return Err(Error::new(ErrorKind::InvalidInput, message));
                }
                (None, _) => {}
            }
            if self.init.is_none() && !self.fixed {
                let open = internal::get_status(&anonymous, internal::GUARDED).await;
                return unguarded(open, keyed, url).await;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let info = verified(url, &self.session, left).await?;
            Ok(Verified {
                client: keyed,
                info,
                open: false,
            })
        };
        timeout_at(deadline, checks).await.unwrap_or_else(|_| {
            let message = "the server in the pod did not answer in time; check that it listens on \
                           `port`, or set a longer `ready_within`";
            Err(Error::new(ErrorKind::NotReady, message))
        })
    }

    async fn activate(&self, keyed: &Client, init: &SecretString) -> Result<()> {
        let mut call = Init::new(init.clone()).session_api_key(self.session.clone());
        for (name, value) in &self.variables {
            call = call.env(name.clone(), value.clone());
        }
        let activated = internal::activate(keyed, &call).await;
        let status = |error: &oh_process::Error| error.transport_error()?.status();
        activated.map_err(|error| match status(&error) {
            Some(http::StatusCode::UNAUTHORIZED) => {
                let message = "the server in the pod rejects the init key; use the OH_SECRET_KEY \
                               of the SandboxTemplate";
                Error::new(ErrorKind::Unauthorized, message).with_source(error)
            }
            _ => Error::shared("cannot activate the server in the pod", error),
        })
    }
}

/// Waits until the server answers, and returns whether it waits for its activation.
async fn dormancy(anonymous: &Client) -> Result<InitState> {
    loop {
        match internal::get_status(anonymous, "/ready").await {
            Some(200) => break,
            None | Some(502 | 503) => sleep(PAUSE).await,
            Some(status) => {
                let message = format!(
                    "what answers in the pod is not an agent server: GET /ready returns status \
                     {status}; correct `port` or the image of the SandboxTemplate"
                );
                return Err(Error::new(ErrorKind::NotAnAgentServer, message));
            }
        }
    }
    match anonymous.call(GetInitStatus::default()).await {
        Ok(status) => Ok(status.state),
        // Servers before deferred initialization are always active.
        Err(error) if error.status().is_some() => Ok(InitState::Ready),
        Err(error) => Err(Error::transport(
            "cannot read the state of the server",
            error,
        )),
    }
}

/// Decides about a server for which no key was given, by the status of a request without a key.
async fn unguarded(status: Option<u16>, client: Client, url: &str) -> Result<Verified> {
    if status != Some(200) {
        let message = "the server in the pod requires a session key; pass it with \
                       `session_api_key`, or use a template of dormant servers and `init_key`";
        return Err(Error::new(ErrorKind::Unauthorized, message));
    }
    warn!(
        url,
        "the server in the pod is OPEN: everyone who can reach the pod can use it and its agents' \
         secrets; set OH_DEFERRED_INIT=1 in the SandboxTemplate and pass `init_key`"
    );
    let failed = |error| Error::shared("the server did not report its version", error);
    let info = internal::version(&client).await.map_err(failed)?;
    Ok(Verified {
        client,
        info,
        open: true,
    })
}
