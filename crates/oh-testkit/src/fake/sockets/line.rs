//! A socket that is open: its frames, messages, pings and end.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, MissedTickBehavior},
};

use crate::fake::{
    agent,
    sockets::{
        handshake::Kind,
        inbox::{Inbox, refusal},
    },
    state::{
        conversation::Conversation,
        log::Frame,
        subscriber::{Ending, Item, Subscriber},
        world::World,
    },
    wire::frames::{self, Inbound, Reader, Writer},
};
use crate::fault::{self, EventFault};

const PING_EVERY: Duration = Duration::from_secs(20);
const AUTH_WITHIN: Duration = Duration::from_secs(10);
/// How long to wait for a client that never reads before the connection is ended.
const GRACE: Duration = Duration::from_secs(5);

/// Why a socket has ended.
pub(super) enum Over {
    Close(u16, String),
    /// The client left, or has to be cut off.
    Gone,
    Tear(Bytes),
    /// Flush, then keep the connection open but silent.
    Stall,
    /// Keep the connection open but silent, without a flush.
    Silent,
}

pub(super) type Delivered = Result<(), Over>;

pub(super) async fn read(reader: Reader, to: mpsc::Sender<Inbound>) {
    reader.pump(to).await;
    std::future::pending().await
}

fn pings() -> Interval {
    let mut pings = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings
}

/// An open socket.
pub(super) struct Line {
    pub(super) world: Arc<World>,
    path: String,
    pub(super) writer: Writer,
    inbound: mpsc::Receiver<Inbound>,
    ping: Interval,
    awaiting_pong: bool,
    /// Whether messages are queued, because the client has not received the state yet.
    pub(super) queues_messages: bool,
    queued: VecDeque<Vec<u8>>,
    /// Messages that wait to be processed.
    inbox: Inbox,
    /// The number of events sent so far, which faults use.
    pub(super) passed: u64,
    /// An event that is sent after the next one.
    late: Option<Bytes>,
    silenced: watch::Receiver<u64>,
}

impl Line {
    pub(super) fn new(
        world: &Arc<World>,
        path: String,
        writer: Writer,
        inbound: mpsc::Receiver<Inbound>,
        silenced: watch::Receiver<u64>,
    ) -> Self {
        Self {
            world: Arc::clone(world),
            path,
            writer,
            inbound,
            ping: pings(),
            awaiting_pong: false,
            queues_messages: false,
            queued: VecDeque::new(),
            inbox: Inbox::default(),
            passed: 0,
            late: None,
            silenced,
        }
    }

    pub(super) async fn serve(mut self, kind: Kind, known: bool) {
        let over = match self.talk(kind, known).await {
            Ok(()) => Over::Gone,
            Err(over) => over,
        };
        match over {
            Over::Close(code, reason) => {
                let _ = tokio::time::timeout(GRACE, self.writer.close(code, &reason)).await;
                // Waits for the client's close frame, so that a reset does not lose sent data.
                let _ = tokio::time::timeout(GRACE, self.inbound_end()).await;
            }
            Over::Gone => {
                let _ = tokio::time::timeout(GRACE, self.writer.flush()).await;
            }
            Over::Tear(frame) => self.writer.tear(&frame).await,
            Over::Stall => {
                let _ = self.writer.flush().await;
                std::future::pending::<()>().await;
            }
            Over::Silent => std::future::pending::<()>().await,
        }
    }

    async fn inbound_end(&mut self) {
        while let Some(inbound) = self.inbound.recv().await {
            if matches!(inbound, Inbound::End) {
                return;
            }
        }
    }

    async fn talk(&mut self, kind: Kind, known: bool) -> Delivered {
        if !known {
            self.authenticate().await?;
        }
        match kind {
            Kind::Session { id, after } => {
                let conversation = self.conversation(id)?;
                self.session(&conversation, after).await
            }
            Kind::Legacy { id, all, since } => {
                let conversation = self.conversation(id)?;
                self.legacy(&conversation, all, since).await
            }
            Kind::Bash { all } => self.bash(all).await,
        }
    }

    /// Waits for the first message, which must contain the key.
    async fn authenticate(&mut self) -> Delivered {
        let refused = || Over::Close(4001, "Authentication failed".to_owned());
        let first = tokio::time::timeout(AUTH_WITHIN, self.inbound.recv()).await;
        let text = match first {
            Ok(Some(Inbound::Text(text))) => text,
            Ok(Some(Inbound::Binary(_)) | None) => return Err(Over::Gone),
            _ => return Err(refused()),
        };
        let frame: Value = serde_json::from_slice(&text).map_err(|_| refused())?;
        let key = frame["session_api_key"].as_str();
        let known = key.is_some_and(|key| self.world.door.accepts(key));
        if frame["type"] == "auth" && known {
            return Ok(());
        }
        Err(refused())
    }

    fn conversation(&self, id: uuid::Uuid) -> Result<Arc<Conversation>, Over> {
        let found = self.world.conversation(id);
        found
            .filter(|conversation| !conversation.lock().leased)
            .inspect(|conversation| conversation.load())
            .ok_or_else(|| Over::Close(4004, "Conversation not found".to_owned()))
    }

    /// Queues a `durable` frame, with the active faults.
    pub(super) async fn durable(&mut self, frame: &Frame, subscriber: &Subscriber) -> Delivered {
        if !frame.fits() {
            return Err(too_large());
        }
        self.event(frame.whole(), subscriber).await
    }

    /// Queues an event without an envelope, for the legacy socket and the command socket.
    pub(super) async fn bare(&mut self, event: &[u8], subscriber: &Subscriber) -> Delivered {
        self.event(&frames::text(event), subscriber).await
    }

