//! The handle of the task that calls handlers.

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

    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}
