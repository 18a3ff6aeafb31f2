//! Closing handles, and deleting the conversation on the server.

use std::{sync::atomic::Ordering, time::Duration};

use oh_protocol::calls;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::{Conversation, ErrorKind, Request, Result, client_tools, read::callback};

/// The maximum duration of a close.
const CLOSING: Duration = Duration::from_millis(100);

impl Conversation {
    /// Closes this handle and its clones. Their streams, callbacks and client tools end within
    /// 100 ms, and the link ends unless other handles share it.
    ///
    /// The conversation stays on the server, unless it was started with
    /// [`delete_on_close`](crate::ConversationBuilder::delete_on_close); in that case this also
    /// waits for the deletion. Events that arrived before the close are still passed to the
    /// builder's callbacks, as far as the callbacks handle them within the 100 ms. Events, state
    /// and [`usage`](Self::usage) remain readable.
    ///
    /// May be awaited from inside a callback. Inside one of
    /// [`on_event`](Self::on_event), which must not block, the deletion goes on in the background,
    /// and its failure is only logged. A second close does nothing, except that it retries a failed
    /// deletion.
    ///
    /// # Errors
    ///
    /// Returns an error if the conversation should be deleted and the deletion fails. The handle is
    /// closed in this case too.
    ///
    /// # Cancel safety
    ///
    /// The close begins when the future is first polled. Dropping the future after that only ends
    /// the wait.
    pub fn close(&self) -> Request<()> {
        let this = self.clone();
        Request::new(async move {
            // Inside a callback, the task could need the thread that would wait here.
            if callback::is_inside() {
                return this.finish().await;
            }
            // On a task, so that the close goes on if the caller stops waiting.
            let closing = this.clone();
            let closed = this.0.runtime.spawn(async move { closing.finish().await });
            closed.await.unwrap_or_else(|_| {
                // The runtime has been shut down.
                this.shut();
                Ok(())
            })
        })
    }

    async fn finish(&self) -> Result<()> {
        let begun = Instant::now();
        if self.0.view.is_closed() {
            return self.delete_after_close().await;
        }
        // Callbacks receive the events that have arrived, before the handle's streams end.
        let arrived = self.mirror().read().log.end();
        let callbacks = &self.0.callbacks;
        let limit = CLOSING / 2;
        callbacks.drain(&self.0.runtime, arrived, limit).await;
        // Inside a callback the watcher may need the thread that would wait here.
        if self.shut() && !callback::is_inside() {
            let mut changes = self.mirror().changes();
            let ended = changes.wait_for(|_| self.mirror().read().ended.is_some());
            // The watcher closes its socket first, and the server may not respond.
            let left = CLOSING.saturating_sub(begun.elapsed());
            let _ = timeout(left, ended).await;
        }
        self.delete_after_close().await
    }

    /// Ends everything of this handle. Returns whether the link ends too.
    fn shut(&self) -> bool {
        if !self.0.view.close() {
            return false;
        }
        self.end_tokens();
        if let Some(dispatch) = self.0.dispatch.get() {
            dispatch.stop();
        }
        self.0.shared.release()
    }

    async fn delete_after_close(&self) -> Result<()> {
        if !self.0.delete_on_close || self.0.deleted.load(Ordering::Acquire) {
            return Ok(());
        }
        if !callback::is_inside_task() {
            return self.delete_on_server().await;
        }
        // The request may need the thread that would wait here.
        let this = self.clone();
        self.0.runtime.spawn(async move {
            if let Err(error) = this.delete_on_server().await {
                warn!(conversation = %this.id(), %error, "cannot delete the closed conversation");
            }
        });
        Ok(())
    }

    /// Deletes the conversation on the server (`DELETE /api/conversations/{conversation_id}`) and
    /// closes the link. The workspace is kept. Deleting a conversation that is gone succeeds.
    ///
    /// If the response is lost, the request is repeated as for [`pause`](Self::pause). The repeated
    /// request also deletes a conversation that another program has created with this id in
    /// between.
    ///
    /// Must not be awaited from inside a callback of [`on_event`](Self::on_event): this waits for
    /// the server.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails; the link stays open.
    pub fn delete(&self) -> Request<()> {
        let this = self.clone();
        Request::new(async move {
            this.delete_on_server().await?;
            // The conversation is deleted already, so the close has nothing left that can fail.
            _ = this.close().await;
            Ok(())
        })
    }

    async fn delete_on_server(&self) -> Result<()> {
        let call = calls::conversations::Delete::new(self.id());
        if let Err(error) = self.call("delete", &call).await {
            let gone = match error.kind() {
                ErrorKind::Gone => true,
                // Older servers (1.43) return 400 for a missing conversation.
                ErrorKind::Validation => self.is_gone().await,
                _ => false,
            };
            if !gone {
                return Err(error);
            }
        }
        self.0.deleted.store(true, Ordering::Release);
        client_tools::forget(self.client().base_url().as_str(), self.id());
        self.mirror().answered.retire();
        // Wakes the watcher, so that other handles notice the deletion immediately.
        self.mirror().nudge.notify_one();
        Ok(())
    }

    async fn is_gone(&self) -> bool {
        let found = self.info().await;
        found.is_err_and(|error| error.kind() == ErrorKind::Gone)
    }
}
