//! The connection with the process in a template's container: orders in, reports out, both as lines
//! of JSON.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bollard::{
    container::{AttachContainerResults, LogOutput},
    query_parameters::AttachContainerOptionsBuilder,
};
use futures_util::StreamExt;
use oh_process::{ExitReport, internal::LogHub};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    task::JoinHandle,
};
use tracing::debug;

use crate::{
    Engine, Result,
    docker::{refused, supervise::Pipe},
};

/// The number of the container's own reports.
pub(crate) const TEMPLATE: u64 = 0;

/// A report of the process about a server, or about the template.
#[derive(Debug)]
pub(crate) enum Report {
    /// The template has imported the modules, which have read these variables.
    Ready(Vec<String>),
    /// The server's process was forked.
    Started,
    /// The template or the server could not be started.
    Refused(String),
    /// The server has ended.
    Exited(ExitReport),
}

/// Receives the reports and the output of one server.
struct Sink {
    reports: mpsc::UnboundedSender<Report>,
    output: Pipe,
}

/// Sends orders. Does not keep the connection open.
#[derive(Debug, Clone)]
pub(crate) struct Orders(mpsc::UnboundedSender<Vec<u8>>);

/// The connection. It ends with this value.
#[derive(Debug)]
pub(crate) struct Link {
    orders: Orders,
    sinks: Arc<Mutex<HashMap<u64, Sink>>>,
    tasks: [JoinHandle<()>; 2],
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sink")
    }
}

impl Link {
    /// Connects with the process in a container that runs.
    pub(crate) async fn open(engine: &Engine, container: &str) -> Result<Self> {
        let options = AttachContainerOptionsBuilder::new()
            .stdin(true)
            .stdout(true)
            .stream(true)
            .build();
        let attached = engine
            .docker
            .attach_container(container, Some(options))
            .await;
        let attached =
            attached.map_err(|error| refused::error("cannot connect with the container", error))?;
        let AttachContainerResults { output, input } = attached;
        let (orders, waiting) = mpsc::unbounded_channel();
        let sinks = Arc::new(Mutex::new(HashMap::new()));
        Ok(Self {
            orders: Orders(orders),
            tasks: [
                tokio::spawn(write(input, waiting)),
                tokio::spawn(read(output, sinks.clone())),
            ],
            sinks,
        })
    }

    /// Registers a server, whose output goes to `logs`. Returns its reports. They end if the
    /// connection ends.
    pub(crate) fn register(&self, id: u64, logs: &LogHub) -> mpsc::UnboundedReceiver<Report> {
        let (reports, receiver) = mpsc::unbounded_channel();
        let output = Pipe::new(logs);
        lock(&self.sinks).insert(id, Sink { reports, output });
        receiver
    }

    /// Returns a handle that sends orders.
    pub(crate) fn orders(&self) -> Orders {
        self.orders.clone()
    }
}

impl Orders {
    /// Sends an order. Requires no runtime. A lost connection shows in the reports.
    pub(crate) fn send(&self, order: &Value) {
        let mut line = order.to_string().into_bytes();
        line.push(b'\n');
        let _lost = self.0.send(line);
    }

    /// Ends a server: SIGTERM, and SIGKILL after `grace`.
    pub(crate) fn end(&self, id: u64, grace: std::time::Duration) {
        self.send(&json!({ "id": id, "end": grace.as_secs_f64() }));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn write(
    mut input: Pin<Box<dyn AsyncWrite + Send>>,
    mut orders: mpsc::UnboundedReceiver<Vec<u8>>,
) {
    while let Some(order) = orders.recv().await {
        let sent = async {
            input.write_all(&order).await?;
            input.flush().await
        };
        if let Err(error) = sent.await {
            debug!(%error, "the connection with a template's container has ended");
            return;
        }
    }
}

type Output =
    Pin<Box<dyn futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

async fn read(mut output: Output, sinks: Arc<Mutex<HashMap<u64, Sink>>>) {
    let mut buffer = Vec::new();
    while let Some(Ok(piece)) = output.next().await {
        let LogOutput::StdOut { message } = piece else {
            continue;
        };
        buffer.extend_from_slice(&message);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(report) => deliver(&sinks, &report).await,
                Err(error) => debug!(%error, "unexpected output of a template's container"),
            }
        }
    }
    // Ends the reports of all servers.
    lock(&sinks).clear();
}

