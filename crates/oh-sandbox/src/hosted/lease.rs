//! Owns a runtime, and removes it when the owner ends.

use std::time::Duration;

use oh_transport::Backoff;
use serde_json::Value;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    Error, ErrorKind, Result,
    hosted::{
        plane::retry_after,
        runtime_api::{Runtime, RuntimeApi},
        settings::AtEnd,
    },
};

/// How long the end of a runtime may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A runtime that ends with this value.
pub(crate) struct Lease(Target);

/// The runtime to end, and how to end it.
#[derive(Clone)]
struct Target {
    api: RuntimeApi,
    session_id: String,
    /// Not known if the response to the request that starts the runtime was lost.
    runtime_id: Option<String>,
    at_end: AtEnd,
}

impl Lease {
    /// Finds the runtime of a session, resumes it if it is paused, or starts one.
    ///
    /// Runs in a task: if the returned future is dropped, the runtime that the Runtime API still
    /// starts is stopped, unless it is to be kept.
    pub(crate) async fn acquire(
        api: RuntimeApi,
        session_id: String,
        known: bool,
        body: Value,
        at_end: AtEnd,
    ) -> Result<Self> {
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(async move {
            let acquired = acquire(api, session_id, known, body, at_end).await;
            if let Err(Ok(abandoned)) = sender.send(acquired) {
                debug!("the start was cancelled");
                abandoned.abandon().await;
            }
        });
        receiver.await.unwrap_or_else(|_| {
            let message = "the tokio runtime is shutting down";
            Err(Error::new(ErrorKind::Interrupted, message))
        })
    }

    /// Sets what happens at the end, once the server is ready.
    pub(crate) fn confirm(&mut self, at_end: AtEnd) {
        self.0.at_end = at_end;
    }

    /// Ends the runtime as it was chosen. After an error, dropping this tries again.
    pub(crate) async fn end(&mut self) -> Result<()> {
        self.0.end().await?;
        self.0.at_end = AtEnd::Keep;
        Ok(())
    }

    /// Ends a runtime whose start has failed. Reports a failure to the log only.
    pub(crate) async fn abandon(mut self) {
        let session_id = self.0.session_id.clone();
        if let Err(error) = self.end().await {
            warn!(%error, session_id, "cannot stop the runtime; it may still run");
            self.0.at_end = AtEnd::Keep;
        }
    }
}

impl Target {
    async fn end(&self) -> Result<()> {
        let begun = Instant::now();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            let error = match self.end_once().await {
                Err(error) if error.is_transient() => error,
                ended => return ended,
            };
            let delay = backoff.next_delay();
            let delay = delay.max(retry_after(&error).unwrap_or_default());
            if begun.elapsed() + delay > LIMIT {
                return Err(error);
            }
            debug!(%error, "cannot end the runtime; trying again");
            sleep(delay).await;
        }
    }

    async fn end_once(&self) -> Result<()> {
        if self.at_end == AtEnd::Keep {
            return Ok(());
        }
        let id = match &self.runtime_id {
            Some(id) => id.clone(),
            None => match self.api.find(&self.session_id).await? {
                Some(id) => id,
                None => return Ok(()),
            },
        };
        match self.at_end {
            AtEnd::Pause => self.api.pause(&id).await,
            _ => self.api.stop(&id).await,
        }
    }

    /// Ends the runtime in a thread with a separate tokio runtime.
    fn end_in_thread(self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async move {
            // The task that drives an open connection may be on the thread that waits.
            self.api.plane.reset_connections();
            let session_id = &self.session_id;
            match timeout(LIMIT, self.end()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    warn!(%error, session_id, "cannot end the runtime; it may still run");
                }
                Err(_) => warn!(
                    session_id,
                    "the runtime did not end in time; it may still run"
                ),
            }
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.0.at_end == AtEnd::Keep {
            return;
        }
        let target = self.0.clone();
        let thread = std::thread::Builder::new().name("oh-end-runtime".to_owned());
        if let Ok(ending) = thread.spawn(move || target.end_in_thread()) {
            let _ended = ending.join();
        }
    }
}

async fn acquire(
    api: RuntimeApi,
    session_id: String,
    known: bool,
    body: Value,
    at_end: AtEnd,
) -> Result<Lease> {
    let mut lease = Lease(Target {
        api: api.clone(),
        session_id: session_id.clone(),
        runtime_id: None,
        at_end: AtEnd::Keep,
    });
    // A random session id is new.
    let found = match known {
        true => api.session(&session_id).await?,
        false => None,
    };
    if let Some(Runtime { id, status, .. }) = found {
        if status == "paused" {
            api.resume(&id).await?;
        }
        if status == "running" || status == "paused" {
            lease.0.runtime_id = Some(id);
            return Ok(lease);
        }
    }
    if at_end != AtEnd::Keep {
        // A runtime that never became ready is not worth keeping.
        lease.0.at_end = AtEnd::Remove;
    }
    match api.start(body).await {
        Ok(runtime) => {
            lease.0.runtime_id = Some(runtime.id);
            Ok(lease)
        }
        Err(error) => {
            let unclear = error.kind() == ErrorKind::Decode
                || error
                    .transport_error()
                    .is_some_and(oh_transport::Error::is_unclear);
            match unclear {
                // The runtime may have been started.
                true => lease.abandon().await,
                false => lease.0.at_end = AtEnd::Keep,
            }
            Err(error)
        }
    }
}
