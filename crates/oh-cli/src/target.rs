//! The conversation that a command works with.

use std::path::{Path, PathBuf};

use openhands::{
    Conversation, ConversationId, conversation::Conversations,
    protocol::calls::conversations::Reprovision,
};

use crate::{
    exit::{Exit, Failure},
    records::{self, Place, Record},
    server::{At, Server, note},
};

/// A conversation, and the server that has it.
pub(crate) struct Target {
    pub(crate) server: Server,
    pub(crate) id: ConversationId,
    /// The record of the run, if it was started on this machine.
    pub(crate) record: Option<Record>,
    /// The directory of the record.
    pub(crate) path: Option<PathBuf>,
}

impl Target {
    /// Finds a conversation by its id, or by the beginning of its id. Connects to the program that
    /// runs it, to the background server or to the given URL; otherwise starts the run's own server
    /// again. On a given server, any conversation is found.
    pub(crate) async fn find(id: &str, at: &At) -> Result<Self, Failure> {
        match (records::find(id), &at.server) {
            (Ok((path, record)), None) => {
                let server = server_of(&path, &record).await?;
                Ok(Self::recorded(server, path, record))
            }
            (Ok((path, record)), Some(url)) => {
                let server = Server::at(url).await?;
                Ok(Self::recorded(server, path, record))
            }
            (Err(unknown), _) => {
                let server = match at.url() {
                    Some(url) => Some(Server::at(&url).await?),
                    None => Server::background().await?,
                };
                let Some(server) = server else {
                    return Err(unknown);
                };
                let id = on(&server, id).await?.ok_or(unknown)?;
                let (record, path) = (None, None);
                Ok(Self {
                    server,
                    id,
                    record,
                    path,
                })
            }
        }
    }

    fn recorded(server: Server, path: PathBuf, record: Record) -> Self {
        Self {
            server,
            id: record.conversation,
            record: Some(record),
            path: Some(path),
        }
    }

    /// Attaches to the conversation, with its whole history.
    pub(crate) async fn attach(&self) -> Result<Conversation, Failure> {
        Ok(Conversation::attach(self.server.client(), self.id).await?)
    }

    /// Ends an own server.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        self.server.end(false).await
    }
}

/// Returns the server that has the conversation of this run.
pub(crate) async fn server_of(path: &Path, record: &Record) -> Result<Server, Failure> {
    if record.pool.is_some() {
        let message = "the sandbox of this run exists only while `oh run` works in it; `oh show` \
                       and `oh export` have its events";
        return Err(Exit::Configuration.because(message));
    }
    if let Some(url) = &record.server {
        return Server::at(url).await;
    }
    let place = place_of_server(path, record)?;
    match Server::of_another_program(&place).await? {
        Some(server) => Ok(server),
        None => {
            let container = record.container.as_ref();
            let server = Server::own(Place::open(place)?, &[], container, note).await?;
            start_container(&server, record).await?;
            Ok(server)
        }
    }
}

/// Starts the container of an earlier run again, if the run has one.
pub(crate) async fn start_container(server: &Server, record: &Record) -> Result<(), Failure> {
    if record.container.is_some() {
        note("starting the container");
        // The first request would start it as well, but has less time.
        let call = Reprovision::new(record.conversation);
        server.client().call(&call).await?;
    }
    Ok(())
}

/// Returns the place of the server that has the conversation of this run.
pub(crate) fn place_of_server(path: &Path, record: &Record) -> Result<PathBuf, Failure> {
    let Some(origin) = record.state_of.filter(|_| !record.background) else {
        return match record.background {
            true => records::background(),
            false => Ok(path.to_owned()),
        };
    };
    let place = records::place_of(origin)?;
    match place.exists() {
        true => Ok(place),
        false => {
            let message = format!("the run {origin}, whose server has this fork, is gone");
            Err(Exit::Configuration.because(message))
        }
    }
}

/// Finds a conversation of the server by its id, or by the beginning of its id.
async fn on(server: &Server, id: &str) -> Result<Option<ConversationId>, Failure> {
    if id.is_empty() {
        return Ok(None);
    }
    let mut list = Conversations::of(server.client()).list();
    let mut found = None;
    while let Some(info) = list.next().await {
        let candidate = info?.id();
        if candidate.to_string().starts_with(&id.to_lowercase())
            && found.replace(candidate).is_some()
        {
            let message = format!("several conversations begin with `{id}`: write more of the id");
            return Err(Exit::Usage.because(message));
        }
    }
    Ok(found)
}
