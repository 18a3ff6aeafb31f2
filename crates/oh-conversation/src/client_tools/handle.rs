//! The handle of the task that calls handlers.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::{sync::watch, task::AbortHandle};

use super::ClientTool;

/// The progress of dispatching.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// The last event that was checked.
    pub(crate) seen: Option<Box<str>>,
    pub(crate) at_work: usize,
    /// How many results have been delivered.
    pub(crate) delivered: u64,
}

/// The dispatching task. Dropping this ends the handlers.
#[derive(Debug)]
pub(crate) struct Dispatch {
    tools: Vec<ClientTool>,
    resumes: bool,
    progress: watch::Receiver<Progress>,
    task: AbortHandle,
    /// Whether results start no runs.
    rests: AtomicBool,
}

impl Drop for Dispatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Dispatch {
    pub(crate) fn new(
        tools: Vec<ClientTool>,
        resumes: bool,
        progress: watch::Receiver<Progress>,
        task: AbortHandle,
    ) -> Self {
        Self {
            tools,
            resumes,
            progress,
            task,
            rests: AtomicBool::new(false),
        }
    }

    /// Returns the tools, for a copy of the conversation.
    pub(crate) fn tools(&self) -> &[ClientTool] {
        &self.tools
    }

    /// Returns whether calls in the history are executed too.
    pub(crate) fn resumes(&self) -> bool {
        self.resumes
    }

    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Starts no more runs for results: the budget of the run that called the tools is reached.
    pub(crate) fn start_no_runs(&self) {
        self.rests.store(true, Ordering::Release);
    }

    /// Starts runs for results again, because the caller has requested another run.
    pub(crate) fn start_runs(&self) {
        self.rests.store(false, Ordering::Release);
    }

    /// Returns whether results start runs.
    pub(crate) fn starts_runs(&self) -> bool {
        !self.rests.load(Ordering::Acquire)
    }

    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}
