//! Attaches to a server that another program runs: checks it, and leaves it running.

use std::{future::IntoFuture, path::Path, sync::Arc, time::Duration};

use oh_protocol::calls::server::ServerInfo;
use oh_transport::Client;
use tokio::time::{sleep, timeout};

use crate::{
    Error, ErrorKind, Request, Result,
    start::{connection, probe},
};

/// Delay between two attempts to reach a server that does not respond yet.
const PAUSE: Duration = Duration::from_millis(50);

/// A server that another program runs. Dropping this value leaves the server running.
#[derive(Debug, Clone)]
pub struct AttachedServer {
    client: Client,
    info: Arc<ServerInfo>,
}

/// A pending attachment to a server. Await it to attach.
#[derive(Debug)]
#[must_use = "nothing is attached until this is awaited"]
pub struct Attach {
    client: Client,
    deadline: Duration,
}

impl AttachedServer {
    /// Waits for the server behind `client` to be ready. Checks the server's version and that the
    /// server accepts the client's key. The deadline is 30 s unless [`Attach::ready_within`] sets
    /// another.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use oh_process::AttachedServer;
    /// use oh_transport::Client;
    ///
    /// let client = Client::builder("http://127.0.0.1:8000").session_api_key("key").build()?;
    /// let server = AttachedServer::attach(client).await?;
    /// println!("server {}", server.info().version);
    /// # Ok(()) }
    /// ```
    pub fn attach(client: Client) -> Attach {
        Attach {
            client,
            deadline: Duration::from_secs(30),
        }
    }

    /// Attaches to the server that has written this file: see
    /// [`LocalServerBuilder::connection_file`](crate::LocalServerBuilder::connection_file). The
    /// file may be left from a server that is gone if the machine was switched off; the attachment
    /// then fails with [`ErrorKind::NotReady`].
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), oh_process::Error> {
    /// let server = oh_process::AttachedServer::from_file("/run/user/1000/agents.json")?.await?;
    /// println!("server {}", server.info().version);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Io`] if the file does not exist or cannot be read, and
    /// [`ErrorKind::InvalidInput`] if its content is invalid.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Attach> {
        connection::read(path.as_ref()).map(Self::attach)
    }

    /// Returns the client for the server.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the information that the server sent about itself.
    pub fn info(&self) -> &ServerInfo {
        &self.info
    }
}

impl AsRef<Client> for AttachedServer {
    fn as_ref(&self) -> &Client {
        &self.client
    }
}

impl Attach {
    /// Sets how long the server may take to become ready. Default 30 s.
    pub fn ready_within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    async fn run(self) -> Result<AttachedServer> {
        let client = self.client;
        let url = client.base_url().clone();
        let ready = async {
            while probe::get_status(&client, "/ready").await != Some(200) {
                sleep(PAUSE).await;
            }
        };
        let seconds = self.deadline.as_secs_f32();
        timeout(self.deadline, ready).await.map_err(|_| {
            let message = format!("no server was ready at {url} within {seconds} s");
            Error::new(ErrorKind::NotReady, message)
        })?;
        let info = probe::version(&client).await?;
        let Err(error) = probe::check_key(&client).await else {
            return Ok(AttachedServer { client, info });
        };
        let why = match error.status().map(|status| status.as_u16()) {
            Some(401) => "rejected the session key",
            Some(403) => "or a gateway in front of it does not permit requests",
            Some(503) => "is dormant: activate it first",
            _ => "did not accept a request",
        };
        Err(Error::transport(
            format!("the server at {url} {why}"),
            error,
        ))
    }
}

impl IntoFuture for Attach {
    type Output = Result<AttachedServer>;
    type IntoFuture = Request<AttachedServer>;

    fn into_future(self) -> Self::IntoFuture {
        Request::new(self.run())
    }
}
