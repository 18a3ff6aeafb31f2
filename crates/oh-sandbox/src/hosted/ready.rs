//! Waits until a hosted sandbox and its server are ready.

use std::time::Instant;

use oh_process::internal::LogHub;
use oh_transport::Network;
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::{
    Error, ErrorKind, Result,
    hosted::{
        plane::retry_after,
        service::{Reached, Service, State},
        settings::Times,
        verify::Candidate,
    },
    running::RunningServer,
};

/// Waits until the sandbox is ready, and verifies its server.
pub(crate) async fn verified<S: Service>(
    service: &S,
    network: &Network,
    times: &Times,
    workspace: String,
) -> Result<(RunningServer, Reached)> {
    let begun = Instant::now();
    let reached = sandbox_ready(service, times).await?;
    let candidate = Candidate {
        url: &reached.url,
        key: &reached.key,
        network,
        request: times.first_message,
    };
    let left = times.ready.saturating_sub(begun.elapsed());
    let (client, info) = candidate.verified(left).await?;
    let (id, key) = (reached.id.clone(), reached.key.clone());
    let logs = LogHub::new(vec![key.clone()]);
    let running = RunningServer::new(id, client, key, info, logs, workspace);
    Ok((running, reached))
}

/// Waits until the service reports that the sandbox is ready.
pub(crate) async fn sandbox_ready<S: Service>(service: &S, times: &Times) -> Result<Reached> {
    let mut last = format!("{} has not answered", service.plane().name());
    match timeout(times.ready, poll(service, times, &mut last)).await {
        Ok(polled) => polled,
        Err(_) => {
            let (noun, seconds) = (S::NOUN, times.ready.as_secs_f32());
            let message = format!(
                "the {noun} was not ready within {seconds} s: {last}; check the image and the \
                 quota, or set a longer time with `ready_within`"
            );
            Err(Error::new(ErrorKind::NotReady, message))
        }
    }
}

async fn poll<S: Service>(service: &S, times: &Times, last: &mut String) -> Result<Reached> {
    let (noun, name) = (S::NOUN, service.plane().name());
    let mut seen = false;
    loop {
        let mut wait = times.poll;
        let mut state = service.state().await;
        seen |= matches!(
            state,
            Ok(State::Ready(_) | State::Waiting(_) | State::Paused)
        );
        if S::RESUMES_AGAIN && matches!(state, Ok(State::Paused)) {
            state = service.resume().await.map(|()| State::Paused);
        }
        match state {
            Ok(State::Ready(reached)) => return Ok(reached),
            Ok(State::Waiting(why)) => *last = why,
            Ok(State::Paused) => *last = format!("the {noun} is paused"),
            Ok(State::Ended(ended)) => return Err(ended.into_error()),
            Ok(State::Missing) if seen => {
                let message = format!(
                    "the {noun} has vanished while it was starting: {name} does not have it any \
                     more; start another one"
                );
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            // A new sandbox may not be visible at once.
            Ok(State::Missing) => *last = format!("{name} does not have the {noun}"),
            Err(error) if error.is_transient() => {
                wait = wait.max(retry_after(&error).unwrap_or_default());
                *last = error.to_string();
            }
            Err(error) => return Err(error),
        }
        debug!(id = service.id(), state = %last, "waiting for the sandbox");
        sleep(wait).await;
    }
}
