//! Messages that a client sends over a socket: taken in one after the other, while the socket goes
//! on telling what happens.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    conversation::{Conversation, Item, Subscriber},
    events,
    executed::Permission,
    world::World,
};

/// The messages of one socket. Nothing runs before the first.
#[derive(Default)]
pub(super) struct Inbox(Option<mpsc::UnboundedSender<Value>>);

impl Inbox {
    /// Takes a message in, after those before it. A refusal is told to the socket.
    pub(super) fn take(
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
                    let taken = events::take(&serving, &conversation, &message, run).await;
                    let Err(detail) = taken else { continue };
                    let code = "ConversationRunLimitExceeded";
                    let error = refusal(&serving, envelopes, code, &detail);
                    let error = Bytes::from(error.to_string());
                    subscriber.tell(match envelopes {
                        true => Item::Progress(error),
                        false => Item::Transient(error),
                    });
                }
            });
            to
        });
        // The task ends with the server only.
        let _ = messages.send(message);
    }
}

/// What a client is told of a message that is not taken.
pub(super) fn refusal(world: &World, envelopes: bool, code: &str, detail: &str) -> Value {
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