    async fn event(&mut self, frame: &Bytes, subscriber: &Subscriber) -> Delivered {
        let faults = self.world.faults.of_event(&self.path, self.passed);
        self.passed += 1;
        let mut times = 1;
        for fault in faults {
            match fault {
                EventFault::Cut => return Err(Over::Gone),
                EventFault::Tear => return Err(Over::Tear(frame.clone())),
                EventFault::Stall => return Err(Over::Stall),
                EventFault::Close(code, reason) => return Err(Over::Close(code, reason)),
                EventFault::Twice => times += 1,
                EventFault::Leave => times = 0,
                EventFault::Swap if self.late.is_none() => {
                    self.late = Some(frame.clone());
                    return Ok(());
                }
                EventFault::Swap => {}
                EventFault::Pause(pause) => {
                    self.flush(subscriber).await?;
                    tokio::time::sleep(pause).await;
                }
                EventFault::Oversized(bytes) => {
                    self.writer.text(&[&fault::oversized(bytes)]);
                }
            }
        }
        for _ in 0..times {
            self.writer.frames(frame.clone());
        }
        if let Some(late) = self.late.take() {
            self.writer.frames(late);
        }
        if self.writer.is_full() {
            self.flush(subscriber).await?;
        }
        Ok(())
    }

    /// Waits for items to send. Handles pings, messages and closing in the meantime.
    pub(super) async fn wait(
        &mut self,
        conversation: Option<&Arc<Conversation>>,
        subscriber: &Arc<Subscriber>,
        items: &mut mpsc::UnboundedReceiver<Item>,
        batch: &mut Vec<Item>,
        envelopes: bool,
    ) -> Delivered {
        loop {
            self.world.thawed().await;
            while !self.queues_messages
                && let Some(text) = self.queued.pop_front()
            {
                self.message(conversation, subscriber, &text, envelopes);
                self.flush(subscriber).await?;
            }
            tokio::select! {
                biased;
                () = subscriber.end.cancelled() => return Err(ending(subscriber)),
                _ = self.silenced.changed() => return Err(Over::Silent),
                inbound = self.inbound.recv() => {
                    // A frozen server handles the message after the thaw.
                    self.world.thawed().await;
                    match inbound {
                    None | Some(Inbound::End) => return Err(Over::Gone),
                    Some(Inbound::Pong) => self.awaiting_pong = false,
                    Some(Inbound::Ping(payload)) => {
                        self.writer.pong(&payload);
                        self.flush(subscriber).await?;
                    }
                    Some(Inbound::Binary(_)) => {}
                    Some(Inbound::TooLarge) => return Err(Over::Close(1009, String::new())),
                    Some(Inbound::Text(text)) if self.queues_messages => {
                        self.queued.push_back(text);
                    }
                    Some(Inbound::Text(text)) => {
                        self.message(conversation, subscriber, &text, envelopes);
                        self.flush(subscriber).await?;
                    }
                }
                }
                _ = self.ping.tick() => {
                    if std::mem::replace(&mut self.awaiting_pong, true) {
                        let reason = "keepalive ping timeout".to_owned();
                        return Err(Over::Close(1011, reason));
                    }
                    self.writer.ping();
                    self.flush(subscriber).await?;
                }
                count = items.recv_many(batch, 256) => {
                    if count == 0 {
                        // The conversation was deleted. The socket stays open but silent.
                        std::future::pending::<()>().await;
                    }
                    return Ok(());
                }
            }
        }
    }

    fn message(
        &mut self,
        conversation: Option<&Arc<Conversation>>,
        subscriber: &Arc<Subscriber>,
        text: &[u8],
        envelopes: bool,
    ) {
        let Some(conversation) = conversation else {
            if let Err((code, detail)) = agent::receive_command(&self.world, text) {
                let error = json!({
                    "id": self.world.clock.uuid().simple().to_string(),
                    "timestamp": self.world.clock.utc(),
                    "kind": "BashError",
                    "code": code,
                    "detail": detail,
                });
                self.writer.text(&[error.to_string().as_bytes()]);
            }
            return;
        };
        match agent::said(text) {
            Ok(None) => {}
            Ok(Some(message)) => {
                let from = (conversation, subscriber);
                self.inbox.take(&self.world, from, message, envelopes);
            }
            Err((code, detail)) => {
                let error = refusal(&self.world, envelopes, code, &detail);
                self.writer.text(&[error.to_string().as_bytes()]);
            }
        }
    }

    /// Sends the queued frames. If the connection has to end, a client that never reads gets a
    /// grace period only.
    pub(super) async fn flush(&mut self, subscriber: &Subscriber) -> Delivered {
        self.world.thawed().await;
        if self.silenced.has_changed().unwrap_or(false) {
            return Err(Over::Silent);
        }
        let flush = self.writer.flush();
        tokio::pin!(flush);
        let flushed = tokio::select! {
            flushed = &mut flush => flushed,
            () = subscriber.end.cancelled() => {
                let flushed = tokio::time::timeout(GRACE, &mut flush).await;
                flushed.unwrap_or(Err(()))
            }
        };
        flushed.map_err(|()| Over::Gone)
    }
}

pub(super) fn ending(subscriber: &Subscriber) -> Over {
    let ending = crate::fake::state::lock::lock(&subscriber.ending).clone();
    match ending {
        Some(Ending::Close(code, reason)) => Over::Close(code, reason),
        _ => Over::Gone,
    }
}

pub(super) fn too_large() -> Over {
    Over::Close(1013, "frame_too_large".to_owned())
}

pub(super) fn too_many() -> Over {
    let reason = "Too many connections for this conversation".to_owned();
    Over::Close(1013, reason)
}