async fn deliver(sinks: &Mutex<HashMap<u64, Sink>>, report: &Value) {
    let id = report["id"].as_u64().unwrap_or(TEMPLATE);
    if let Some(line) = report["line"].as_str() {
        let Some(mut sink) = lock(sinks).remove(&id) else {
            return;
        };
        sink.output.write(line.as_bytes()).await;
        sink.output.write(b"\n").await;
        lock(sinks).insert(id, sink);
        return;
    }
    let Some(report) = parsed(report) else {
        return;
    };
    let last = !matches!(report, Report::Started | Report::Ready(_));
    let sink = match last {
        true => lock(sinks).remove(&id),
        false => {
            if let Some(sink) = lock(sinks).get(&id) {
                let _dropped = sink.reports.send(report);
            }
            return;
        }
    };
    if let Some(Sink { reports, output }) = sink {
        // All lines come before the end.
        output.end().await;
        let _dropped = reports.send(report);
    }
}

fn parsed(report: &Value) -> Option<Report> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(why) = text(&report["refused"]).or_else(|| text(&report["failed"])) {
        return Some(Report::Refused(why));
    }
    if let Some(read) = report["ready"]["read"].as_array() {
        return Some(Report::Ready(read.iter().filter_map(text).collect()));
    }
    if report["pid"].is_u64() {
        return Some(Report::Started);
    }
    let code = report["exit"].as_i64()?;
    // Containers report signals in this way.
    let code = if code < 0 { 128 - code } else { code };
    let mut exit = ExitReport::of_container(Some(code), false);
    let others = report["others"].as_u64().unwrap_or_default();
    exit.left_behind = u32::try_from(others).unwrap_or(u32::MAX);
    Some(Report::Exited(exit))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str) -> Result<LogOutput, bollard::errors::Error> {
        Ok(LogOutput::StdOut {
            message: text.to_owned().into(),
        })
    }

    #[tokio::test]
    async fn reports_and_lines_reach_their_server_in_order() {
        let sinks = Arc::new(Mutex::new(HashMap::new()));
        let logs = LogHub::new(vec!["a-secret-of-one".into()]);
        let (reports, mut one) = mpsc::unbounded_channel();
        let output = Pipe::new(&logs);
        sinks.lock().unwrap().insert(1, Sink { reports, output });
        let (reports, mut two) = mpsc::unbounded_channel();
        let output = Pipe::new(&LogHub::new(Vec::new()));
        sinks.lock().unwrap().insert(2, Sink { reports, output });
        // Split and joined, as a connection may do.
        let pieces = [
            piece("{\"id\":1,\"pid\":7}\n{\"id\":1,\"li"),
            piece("ne\":\"has a-secret-of-one\"}\nno JSON\n"),
            piece("{\"id\":3,\"line\":\"of nobody\"}\n{\"id\":1,\"exit\":-9,\"others\":2}\n"),
        ];
        read(Box::pin(futures_util::stream::iter(pieces)), sinks).await;
        assert!(matches!(one.recv().await, Some(Report::Started)));
        let Some(Report::Exited(exit)) = one.recv().await else {
            panic!("no end");
        };
        assert_eq!((exit.signal, exit.left_behind), (Some(9), 2));
        assert!(one.recv().await.is_none());
        let [line] = logs.tail().try_into().unwrap();
        assert!(
            line.starts_with("has ") && !line.contains("a-secret"),
            "{line}"
        );
        // The connection has ended.
        assert!(two.recv().await.is_none());
    }
}
