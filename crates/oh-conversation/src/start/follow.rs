//! Connecting a handle, and waiting until it is ready.

use std::time::Duration;

use oh_protocol::state::ConversationInfo;
use oh_transport::Client;
use tokio::time::{Instant, timeout};

use crate::{
    ClientTool, Conversation, LinkStatus, Origin, Request, Result, link::shared::Shared,
    ops::dispatch, start::automation::Record, start::options::Following,
};

/// How long a new socket may take to deliver the history before REST is used. While a tool runs the
/// server sends nothing, so silence is not a failure.
const BY_SOCKET: Duration = Duration::from_secs(1);

impl Conversation {
    /// Creates a handle of a conversation, and waits until it is ready.
    pub(crate) async fn follow(
        client: Client,
        info: ConversationInfo,
        following: Following,
        origin: Origin,
    ) -> Result<Self> {
        let Following {
            link,
            tools,
            resume_tools,
            delete_on_close,
            unreported,
        } = following;
        let record = match unreported {
            true => None,
            false => Record::new(&info, &origin),
        };
        let working_dir = info
            .state()
            .get("workspace")
            .and_then(|workspace| workspace.get("working_dir")?.as_text())
            .unwrap_or_default()
            .into();
        let (shared, joined) = Shared::link(client, info, &link).await?;
        let recorded = record.is_some();
        let conversation = Self::new(shared, working_dir, origin, delete_on_close, recorded);
        if let Some(record) = record {
            record.add(&conversation);
        }
        if joined {
            // An existing link may lag slightly behind the server.
            conversation.ready_by_rest().await?;
        } else {
            conversation.linked().await?;
        }
        conversation.know_what_waits().await?;
        conversation.know_newer_settings().await?;
        let new = matches!(conversation.origin(), Origin::Created);
        conversation.execute_tools(tools, new, resume_tools);
        Ok(conversation)
    }

    /// Executes these client tools when the agent calls them. `new`: the whole log is new.
    /// `resume`: also executes the calls in the history that have no result.
    pub(crate) fn execute_tools(&self, tools: Vec<ClientTool>, new: bool, resume: bool) {
        if !tools.is_empty() {
            self.set_dispatch(dispatch::start(self, tools, new, resume));
        }
    }

    /// Waits until the mirror has every event that the server has now: asks for the newest one
    /// (`GET …/events/search`), also if the link is live. A conversation is ready when it has been
    /// started or attached. After the connection was lost, this waits until the conversation is
    /// ready again.
    ///
    /// While a tool runs, the server sends nothing over a new socket, so the events are fetched
    /// with REST.
    ///
    /// # Errors
    ///
    /// Returns an error if the link has ended, or the server is unreachable for longer than
    /// [`unreachable_after`](crate::Attach::unreachable_after).
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: the future changes nothing.
    pub fn ready(&self) -> Request<()> {
        let this = self.clone();
        Request::new(async move {
            this.linked().await?;
            this.ready_by_rest().await
        })
    }

    /// Fetches the events that the mirror lacks (`GET …/events/search`), and returns how many
    /// events the mirror has gained during the call: 0 if it was complete.
    ///
    /// The link does this by itself after each lost connection, so a program only needs it to be
    /// sure now, for example before it stores the log. The link also fetches the events here: every
    /// event arrives once and in order on each stream and callback, also if the socket delivers it
    /// at the same time. Such an event is counted too. Events before the first one held, with
    /// [`tail`](crate::Attach::tail) or [`keep_last`](crate::Attach::keep_last), are not fetched.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`ready`](Self::ready). The pages that were fetched before the failure
    /// stay in the mirror, and the link goes on.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: events that have been fetched stay in the mirror.
    pub fn reconcile(&self) -> Request<usize> {
        let this = self.clone();
        Request::new(async move {
            let length = || this.mirror().read().log.end();
            let before = length();
            this.linked().await?;
            this.ready_by_rest().await?;
            Ok(length().saturating_sub(before))
        })
    }

    /// Waits until the mirror has every event that the server had when the current connection was
    /// made.
    async fn linked(&self) -> Result<()> {
        let mut changes = self.changes();
        let mut until = Instant::now() + BY_SOCKET;
        let mut seen = None;
        loop {
            changes.borrow_and_update();
            if let Some(error) = self.ended() {
                return Err(error);
            }
            let (link, end) = {
                let held = self.mirror().read();
                (held.link, held.log.end())
            };
            if link == LinkStatus::Live {
                return Ok(());
            }
            // A long history may take any time, as long as events arrive.
            if seen.is_some_and(|seen| seen != end) {
                until = Instant::now() + BY_SOCKET;
            }
            seen = Some(end);
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(until) => return self.ready_by_rest().await,
            }
        }
    }

    async fn ready_by_rest(&self) -> Result<()> {
        let limit = self.limits().unreachable;
        let begun = Instant::now();
        let mut end = self.mirror().read().log.end();
        loop {
            if let Ok(ready) = timeout(limit, self.up_to_date()).await {
                return ready;
            }
            // Keep waiting while events arrive. While the server reports that it does not have the
            // conversation, the watcher decides when to give up.
            let (now, disowned) = {
                let held = self.mirror().read();
                (held.log.end(), held.disowned)
            };
            if now == end && !disowned {
                let what = format!(
                    "the conversation is not up to date: nothing could be read from the server \
                     for {:?}",
                    begun.elapsed()
                );
                return Err(self.timed_out(what));
            }
            end = now;
        }
    }
}
