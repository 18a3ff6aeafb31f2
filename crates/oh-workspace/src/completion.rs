//! Work whose end is reported in every case: also when it fails, panics or is dropped.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use oh_protocol::ConversationId;
use oh_transport::automation::FailedRun;
use tracing::{debug, warn};

use crate::{CompletionCallback, automation::code_of};

impl CompletionCallback {
    /// Does the work, reports how it ended, and returns its result. Without a callback, only does
    /// the work.
    ///
    /// | End of the work | Report |
    /// |-|-|
    /// | `Ok` | completed |
    /// | `Err` | failed, with the type of the error as code and its text as detail |
    /// | its future is dropped, for example after Ctrl-C | failed, with the code `Cancelled` |
    /// | panic | failed, with the code `Panicked` |
    ///
    /// Return an error for a run that did not finish: `ensure_finished` of its outcome does that.
    /// `work` gets a handle for what is known later: the conversation and its cost. Leave the
    /// shutdown of the sandbox out of `work` if the report should be sent before it.
    ///
    /// A report that cannot be sent is a warning in the log, and no error. Nothing is reported if
    /// the process is killed.
    ///
    /// ```no_run
    /// # async fn run(work: impl Future<Output = Result<(), std::io::Error>>) -> Result<(), Box<dyn std::error::Error>> {
    /// use oh_workspace::CompletionCallback;
    ///
    /// let callback = CompletionCallback::from_env()?;
    /// CompletionCallback::around(callback, async |report| {
    ///     work.await?;
    ///     report.cost(0.25);
    ///     Ok::<_, std::io::Error>(())
    /// })
    /// .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the error of the work.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the work, and reports this. It blocks the thread until the report
    /// is sent, for at most 10 s.
    pub async fn around<T, E: fmt::Display, F: Future<Output = Result<T, E>>>(
        callback: impl Into<Option<Self>>,
        work: impl FnOnce(CompletionReport) -> F,
    ) -> Result<T, E> {
        reported(callback.into(), work, || None).await
    }
}

/// Does the work, and reports its end. `failed_run` returns a failure that the result of the work
/// does not show.
pub(crate) async fn reported<T, E: fmt::Display, F: Future<Output = Result<T, E>>>(
    callback: Option<CompletionCallback>,
    work: impl FnOnce(CompletionReport) -> F,
    failed_run: impl FnOnce() -> Option<FailedRun>,
) -> Result<T, E> {
    let report = CompletionReport(Arc::new(Mutex::new(callback)));
    // Dropped after the future of the work, which is dropped first.
    let unfinished = Unfinished(report.clone());
    let result = work(report).await;
    let Some(callback) = unfinished.0.take() else {
        return result;
    };
    let failure = match &result {
        Ok(_) => failed_run(),
        Err(error) => Some(FailedRun::new(code_of::<E>(), error.to_string())),
    };
    let sent = match failure {
        None => callback.completed().await,
        Some(failed) => callback.failed(failed.code, failed.detail).await,
    };
    logged(sent);
    result
}

/// A report that is sent at the end of the work: see [`CompletionCallback::around`].
#[derive(Debug, Clone)]
pub struct CompletionReport(Arc<Mutex<Option<CompletionCallback>>>);

impl CompletionReport {
    /// Sets the conversation in which the work is done.
    pub fn conversation(&self, id: ConversationId) {
        self.change(|callback| callback.conversation(id));
    }

    /// Sets the cost in US dollars. Default: that of the callback.
    pub fn cost(&self, dollars: f64) {
        self.change(|callback| callback.cost(dollars));
    }

    fn change(&self, change: impl FnOnce(CompletionCallback) -> CompletionCallback) {
        let mut callback = self.callback();
        *callback = callback.take().map(change);
    }

    fn take(&self) -> Option<CompletionCallback> {
        self.callback().take()
    }

    fn callback(&self) -> MutexGuard<'_, Option<CompletionCallback>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports work that does not return, when this is dropped.
struct Unfinished(CompletionReport);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(callback) = self.0.take() else {
            return;
        };
        let (code, detail) = match thread::panicking() {
            true => ("Panicked", "the work panicked"),
            false => ("Cancelled", "the work was cancelled"),
        };
        // A separate runtime: that of the caller may be ending, and must not be blocked on.
        let sending = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            match { runtime }.enable_all().build() {
                Ok(runtime) => logged(runtime.block_on(callback.failed(code, detail))),
                Err(error) => warn!(%error, "cannot send the callback"),
            }
        });
        if sending.join().is_err() {
            warn!("cannot send the callback");
        }
    }
}

fn logged(sent: crate::Result<()>) {
    match sent {
        Ok(()) => debug!("the callback was sent"),
        Err(error) => warn!(%error, "the end of the work was not reported"),
    }
}
