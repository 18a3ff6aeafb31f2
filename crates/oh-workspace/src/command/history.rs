//! The server's history of commands and their output.

use std::time::Duration;

use futures_core::Stream;
use jiff::Timestamp;
use oh_protocol::calls::bash::{
    BashEvent, BashPage, BatchEvents, ClearEvents, GetEvent, SearchEvents,
};
use oh_transport::WorkspaceHandle;

use super::{
    follow::{self, HistoryStream, Intervals},
    order::unmark,
    running::Command,
};
use crate::{Error, ErrorKind, Request, Result, Workspace};

/// A search in the history of commands, with filters.
///
/// The history contains the commands of all clients of the server or, if the [`Workspace`] is in
/// the scope of a conversation, those of that conversation.
#[derive(Debug, Clone)]
#[must_use = "a search does nothing until it is read"]
pub struct History {
    workspace: Workspace,
    search: SearchEvents,
    since: Option<Timestamp>,
    /// Why the search cannot be followed.
    bounded: Option<&'static str>,
    intervals: Intervals,
}

impl History {
    /// Returns only commands, without output.
    pub fn commands(mut self) -> Self {
        self.search = self.search.kind("BashCommand");
        self
    }

    /// Returns only output.
    pub fn outputs(mut self) -> Self {
        self.search = self.search.kind("BashOutput");
        self
    }

    /// Returns only the output of this command.
    pub fn of_command(mut self, id: impl Into<String>) -> Self {
        self.search = self.search.command(id);
        self
    }

    /// Returns only events at or after this moment.
    pub fn since(mut self, moment: Timestamp) -> Self {
        self.search = self.search.since(moment.to_string());
        self.since = Some(moment);
        self
    }

    /// Returns only events before this moment.
    pub fn until(mut self, moment: Timestamp) -> Self {
        self.search = self.search.until(moment.to_string());
        self.bounded = Some("until");
        self
    }

    /// Returns the newest events first. Default: oldest first.
    pub fn newest_first(mut self) -> Self {
        self.search = self.search.descending();
        self.bounded = Some("newest_first");
        self
    }

    /// Sets how many events are fetched per request, 1 to 100. Default 100.
    pub fn page_size(mut self, events: u32) -> Self {
        self.search = self.search.limit(events);
        self
    }

    /// Returns only output after this order number of its command. Events without an order number
    /// are not affected. Together with [`of_command`](Self::of_command), this returns output that a
    /// program has not read yet.
    pub fn after(mut self, order: i64) -> Self {
        self.search = self.search.after(order);
        self
    }

    /// Sets how often [`follow`](Self::follow) reads the history if the socket announces nothing,
    /// because an announcement may be lost: how late an event arrives at most. Default: 5 s.
    /// Minimum: 10 ms.
    pub fn check_every(mut self, interval: Duration) -> Self {
        self.intervals.set_announced(interval);
        self
    }

    /// Sets how often [`follow`](Self::follow) reads the history in the scope of a conversation, or
    /// while there is no socket. Default: 1 s. Minimum: 10 ms.
    pub fn poll_every(mut self, interval: Duration) -> Self {
        self.intervals.set_polled(interval);
        self
    }

    /// Starts at the page that an earlier page named as next. The filters must be the same.
    pub fn from_page(mut self, next_page_id: impl Into<String>) -> Self {
        self.search = self.search.page_id(next_page_id);
        self.bounded = Some("from_page");
        self
    }

    /// Returns one page: the first, or the one set with [`from_page`](Self::from_page).
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub async fn page(self) -> Result<BashPage> {
        let found = self.workspace.client().call(&self.search).await;
        let mut page =
            found.map_err(|error| Error::transport("cannot read the command history", error))?;
        page.items.iter_mut().for_each(unmark);
        Ok(page)
    }

