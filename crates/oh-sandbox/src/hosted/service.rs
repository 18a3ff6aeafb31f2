//! The operations that each hosted service has on a sandbox, for the code that owns one.

use std::future::Future;

use secrecy::SecretString;

use crate::{Error, ErrorKind, ExitReport, Result, hosted::plane::Plane};

/// A sandbox of a hosted service, by its id.
pub(crate) trait Service: Clone + Send + Sync + 'static {
    /// How messages call the sandbox, such as `runtime`.
    const NOUN: &'static str;

    /// Whether a sandbox that is still paused after a resume may be resumed again.
    const RESUMES_AGAIN: bool;

    fn plane(&self) -> &Plane;

    /// Returns the id by which the sandbox is found again, for messages.
    fn id(&self) -> &str;

    fn state(&self) -> impl Future<Output = Result<State>> + Send;

    fn pause(&self) -> impl Future<Output = Result<()>> + Send;

    fn resume(&self) -> impl Future<Output = Result<()>> + Send;

    /// Removes the sandbox. A sandbox that does not exist counts as removed.
    fn remove(&self) -> impl Future<Output = Result<()>> + Send;
}

/// The state of a sandbox.
pub(crate) enum State {
    /// The sandbox works, and its server can be reached.
    Ready(Reached),
    /// The sandbox may become ready. Why it is not.
    Waiting(String),
    Paused,
    /// The sandbox will not become ready.
    Ended(Ended),
    /// The service does not have the sandbox.
    Missing,
}

/// How the server of a sandbox is reached.
#[derive(Clone)]
pub(crate) struct Reached {
    /// The id that the service has given the sandbox.
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) key: SecretString,
}

/// How a sandbox has ended.
pub(crate) struct Ended {
    pub(crate) report: ExitReport,
    pub(crate) why: String,
    /// The last lines of the server's log.
    pub(crate) logs: Vec<String>,
}

impl Ended {
    pub(crate) fn new(why: String, out_of_memory: bool, logs: Vec<String>) -> Self {
        Self {
            report: ExitReport::of_container(None, out_of_memory),
            why,
            logs,
        }
    }

    /// Returns the end of a sandbox that the service does not have any more.
    pub(crate) fn vanished<S: Service>(service: &S) -> Self {
        let (noun, name) = (S::NOUN, service.plane().name());
        let why = format!("the {noun} has vanished: {name} does not have it any more");
        Self::new(why, false, Vec::new())
    }

    pub(crate) fn into_error(self) -> Error {
        let kind = match self.report.out_of_memory {
            true => ErrorKind::OutOfMemory,
            false => ErrorKind::Died,
        };
        Error::new(kind, self.why).with_log_tail(self.logs)
    }
}
