//! Owns a hosted sandbox, and removes it when the owner ends.

use std::{future::Future, time::Duration};

use oh_transport::Backoff;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    Error, ErrorKind, Result,
    hosted::{plane::retry_after, service::Service, settings::AtEnd},
};

/// How long the end of a sandbox may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A sandbox that ends with this value.
pub(crate) struct Lease<S: Service> {
    service: S,
    at_end: AtEnd,
}

impl<S: Service> Lease<S> {
    /// Creates a lease that keeps the sandbox until [`confirm`](Self::confirm).
    pub(crate) fn found(service: S) -> Self {
        Self {
            service,
            at_end: AtEnd::Keep,
        }
    }

    /// Creates the lease of a sandbox that is being started. If it does not become ready, it is
    /// removed, unless it is to be kept: it is not worth pausing.
    pub(crate) fn new(service: S, at_end: AtEnd) -> Self {
        let at_end = match at_end {
            AtEnd::Keep => AtEnd::Keep,
            _ => AtEnd::Remove,
        };
        Self { service, at_end }
    }

    /// Runs a start in a task: if the returned future is dropped, the sandbox that the service
    /// still starts is removed, unless it is to be kept.
    pub(crate) async fn acquire(
        start: impl Future<Output = Result<Self>> + Send + 'static,
    ) -> Result<Self> {
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(async move {
            let acquired = start.await;
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

    /// Keeps the sandbox, if there is one.
    pub(crate) fn forget(mut self) {
        self.at_end = AtEnd::Keep;
    }

    pub(crate) fn service(&self) -> &S {
        &self.service
    }

    /// Sets what happens at the end, once the server is ready.
    pub(crate) fn confirm(&mut self, at_end: AtEnd) {
        self.at_end = at_end;
    }

    /// Ends the sandbox as it was chosen. After an error, dropping this tries again.
    pub(crate) async fn end(&mut self) -> Result<()> {
        end(&self.service, self.at_end).await?;
        self.at_end = AtEnd::Keep;
        Ok(())
    }

    /// Ends a sandbox whose start has failed. Reports a failure to the log only.
    pub(crate) async fn abandon(mut self) {
        if let Err(error) = self.end().await {
            let id = self.service.id();
            warn!(%error, id, "cannot end the sandbox; it may still run");
            self.at_end = AtEnd::Keep;
        }
    }
}

async fn end<S: Service>(service: &S, at_end: AtEnd) -> Result<()> {
    let begun = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        let ended = match at_end {
            AtEnd::Keep => return Ok(()),
            AtEnd::Pause => service.pause().await,
            AtEnd::Remove => service.remove().await,
        };
        let error = match ended {
            Err(error) if error.is_transient() => error,
            ended => return ended,
        };
        let delay = backoff.next_delay();
        let delay = delay.max(retry_after(&error).unwrap_or_default());
        if begun.elapsed() + delay > LIMIT {
            return Err(error);
        }
        debug!(%error, "cannot end the sandbox; trying again");
        sleep(delay).await;
    }
}

/// Ends a sandbox in a thread with a separate tokio runtime.
fn end_in_thread<S: Service>(service: &S, at_end: AtEnd) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        // The task that drives an open connection may be on the thread that waits.
        service.plane().reset_connections();
        let id = service.id();
        match timeout(LIMIT, end(service, at_end)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, id, "cannot end the sandbox; it may still run"),
            Err(_) => warn!(id, "the sandbox did not end in time; it may still run"),
        }
    });
}

impl<S: Service> Drop for Lease<S> {
    fn drop(&mut self) {
        let at_end = self.at_end;
        if at_end == AtEnd::Keep {
            return;
        }
        let service = self.service.clone();
        let thread = std::thread::Builder::new().name("oh-end-sandbox".to_owned());
        if let Ok(ending) = thread.spawn(move || end_in_thread(&service, at_end)) {
            let _ended = ending.join();
        }
    }
}
