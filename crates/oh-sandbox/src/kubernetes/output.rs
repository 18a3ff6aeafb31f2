//! Follows the output of a pod, through the API of the cluster.

use std::pin::pin;

use futures_util::AsyncReadExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::LogParams};
use oh_process::internal::LogHub;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::{
    docker::supervise::Pipe,
    kubernetes::{refused, waiting::Backoff},
};

/// The number of earlier lines to read at first: as many as the hub holds.
const TAIL: i64 = 200;
/// The piece of output that is read at once.
const PIECE: usize = 8 * 1024;

/// Passes the output of a pod on, and then that of the pod that replaces it. Does not return while
/// the pod can be replaced. `ahead` is the cluster's time minus this machine's.
pub(crate) async fn follow(
    pods: Api<Pod>,
    mut pod: watch::Receiver<String>,
    logs: LogHub,
    ahead: SignedDuration,
) {
    loop {
        let name = pod.borrow_and_update().clone();
        tokio::select! {
            () = of_pod(&pods, &name, &logs, ahead) => {
                if pod.changed().await.is_err() {
                    return;
                }
            }
            changed = pod.changed() => if changed.is_err() { return },
        }
    }
}

/// Passes the output of one pod on, across cut streams. Returns if the output cannot be read.
async fn of_pod(pods: &Api<Pod>, name: &str, logs: &LogHub, ahead: SignedDuration) {
    if name.is_empty() {
        return;
    }
    let mut params = LogParams {
        follow: true,
        tail_lines: Some(TAIL),
        ..LogParams::default()
    };
    let mut backoff = Backoff::new();
    loop {
        match pods.log_stream(name, &params).await {
            Ok(stream) => {
                let (mut stream, mut piece) = (pin!(stream), vec![0; PIECE]);
                let mut pipe = Pipe::new(logs);
                while let Ok(count @ 1..) = stream.read(&mut piece).await {
                    pipe.write(&piece[..count]).await;
                    backoff.reset();
                    // The cluster compares whole seconds: some lines may be repeated.
                    let now = Timestamp::now().saturating_add(ahead - SignedDuration::from_secs(1));
                    (params.tail_lines, params.since_time) = (None, now.ok());
                }
                pipe.end().await;
            }
            // A pod with several containers: the server is in the first one.
            Err(kube::Error::Api(status)) if status.code == 400 && params.container.is_none() => {
                params.container = first_container(pods, name).await;
            }
            Err(error) if is_final(&error) => {
                let error = refused::error("cannot read the output of the pod", error);
                warn!(%error, pod = name, "the output of the server is not shown");
                return;
            }
            Err(error) => debug!(%error, pod = name, "the output of the pod cannot be read now"),
        }
        backoff.wait(None).await;
    }
}

/// Returns whether the same request can never succeed. A missing pod is about to be replaced, or
/// has ended.
fn is_final(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403 | 405))
}

async fn first_container(pods: &Api<Pod>, name: &str) -> Option<String> {
    let spec = pods.get_opt(name).await.ok()??.spec?;
    Some(spec.containers.into_iter().next()?.name)
}
