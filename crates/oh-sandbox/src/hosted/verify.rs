//! Waits until the server in a hosted sandbox answers, and verifies it.

use std::{sync::Arc, time::Duration};

use oh_process::internal;
use oh_protocol::calls::server::ServerInfo;
use oh_transport::{Client, Network};
use secrecy::SecretString;
use tokio::time::{sleep, timeout};

use crate::{Error, ErrorKind, Result};

/// Delay between two attempts. A gateway is in front of the server.
const PAUSE: Duration = Duration::from_millis(250);

/// The server to verify.
pub(crate) struct Candidate<'a> {
    pub(crate) url: &'a str,
    pub(crate) key: &'a SecretString,
    pub(crate) network: &'a Network,
    /// Time limit of a request of the client that is returned.
    pub(crate) request: Duration,
}

impl Candidate<'_> {
    /// Waits until the server is ready, and verifies that it accepts its key and no other. Returns
    /// its client, and how the server describes itself.
    pub(crate) async fn verified(&self, limit: Duration) -> Result<(Client, Arc<ServerInfo>)> {
        let client = self.client(Some(self.key))?;
        let mut last = None;
        match timeout(limit, self.verify(&client, &mut last)).await {
            Ok(verified) => Ok((client, verified?)),
            Err(_) => {
                let found = match last {
                    Some(status) => format!("the last status was {status}"),
                    None => "there was no response".to_owned(),
                };
                let message = format!(
                    "the server at {} was not ready in time: {found}; check that this machine can \
                     reach it, or set a longer time with `ready_within`",
                    self.url
                );
                Err(Error::new(ErrorKind::NotReady, message))
            }
        }
    }

    async fn verify(&self, client: &Client, last: &mut Option<u16>) -> Result<Arc<ServerInfo>> {
        let stranger = self.client(Some(&internal::random_key()))?;
        loop {
            // A gateway answers with other statuses while the server is being connected. The
            // wrong key is sent first: a server that accepts any key must not receive the real one.
            *last = internal::get_status(&stranger, "/ready").await;
            if *last == Some(200) {
                *last = internal::get_status(&stranger, internal::GUARDED).await;
                match *last {
                    Some(401) => match internal::get_status(client, internal::GUARDED).await {
                        Some(200) => break,
                        Some(401) => return Err(self.wrong_key()),
                        status => *last = status,
                    },
                    Some(200) => return Err(self.open()),
                    _ => {}
                }
            }
            sleep(PAUSE).await;
        }
        let failed = |error| Error::shared("the server did not report its version", error);
        internal::version(client).await.map_err(failed)
    }

    fn client(&self, key: Option<&SecretString>) -> Result<Client> {
        let mut builder = Client::builder(self.url)
            .http_transport(self.network.clone())
            .socket_transport(self.network.clone())
            .timeout(self.request);
        if let Some(key) = key {
            builder = builder.session_api_key(key.clone());
        }
        let failed = |error| Error::transport("cannot create a client for the server", error);
        builder.build().map_err(failed)
    }

    fn wrong_key(&self) -> Error {
        let message = format!(
            "the server at {} does not accept the session key that the service has reported; \
             remove the sandbox, and start another one",
            self.url
        );
        Error::new(ErrorKind::Unauthorized, message)
    }

    fn open(&self) -> Error {
        let message = format!(
            "the server at {} accepts any session key, so everyone can use it: the image overrides \
             the configuration that the service gives it",
            self.url
        );
        Error::new(ErrorKind::NotAnAgentServer, message)
    }
}
