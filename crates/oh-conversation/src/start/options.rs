//! The options that attaching and the builder share.

use crate::{ClientTool, link::shared::LinkOptions};

/// The minimum number of events to keep, because a run looks back a little.
pub(crate) const FEWEST: usize = 1000;

/// The options of a handle and its link.
#[derive(Debug, Clone, Default)]
pub(crate) struct Following {
    pub(crate) link: LinkOptions,
    pub(crate) tools: Vec<ClientTool>,
    pub(crate) resume_tools: bool,
    pub(crate) delete_on_close: bool,
    /// Whether the conversation is left out of the report to an automation environment.
    pub(crate) unreported: bool,
}

impl Following {
    pub(crate) fn keep_last(&mut self, events: usize) {
        self.link.keep = Some(events.max(FEWEST));
    }
}

/// Setters that `Attach` and the builder share.
macro_rules! link_options {
    ($following:ident) => {
        /// Sets the delay before a reconnect: about `first`, then doubled each time, up to `cap`.
        /// Default: 100 ms to 10 s.
        pub fn reconnect_after(
            mut self,
            first: std::time::Duration,
            cap: std::time::Duration,
        ) -> Self {
            self.$following.link.limits().backoff = (first, cap);
            self
        }

        /// Sets how long the socket may be silent before the link is checked. Servers leave sockets
        /// open and silent when the conversation is deleted or its sandbox was paused. While the
        /// conversation is idle, the check opens a new socket, and the interval doubles each time,
        /// up to 30 minutes. While the conversation runs, the check requests the newest event with
        /// REST. Default: 45 s.
        pub fn silence_after(mut self, limit: std::time::Duration) -> Self {
            self.$following.link.limits().silence = crate::limits::Limits::bounded(limit);
            self
        }

        /// Sets how long another server may hold the conversation's lease before the link ends with
        /// [`ErrorKind::Leased`](crate::ErrorKind::Leased). The lease of a killed server expires
        /// after 45 s by default. Default: 90 s.
        pub fn lease_limit(mut self, limit: std::time::Duration) -> Self {
            self.$following.link.limits().lease = crate::limits::Limits::bounded(limit);
            self
        }

        /// Sets for how long the server must report that it does not have the conversation before
        /// the link ends with [`ErrorKind::Gone`](crate::ErrorKind::Gone). Default: 2 s.
        pub fn missing_limit(mut self, limit: std::time::Duration) -> Self {
            self.$following.link.limits().missing = crate::limits::Limits::bounded(limit);
            self
        }

        /// Sets how long the server may be unreachable before a run ends with
        /// [`RunStatus::ServerGone`](crate::RunStatus::ServerGone). The link keeps retrying. If the
        /// server's supervisor reports that the server has ended, the run ends at once. Default:
        /// 60 s.
        pub fn unreachable_after(mut self, limit: std::time::Duration) -> Self {
            self.$following.link.limits().unreachable = crate::limits::Limits::bounded(limit);
            self
        }

        /// Sets how long the log may take to show the effect of a message, a run or an approval
        /// whose response was lost, before the operation fails with
        /// [`ErrorKind::Ambiguous`](crate::ErrorKind::Ambiguous). Also limits how long a message or
        /// an approval waits for earlier ones of this process, and how long it may take to find out
        /// whether an action waits. Default: 15 s.
        pub fn ambiguous_after(mut self, limit: std::time::Duration) -> Self {
            self.$following.link.limits().answer = crate::limits::Limits::bounded(limit);
            self
        }

        /// Sets how long a run may be rejected although none is in progress, or be accepted and not
        /// start, before it ends with [`RunStatus::Wedged`](crate::RunStatus::Wedged). Default:
        /// 120 s.
        pub fn wedged_after(mut self, limit: std::time::Duration) -> Self {
            self.$following.link.limits().wedged = crate::limits::Limits::bounded(limit);
            self
        }
    };
}
pub(crate) use link_options;
