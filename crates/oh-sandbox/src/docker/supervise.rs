//! Follows the output and the end of a container, in tasks of this process.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bollard::{
    container::LogOutput,
    query_parameters::{LogsOptionsBuilder, WaitContainerOptionsBuilder},
};
use futures_util::StreamExt;
use oh_process::internal::LogHub;
use oh_transport::{Client, Liveness};
use tokio::{
    io::{AsyncWriteExt, DuplexStream, duplex},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{Engine, ExitReport, Status};

/// Delay after the engine has failed to answer, for example while it is being restarted.
const PAUSE: Duration = Duration::from_millis(500);
/// Time that the last output of a container may take.
const LAST_OUTPUT: Duration = Duration::from_secs(3);
/// Bytes of output that wait for the reader.
const BUFFER: usize = 64 * 1024;

/// The tasks that follow a container. They end with this value.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) ended: watch::Receiver<Option<ExitReport>>,
    tasks: [JoinHandle<()>; 2],
}

/// The output of a container that consists of lines of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    All,
    Stderr,
}

impl Followed {
    /// Follows a container that was started. `since` is the time from which output is read, in
    /// seconds; 0 for all.
    pub(crate) fn new(
        engine: &Engine,
        container: &str,
        logs: &LogHub,
        since: i32,
        output: Output,
    ) -> Self {
        let (sender, ended) = watch::channel(None);
        let output = tokio::spawn(follow_output(
            engine.clone(),
            container.to_owned(),
            logs.clone(),
            since,
            output,
            ended.clone(),
        ));
        let end = tokio::spawn(follow_end(engine.clone(), container.to_owned(), sender));
        Self {
            ended,
            tasks: [output, end],
        }
    }

    /// Waits for the end, and then for the last output. Cancel-safe.
    pub(crate) async fn end(&mut self) -> ExitReport {
        let mut ended = self.ended.clone();
        let report = match ended.wait_for(Option::is_some).await {
            Ok(report) => report.clone(),
            Err(_) => None,
        };
        let [output, _] = &mut self.tasks;
        if !output.is_finished() {
            let _late = timeout(LAST_OUTPUT, output).await;
        }
        report.unwrap_or_else(|| ExitReport::of_container(None, false))
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Returns the current time in seconds, as the engine expects it.
pub(crate) fn now() -> i32 {
    let passed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i32::try_from(passed.as_secs()).unwrap_or(i32::MAX)
}

/// Waits for the end of the container. An engine that restarts is asked again.
async fn follow_end(engine: Engine, container: String, ended: watch::Sender<Option<ExitReport>>) {
    loop {
        let options = WaitContainerOptionsBuilder::new()
            .condition("not-running")
            .build();
        let mut waiting = engine
            .docker
            .wait_container(&container, Some(options))
            .boxed();
        // The report is only a signal. The state of the container decides.
        let reported = waiting.next().await;
        debug!(?reported, "the engine reports about the container");
        match engine.end_of(&container).await {
            Ok(Some(report)) => {
                ended.send_replace(Some(report));
                return;
            }
            Ok(None) => {}
            Err(error) => warn!(%error, "the engine does not answer; asking again"),
        }
        sleep(PAUSE).await;
    }
}

async fn follow_output(
    engine: Engine,
    container: String,
    logs: LogHub,
    mut since: i32,
    output: Output,
    ended: watch::Receiver<Option<ExitReport>>,
) {
    loop {
        let options = LogsOptionsBuilder::new()
            .follow(true)
            .stdout(output == Output::All)
            .stderr(true)
            .since(since)
            .build();
        let mut lines = engine.docker.logs(&container, Some(options)).boxed();
        let (mut out, mut err) = (Pipe::new(&logs), Pipe::new(&logs));
        while let Some(Ok(piece)) = lines.next().await {
            since = now();
            match &piece {
                LogOutput::StdErr { message } => err.write(message).await,
                other => out.write(other.as_ref()).await,
            }
        }
        out.end().await;
        err.end().await;
        // The output of a container that was ended is complete.
        if ended.borrow().is_some() || !matches!(engine.end_of(&container).await, Ok(None) | Err(_))
        {
            return;
        }
        sleep(PAUSE).await;
    }
}

/// A pipe to the reader of lines.
pub(crate) struct Pipe {
    end: DuplexStream,
    reader: JoinHandle<()>,
}

impl Pipe {
    pub(crate) fn new(logs: &LogHub) -> Self {
        let (end, reading) = duplex(BUFFER);
        let logs = logs.clone();
        Self {
            end,
            reader: tokio::spawn(async move { logs.drain(reading).await }),
        }
    }

    pub(crate) async fn write(&mut self, piece: &[u8]) {
        // Fails only if the reader was ended with the runtime.
        let _ended = self.end.write_all(piece).await;
    }

    pub(crate) async fn end(self) {
        drop(self.end);
        let _ended = self.reader.await;
    }
}

/// Reports the status of a server to its watchers and to its client.
#[derive(Debug)]
pub(crate) struct Reporter {
    status: watch::Sender<Status>,
    clients: Mutex<Vec<Client>>,
}

impl Reporter {
    pub(crate) fn new(client: Client) -> (Arc<Self>, watch::Receiver<Status>) {
        client.set_liveness(Liveness::Ready);
        let (status, receiver) = watch::channel(Status::Ready);
        let clients = Mutex::new(vec![client]);
        (Arc::new(Self { status, clients }), receiver)
    }

    /// Registers another client, so that it and its clones are notified from now on.
    pub(crate) fn adopt(&self, client: &Client) {
        let mut clients = self.clients();
        client.set_liveness(liveness(&self.status.borrow()));
        if !clients.iter().any(|other| other.is_same(client)) {
            clients.push(client.clone());
        }
    }

    fn clients(&self) -> MutexGuard<'_, Vec<Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self, liveness: &Liveness) {
        for client in self.clients().iter() {
            client.set_liveness(liveness.clone());
        }
    }

    /// Sets the status, unless the container has ended.
    pub(crate) fn set(&self, status: Status) {
        let liveness = liveness(&status);
        let changed = self.status.send_if_modified(|current| {
            let over = matches!(current, Status::Exited(_));
            if !over {
                *current = status;
            }
            !over
        });
        if changed {
            self.notify(&liveness);
        }
    }

    /// Notifies the watchers and the client that the server has ended by itself, and why.
    #[cfg(any(feature = "hosted", feature = "kubernetes"))]
    pub(crate) fn ended(&self, report: ExitReport, reason: &str) {
        // Not with `set`, which would first notify the client without this reason.
        self.status.send_replace(Status::Exited(report));
        self.notify(&Liveness::Gone(reason.into()));
    }

    /// Notifies the client that its owner has removed the server.
    pub(crate) fn removed(&self) {
        if !matches!(*self.status.borrow(), Status::Exited(_)) {
            self.notify(&Liveness::Gone("stopped by its owner".into()));
        }
    }
}

fn liveness(status: &Status) -> Liveness {
    match status {
        Status::Ready => Liveness::Ready,
        Status::Exited(report) => Liveness::Gone(report.to_string().into()),
        // Requests wait for a paused server.
        _ => Liveness::Restarting,
    }
}
