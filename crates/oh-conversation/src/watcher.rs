//! Feeds the mirror from the session socket, across whatever happens to it.
//!
//! The only task that owns the socket. It runs no user code and waits for no reader.

use std::time::Duration;

use oh_protocol::{ConversationId, SessionFrame, calls};
use oh_transport::{Backoff, Client, ErrorKind as Kind, Message, Socket};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::{Error, ErrorKind, mirror::Writer};

/// A link that held this long was a good one: the next delay begins small again.
const HEALTHY: Duration = Duration::from_secs(10);
/// How long a conversation may be hidden by another server's lease (45 s by default).
const LEASE: Duration = Duration::from_secs(100);

/// What the end of a socket means.
#[derive(Debug)]
enum Ending {
    /// Dial again from the cursor.
    Retry,
    /// The event after the cursor is too large for a frame: fetch it, then dial again.
    TooLarge,
    /// No reconnect mends this.
    Fatal(Error),
}

/// Follows the conversation until the writer's side ends it. Never returns while it can go on.
pub(crate) async fn watch(client: Client, writer: Writer) {
    let id = writer.mirror().id;
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(15));
    let mut hidden_since = None;
    loop {
        writer.connecting();
        let dialled = Instant::now();
        let after = writer.mirror().read().cursor;
        let target = format!("/sockets/session/{id}?after_seq={after}");
        let error = match client.socket(&target).await {
            Ok(mut socket) => {
                writer.connected();
                follow(&mut socket, &writer).await
            }
            Err(error) => error,
        };
        let progressed = writer.mirror().read().cursor > after;
        if progressed || dialled.elapsed() >= HEALTHY {
            hidden_since = None;
        }
        if dialled.elapsed() >= HEALTHY {
            backoff.reset();
        }
        debug!(conversation = %id, kind = ?error.kind(), code = error.close_code(), "link ended");
        match classify(&client, id, error, &mut hidden_since).await {
            Ending::Fatal(error) => return writer.end(error),
            Ending::TooLarge => match next_event(&client, &writer).await {
                Ok(()) => {}
                Err(error) => warn!(conversation = %id, %error, "cannot fetch a large event"),
            },
            Ending::Retry => {}
        }
        sleep(backoff.next_delay()).await;
    }
}

/// Reads frames into the mirror until the socket ends; gives why.
async fn follow(socket: &mut Socket, writer: &Writer) -> oh_transport::Error {
    loop {
        let text = match socket.recv().await {
            Ok(Message::Text(text)) => text,
            Ok(_) => continue,
            Err(error) => return error,
        };
        match SessionFrame::from_json(text) {
            Ok(SessionFrame::Durable { seq, event }) => writer.durable(seq, event),
            Ok(SessionFrame::Transient { event }) => writer.transient(&event),
            Ok(SessionFrame::Error { code, detail }) => {
                warn!(conversation = %writer.mirror().id, code, detail, "the server objects");
            }
            Ok(_) => {}
            Err(error) => {
                // Not ours to judge: the next frame may read again.
                warn!(conversation = %writer.mirror().id, error = ?error, "a frame does not read");
            }
        }
    }
}

/// The one place that decides what is final.
async fn classify(
    client: &Client,
    id: ConversationId,
    error: oh_transport::Error,
    hidden_since: &mut Option<Instant>,
) -> Ending {
    match error.kind() {
        Kind::Unauthorized => Ending::Fatal(Error::transport(
            id,
            "follow: the session key is refused",
            error,
        )),
        Kind::Closed if error.close_reason() == Some("frame_too_large") => Ending::TooLarge,
        // A server that refuses the socket: unknown path, dormant, or a gateway's no.
        Kind::NotFound | Kind::Forbidden => {
            let since = *hidden_since.get_or_insert_with(Instant::now);
            let found = client.call(&calls::conversations::Get::new(id)).await;
            match found.map_err(|error| error.kind()) {
                Err(Kind::NotFound) => Ending::Fatal(Error::new(
                    ErrorKind::Gone,
                    id,
                    "the conversation is not there any more",
                )),
                // It exists, so another server's lease hides it, which ends by itself.
                _ if since.elapsed() < LEASE => Ending::Retry,
                _ => Ending::Fatal(Error::transport(
                    id,
                    "follow: another server holds it, or this one does not offer its events",
                    error,
                )),
            }
        }
        _ => Ending::Retry,
    }
}

/// Fetches the event after the cursor by REST, whose order is that of the log.
async fn next_event(client: &Client, writer: &Writer) -> oh_transport::Result<()> {
    let (id, cursor, last) = {
        let held = writer.mirror().read();
        (
            writer.mirror().id,
            held.cursor,
            held.events.last().map(|event| event.id().to_owned()),
        )
    };
    let mut search = calls::events::Search::new(id).limit(2);
    if let Some(last) = &last {
        search = search.page_id(last);
    }
    let page = client.call(&search).await?;
    // A page begins with the event its id names.
    let next = page
        .items
        .into_iter()
        .find(|event| Some(event.id()) != last.as_deref());
    if let (Some(event), Ok(seq)) = (next, u64::try_from(cursor + 1)) {
        writer.durable(seq, event);
    }
    Ok(())
}
