//! Sending the request to start a command, and stopping the command when its future is dropped.

use std::{sync::Arc, time::Duration};

use oh_protocol::calls::{
    Scope,
    bash::{BashCommand, ExecuteRequest, StartCommand},
};
use oh_transport::{Client, Error, ErrorKind, Result};
use tokio::{runtime::Handle, task::JoinHandle};

use super::{
    hub::{Feed, Starting},
    order::Order,
    stop::stop_soon,
};
use crate::place::Place;

/// Maximum time for the socket to report a command whose start response was lost.
const REPORT_LIMIT: Duration = Duration::from_millis(200);

/// A command that the server has, with its subscription.
pub(super) type Launched = (BashCommand, Option<Feed>);

/// A start that failed. The command may still be running, with this id.
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) id: Option<String>,
}

/// Stops an abandoned command, including one whose start request is still in flight.
pub(super) struct StopOnDrop {
    client: Client,
    scope: Scope,
    /// Kept because the guard may be dropped outside the runtime.
    runtime: Handle,
    start: Option<JoinHandle<Result<Launched, Failed>>>,
    id: Option<String>,
    /// The secrets, which a stopped command may not have read.
    pub(super) secrets: Option<Arc<Place>>,
    armed: bool,
}

impl StopOnDrop {
    /// Sends the start request from a separate task. A request dropped half-way may have started
    /// the command, and its id would be lost.
    pub(super) fn starting(
        client: &Client,
        scope: Scope,
        order: Order,
        listening: Option<Starting>,
        armed: bool,
    ) -> Self {
        let runtime = Handle::current();
        let start = runtime.spawn(launch(client.clone(), scope, order, listening));
        Self {
            client: client.clone(),
            scope,
            runtime,
            start: Some(start),
            id: None,
            secrets: None,
            armed,
        }
    }

    pub(super) async fn started(&mut self) -> Result<Launched, Failed> {
        let Some(start) = &mut self.start else {
            unreachable!("a command is started once")
        };
        let started = start.await.unwrap_or_else(|error| {
            let context = "the tokio runtime shut down before the command was started";
            let error = Error::new(ErrorKind::Interrupted, context).with_source(error);
            Err(Failed { error, id: None })
        });
        self.start = None;
        if let Ok((command, _)) = &started {
            self.id = Some(command.id.clone());
        }
        started
    }

    /// Lets the command continue.
    pub(super) fn keep(mut self) {
        self.armed = false;
    }
}

async fn launch(
    client: Client,
    scope: Scope,
    order: Order,
    listening: Option<Starting>,
) -> Result<Launched, Failed> {
    let request = ExecuteRequest::new(&order.line).cwd(&order.cwd);
    let start =
        StartCommand::new(request.timeout(Duration::from_secs(order.seconds.into()))).scope(scope);
    match client.call(&start).await {
        Ok(command) => {
            let feed = listening.map(|listening| listening.claim(&command.id));
            Ok((command, feed))
        }
        Err(error) => {
            // The response was lost, but the socket may have reported the command.
            let id = match listening.filter(|_| error.is_unclear()) {
                Some(listening) => {
                    tokio::time::sleep(REPORT_LIMIT).await;
                    listening.reported(&order)
                }
                None => None,
            };
            Err(Failed { error, id })
        }
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let (start, id, secrets) = (self.start.take(), self.id.take(), self.secrets.take());
        if !self.armed {
            if let (Some(start), Some(secrets)) = (start, secrets) {
                // The command is about to read the secrets.
                self.runtime.spawn(async move {
                    if matches!(start.await, Ok(Ok(_))) {
                        secrets.leave();
                    }
                });
            }
            return;
        }
        if start.is_none() && id.is_none() {
            return;
        }
        let (client, scope) = (self.client.clone(), self.scope);
        self.runtime.spawn(async move {
            let id = match (id, start) {
                (Some(id), _) => Some(id),
                (None, Some(start)) => match start.await {
                    Ok(Ok((command, _))) => Some(command.id),
                    Ok(Err(failed)) => failed.id,
                    Err(_) => None,
                },
                (None, None) => None,
            };
            if let Some(id) = id {
                stop_soon(&client, scope, &id).await;
            }
            if let Some(secrets) = secrets {
                secrets.remove_soon();
            }
        });
    }
}
