//! The end of an automation's work, reported by itself.

use std::fmt;

use oh_transport::automation as environment;
use tracing::{debug, warn};

use crate::{CompletionCallback, completion::reported};

/// Reports the end of this process's work to the automation environment, if there is one.
///
/// ```no_run
/// # async fn work() -> Result<(), std::io::Error> { Ok(()) }
/// # async fn run() -> Result<(), std::io::Error> {
/// use oh_workspace::Automation;
///
/// Automation::from_env().run(work()).await
/// # }
/// ```
///
/// The conversations that `oh-conversation` starts or attaches in this process are recorded: the
/// report has the id of the newest one, and the sum of their costs as far as the server has
/// reported them. Nothing is recorded if the environment requests no report.
#[derive(Debug, Clone, Default)]
#[must_use = "nothing is reported until the work is passed to `run`"]
pub struct Automation {
    callback: Option<CompletionCallback>,
}

impl Automation {
    /// Reads the variables of [`CompletionCallback::from_env`]. Without them, [`run`](Self::run)
    /// only does the work. An invalid URL is a warning in the log, and no error: a report must not
    /// prevent the work.
    pub fn from_env() -> Self {
        let callback = CompletionCallback::from_env().unwrap_or_else(|error| {
            warn!(%error, "the end of the work will not be reported");
            None
        });
        Self { callback }
    }

    /// Returns whether the environment requests a report.
    pub fn is_requested(&self) -> bool {
        self.callback.is_some()
    }

    /// Does the work, reports how it ended, and returns its result.
    ///
    /// | End of the work | Report |
    /// |-|-|
    /// | `Ok`, and no run has failed | completed |
    /// | `Ok`, but the newest run of a recorded conversation has failed | failed, like the run |
    /// | `Err` | failed, with the type of the error as code and its text as detail |
    /// | its future is dropped, for example after Ctrl-C | failed, with the code `Cancelled` |
    /// | panic | failed, with the code `Panicked` |
    ///
    /// A run has failed if it ended in an error, the agent was stuck, or the server is gone. A run
    /// that was paused, has reached its budget or waits for an approval has not: return an error
    /// for it, as `ensure_finished` of its outcome does. A conversation that may fail is left out
    /// with `automation(false)` of its builder. To decide by the result of the work only, use
    /// [`CompletionCallback::around`].
    ///
    /// The end is reported once for each process: later calls, and those inside `work`, only do the
    /// work. A report that cannot be sent is a warning in the log. Nothing is reported if the
    /// process is killed.
    ///
    /// # Errors
    ///
    /// Returns the error of the work.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the work, and reports this. It blocks the thread until the report
    /// is sent, for at most 10 s.
    pub fn run<T, E: fmt::Display>(
        self,
        work: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<T, E>> {
        let work = Box::pin(work);
        async move {
            let callback = self.callback.filter(|_| {
                let first = environment::claim();
                if !first {
                    debug!("the end of the work is reported by another call");
                }
                first
            });
            reported(callback, |_report| work, environment::failed_run).await
        }
    }
}