    /// Returns a stream of the events so far, oldest first, and of each new event from then on:
    /// what every client of the server executes, and the output. Every event is returned once, also
    /// across lost connections and restarts of the server. `since` sets where the stream begins.
    ///
    /// The socket of the server (`/sockets/bash-events`) announces new events, so they arrive at
    /// once, at most 5 s late ([`check_every`](Self::check_every)). In the scope of a conversation,
    /// or while there is no socket, the history is read once a second
    /// ([`poll_every`](Self::poll_every)). While the server is unreachable, the stream waits and
    /// retries. Events are in the order of the server's clock: if it is set back by more than 5 s,
    /// events are missed until it has caught up.
    ///
    /// ```no_run
    /// # async fn watch(workspace: &oh_workspace::Workspace) -> oh_workspace::Result<()> {
    /// use oh_protocol::calls::bash::BashEvent;
    ///
    /// let mut events = workspace.history().since(jiff::Timestamp::now()).follow();
    /// while let Some(event) = events.next().await {
    ///     match event? {
    ///         BashEvent::Command(command) => println!("$ {}", command.command),
    ///         BashEvent::Output(output) => print!("{}", output.stdout.unwrap_or_default()),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The stream ends with an error if the server rejects a request, and with
    /// [`ErrorKind::ServerGone`] if its supervisor reports that the server has ended permanently.
    /// A history with [`until`](Self::until), [`newest_first`](Self::newest_first) or
    /// [`from_page`](Self::from_page) cannot be followed: [`ErrorKind::InvalidInput`].
    pub fn follow(self) -> HistoryStream {
        let Self {
            workspace,
            search,
            since,
            bounded,
            intervals,
        } = self;
        follow::follow(workspace, search, since, bounded, intervals)
    }

    /// Returns all events as a stream, which fetches each page when it is needed.
    pub fn stream(self) -> impl Stream<Item = Result<BashEvent>> + Send {
        let state = (Some(self), Vec::new().into_iter());
        futures_util::stream::try_unfold(state, |(mut next, mut items)| async move {
            loop {
                if let Some(event) = items.next() {
                    return Ok(Some((event, (next, items))));
                }
                let Some(mut history) = next.take() else {
                    return Ok(None);
                };
                let page = history.clone().page().await?;
                items = page.items.into_iter();
                next = page.next_page_id.map(|id| {
                    history.search = history.search.page_id(id);
                    history
                });
            }
        })
    }
}

impl Workspace {
    /// Searches the history of commands.
    pub fn history(&self) -> History {
        History {
            workspace: self.clone(),
            search: SearchEvents::new().scope(self.scope()),
            since: None,
            bounded: None,
            intervals: Intervals::default(),
        }
    }

    /// Finds a command by its id, whether it is running or has ended.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotFound`] if the server's history has no such command.
    pub fn command(&self, id: impl Into<String>) -> Request<Command> {
        let id: String = id.into();
        let this = self.clone();
        Request::new(async move {
            // The server finds events by hex digits only.
            let id = id.replace('-', "");
            let get = GetEvent::new(&id).scope(this.scope());
            let found = this.client().call(&get).await.map_err(|error| {
                Error::transport("cannot find the command", error).of_command(&id)
            })?;
            match found {
                BashEvent::Command(command) => Ok(Command::found(&this, command)),
                _ => {
                    let context = "the event with this id is not a command";
                    Err(Error::new(ErrorKind::NotFound, context).of_command(&id))
                }
            }
        })
    }

    /// Returns events of the history by their ids, in this order; `None` for events that the server
    /// does not have.
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn history_events<I: Into<String>>(
        &self,
        ids: impl IntoIterator<Item = I>,
    ) -> Request<Vec<Option<BashEvent>>> {
        let batch = BatchEvents::new(ids).scope(self.scope());
        let asked = self.client().call(batch);
        Request::new(async move {
            let found = asked.await;
            let mut found = found
                .map_err(|error| Error::transport("cannot read the command history", error))?;
            found.iter_mut().flatten().for_each(unmark);
            Ok(found)
        })
    }

    /// Clears the history, and returns how many events it contained. The output of running commands
    /// so far is removed too: their readers get [`ErrorKind::OutputLost`].
    ///
    /// # Errors
    ///
    /// Returns an error if the request fails.
    pub fn clear_history(&self) -> Request<u64> {
        let this = self.clone();
        Request::new(async move {
            let clear = ClearEvents::new().scope(this.scope());
            let cleared = this.client().call(&clear).await;
            cleared.map_err(|error| Error::transport("cannot clear the command history", error))
        })
    }
}
