//! The server's history of commands and what they wrote.

use futures_core::Stream;
use jiff::Timestamp;
use oh_protocol::calls::bash::{
    BashEvent, BashPage, BatchEvents, ClearEvents, GetEvent, SearchEvents,
};
use oh_transport::WorkspaceHandle;

use super::{order::unmarked, running::Command};
use crate::{Error, ErrorKind, Result, Workspace};

/// A search in the history of commands, with filters.
///
/// It holds the commands of everyone on the server, or of the conversation in whose scope the
/// [`Workspace`] is.
#[derive(Debug, Clone)]
#[must_use = "a search does nothing until it is read"]
pub struct History {
    workspace: Workspace,
    search: SearchEvents,
}

impl History {
    /// Only the commands, not what they wrote.
    pub fn commands(mut self) -> Self {
        self.search = self.search.kind("BashCommand");
        self
    }

    /// Only what commands wrote.
    pub fn outputs(mut self) -> Self {
        self.search = self.search.kind("BashOutput");
        self
    }

    /// Only what this command wrote.
    pub fn of_command(mut self, id: impl Into<String>) -> Self {
        self.search = self.search.command(id);
        self
    }

    /// Only what happened from this moment on.
    pub fn since(mut self, moment: Timestamp) -> Self {
        self.search = self.search.since(moment.to_string());
        self
    }

    /// Only what happened before this moment.
    pub fn until(mut self, moment: Timestamp) -> Self {
        self.search = self.search.until(moment.to_string());
        self
    }

    /// The newest first. Default: the oldest first.
    pub fn newest_first(mut self) -> Self {
        self.search = self.search.descending();
        self
    }

    /// How many events are fetched at a time, 1 to 100. Default 100.
    pub fn page_size(mut self, events: u32) -> Self {
        self.search = self.search.limit(events);
        self
    }

    /// Only output after this place in the order of its command; events that have no place are
    /// not affected. With [`of_command`](Self::of_command), what one program has not read yet.
    pub fn after(mut self, order: i64) -> Self {
        self.search = self.search.after(order);
        self
    }

    /// Begins at the page that an earlier one named as next, with the same filters.
    pub fn from_page(mut self, next_page_id: impl Into<String>) -> Self {
        self.search = self.search.page_id(next_page_id);
        self
    }

    /// One page: the first, or that of [`from_page`](Self::from_page).
    ///
    /// # Errors
    ///
    /// When the server cannot be asked or refuses.
    pub async fn page(self) -> Result<BashPage> {
        let found = self.workspace.client().call(&self.search).await;
        let mut page = found.map_err(|error| {
            Error::transport("the history of commands could not be read", error)
        })?;
        page.items.iter_mut().for_each(unmark);
        Ok(page)
    }

    /// All of it, fetched page by page as it is read.
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

/// Shows a command's directory as it was given.
fn unmark(event: &mut BashEvent) {
    if let BashEvent::Command(command) = event
        && let Some(cwd) = &mut command.cwd
    {
        cwd.truncate(unmarked(cwd).len());
    }
}

impl Workspace {
    /// Searches the history of commands.
    pub fn history(&self) -> History {
        History {
            workspace: self.clone(),
            search: SearchEvents::new().scope(self.scope()),
        }
    }

    /// Finds a command again by its id, whether it runs or has ended.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when the server's history has no such command.
    pub async fn command(&self, id: impl Into<String>) -> Result<Command> {
        // Its event is found by hex digits only.
        let id = id.into().replace('-', "");
        let get = GetEvent::new(&id).scope(self.scope());
        let found = self.client().call(&get).await.map_err(|error| {
            Error::transport("a command could not be found", error).of_command(&id)
        })?;
        match found {
            BashEvent::Command(command) => Ok(Command::found(self, command)),
            _ => {
                let context = "what has this id is no command";
                Err(Error::new(ErrorKind::NotFound, context).of_command(&id))
            }
        }
    }

    /// Events of the history by their ids, in this order; none for those the server has not.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked or refuses.
    pub async fn history_events<I: Into<String>>(
        &self,
        ids: impl IntoIterator<Item = I>,
    ) -> Result<Vec<Option<BashEvent>>> {
        let batch = BatchEvents::new(ids).scope(self.scope());
        let found = self.client().call(&batch).await;
        let mut found = found.map_err(|error| {
            Error::transport("the history of commands could not be read", error)
        })?;
        found.iter_mut().flatten().for_each(unmark);
        Ok(found)
    }

    /// Forgets the history, and tells how many events it held. What a running command wrote so
    /// far is forgotten too: whoever reads it gets [`ErrorKind::OutputLost`].
    ///
    /// # Errors
    ///
    /// When the server cannot be asked or refuses.
    pub async fn clear_history(&self) -> Result<u64> {
        let clear = ClearEvents::new().scope(self.scope());
        let cleared = self.client().call(&clear).await;
        cleared.map_err(|error| {
            Error::transport("the history of commands could not be cleared", error)
        })
    }
}
