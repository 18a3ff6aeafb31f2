//! Reads the sockets of a conversation.

use std::{error::Error, time::Duration};

use openhands::{
    Conversation,
    transport::{Client, Message, Socket},
};

/// Result of a step of the recording.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Reads text messages until none arrives for `quiet`.
pub(crate) async fn drain(socket: &mut Socket, quiet: Duration) -> Outcome<Vec<String>> {
    let mut lines = Vec::new();
    while let Ok(message) = tokio::time::timeout(quiet, socket.recv()).await {
        if let Message::Text(text) = message? {
            lines.push(String::from_utf8(text.to_vec())?);
        }
    }
    Ok(lines)
}

/// Opens the session socket of a conversation, from its start.
pub(crate) async fn session(client: &Client, conversation: &Conversation) -> Outcome<Socket> {
    let target = format!("/sockets/session/{}?after_seq=-1", conversation.id());
    Ok(client.socket(&target).await?)
}
