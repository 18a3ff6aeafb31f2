//! Messages received by a socket, which are processed in order while the socket continues to send
//! events.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::fake::{
    agent,
    state::{
        conversation::Conversation,
        executed::Permission,
        subscriber::{Item, Subscriber},
        world::World,
    },
};

/// The messages of one socket. The task starts with the first message.
#[derive(Default)]
pub(crate) struct Inbox(Option<mpsc::UnboundedSender<Value>>);

impl Inbox {
    /// Processes a message after the earlier ones. A rejection is sent to the socket.
    pub(crate) fn take(
        &mut self,
        world: &Arc<World>,
        from: (&Arc<Conversation>, &Arc<Subscriber>),
        message: Value,
        envelopes: bool,
    ) {
        let messages = self.0.get_or_insert_with(|| {
            let (to, mut messages) = mpsc::unbounded_channel();
            let serving = Arc::clone(world);
            let (conversation, subscriber) = (Arc::clone(from.0), Arc::clone(from.1));
            world.spawn(async move {
                while let Some(message) = messages.recv().await {
                    let run = Some(Permission::Socket);
                    let taken = agent::take(&serving, &conversation, &message, run).await;
                    let Err(detail) = taken else { continue };
                    let code = "ConversationRunLimitExceeded";
                    let error = refusal(&serving, envelopes, code, &detail);
                    let error = Bytes::from(error.to_string());
                    subscriber.publish(match envelopes {
                        true => Item::Progress(error),
                        false => Item::Transient(error),
                    });
                }
            });
            to
        });
        // Cannot fail while the server runs: the task ends with the server.
        let _ = messages.send(message);
    }
}

/// Builds the error for a message that was rejected.
pub(crate) fn refusal(world: &World, envelopes: bool, code: &str, detail: &str) -> Value {
    if envelopes {
        return json!({"type": "error", "code": code, "detail": detail});
    }
    json!({
        "kind": "ServerErrorEvent",
        "id": world.clock.id(),
        "timestamp": world.clock.local(),
        "source": "environment",
        "code": code,
        "detail": detail,
    })
}
