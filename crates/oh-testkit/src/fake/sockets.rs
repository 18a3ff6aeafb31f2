//! The three sockets: authentication, replay, live events and closing.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, MissedTickBehavior},
};

use super::{
    bash,
    conversation::{Conversation, Ending, Item, Subscriber},
    events,
    handshake::{Kind, kind},
    inbox::{Inbox, refusal},
    listening::{Listening, begins},
    log::{Frame, MAX_FRAME},
    routes,
    wire::{self, Inbound, Reader, Writer},
    world::World,
};
use crate::{
    fault::{self, EventFault},
    http::{self as server, Request, Response},
};

/// The size of a replay part, after which other work is checked.
const STRETCH: usize = 1024 * 1024;
const PING_EVERY: Duration = Duration::from_secs(20);
const AUTH_WITHIN: Duration = Duration::from_secs(10);
/// How long to wait for a client that never reads before the connection is ended.
const GRACE: Duration = Duration::from_secs(5);

/// Why a socket has ended.
enum Over {
    Close(u16, String),
    /// The client left, or has to be cut off.
    Gone,
    Tear(Bytes),
    /// Flush, then keep the connection open but silent.
    Stall,
    /// Keep the connection open but silent, without a flush.
    Silent,
}

type Told = Result<(), Over>;

/// Responds to an upgrade request. A spawned task serves the socket.
pub(super) fn open(world: &Arc<World>, request: &mut Request) -> Response {
    let path = request.uri().path().to_owned();
    let given = request.uri().query().unwrap_or_default().to_owned();
    let query = |name: &str| routes::query(&given, name);
    let Some(kind) = kind(world, &path, &query) else {
        return forbidden();
    };
    let key = query("session_api_key").or_else(|| {
        let header = request.headers().get("x-session-api-key")?;
        Some(header.to_str().ok()?.to_owned())
    });
    if world.door.is_dormant() {
        return forbidden();
    }
    let known = match key {
        _ if world.door.is_open() => true,
        None => false,
        Some(given) if world.door.accepts(&given) => true,
        Some(_) => return forbidden(),
    };
    let Some((answer, socket)) = wire::upgrade(request) else {
        return routes::not_found();
    };
    let (serving, silenced) = (Arc::clone(world), world.silenced.subscribe());
    world.spawn(async move {
        let Some((reader, writer)) = socket.await else {
            return;
        };
        let (to, inbound) = mpsc::channel(16);
        let line = Line {
            world: serving,
            path,
            writer,
            inbound,
            ping: pings(),
            awaiting_pong: false,
            deaf: false,
            unheard: VecDeque::new(),
            inbox: Inbox::default(),
            passed: 0,
            late: None,
            silenced,
        };
        tokio::select! {
            () = line.serve(kind, known) => {}
            // The line receives the end of reading as a message and decides what to do.
            () = read(reader, to) => {}
        }
    });
    answer.map(|()| server::full(Bytes::new()))
}

async fn read(reader: Reader, to: mpsc::Sender<Inbound>) {
    reader.pump(to).await;
    std::future::pending().await
}

fn pings() -> Interval {
    let mut pings = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings
}

fn forbidden() -> Response {
    let mut response = http::Response::new(server::full(Bytes::new()));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}

/// An open socket.
struct Line {
    world: Arc<World>,
    path: String,
    writer: Writer,
    inbound: mpsc::Receiver<Inbound>,
    ping: Interval,
    awaiting_pong: bool,
    /// Whether messages are queued, because the client has not received the state yet.
    deaf: bool,
    unheard: VecDeque<Vec<u8>>,
    /// Messages that wait to be processed.
    inbox: Inbox,
    /// The number of events sent so far, which faults use.
    passed: u64,
    /// An event that is sent after the next one.
    late: Option<Bytes>,
    silenced: watch::Receiver<u64>,
}

impl Line {
    async fn serve(mut self, kind: Kind, known: bool) {
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

    async fn talk(&mut self, kind: Kind, known: bool) -> Told {
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
    async fn authenticate(&mut self) -> Told {
        let refused = || Over::Close(4001, "Authentication failed".to_owned());
        let first = tokio::time::timeout(AUTH_WITHIN, self.inbound.recv()).await;
        let text = match first {
            Ok(Some(Inbound::Text(text))) => text,
            Ok(Some(Inbound::Binary) | None) => return Err(Over::Gone),
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

    async fn session(&mut self, conversation: &Arc<Conversation>, after: Option<i64>) -> Told {
        let Listening {
            subscriber,
            mut items,
            _place,
        } = Listening::new(conversation).ok_or_else(too_many)?;
        let mut batch = Vec::new();
        self.deaf = true;
        let length = loop {
            let (told, taken) = (Some(conversation), batch.len());
            self.wait(told, &subscriber, &mut items, &mut batch, true)
                .await?;
            if let Some(length) = batch.iter().skip(taken).find_map(begins) {
                break length;
            }
        };
        self.deaf = false;
        let through = length.checked_sub(1);
        let mut sync = json!({"type": "sync"});
        if let Some(after) = after {
            sync["from_seq"] = json!(after);
        }
        if let Some(through) = through {
            sync["through_seq"] = json!(through);
        }
        self.writer.text(&[sync.to_string().as_bytes()]);
        self.flush(&subscriber).await?;
        let mut done = None;
        if let Some(after) = after {
            let mut next = usize::try_from(after + 1).unwrap_or(0);
            while next < length {
                if subscriber.end.is_cancelled() {
                    return Err(ending(&subscriber));
                }
                next = self.replay(conversation, next, length, &subscriber).await?;
                tokio::task::yield_now().await;
            }
            done = through;
            self.flush(&subscriber).await?;
        }
        loop {
            for item in batch.drain(..) {
                match &item {
                    Item::Durable { seq, .. } if done.is_some_and(|done| *seq <= done) => {}
                    Item::Durable { frame, .. } => self.durable(frame, &subscriber).await?,
                    Item::Transient(raw) | Item::Snapshot { raw, .. } => {
                        if raw.len() + 64 > MAX_FRAME {
                            return Err(too_large());
                        }
                        let parts = [&br#"{"type":"transient","event":"#[..], raw, b"}"];
                        self.writer.text(&parts);
                    }
                    Item::Progress(raw) => self.writer.text(&[raw]),
                }
                subscriber.took(&item);
            }
            self.flush(&subscriber).await?;
            let told = Some(conversation);
            self.wait(told, &subscriber, &mut items, &mut batch, true)
                .await?;
        }
    }

    /// Sends a part of the log, up to `end`. Returns the next position.
    async fn replay(
        &mut self,
        conversation: &Conversation,
        next: usize,
        end: usize,
        subscriber: &Subscriber,
    ) -> Result<usize, Over> {
        if !self.world.faults.concern_events() {
            let stretch = conversation.lock().log.stretch(next, end, STRETCH);
            if let Some((pieces, after)) = stretch {
                for piece in pieces {
                    self.writer.frames(piece);
                    if self.writer.is_full() {
                        self.flush(subscriber).await?;
                    }
                }
                self.passed += (after - next) as u64;
                return Ok(after);
            }
        }
        let page = conversation.lock().log.page(next, 100);
        let after = page.last().map_or(end, |(last, _)| last + 1);
        for (_, frame) in page.iter().take_while(|(seq, _)| *seq < end) {
            self.durable(frame, subscriber).await?;
        }
        Ok(after)
    }

    /// Queues a `durable` frame, with the active faults.
    async fn durable(&mut self, frame: &Frame, subscriber: &Subscriber) -> Told {
        if !frame.fits() {
            return Err(too_large());
        }
        self.event(frame.whole(), subscriber).await
    }

    /// Queues an event without an envelope, for the legacy socket and the command socket.
    async fn bare(&mut self, event: &[u8], subscriber: &Subscriber) -> Told {
        self.event(&wire::text(event), subscriber).await
    }

    async fn event(&mut self, frame: &Bytes, subscriber: &Subscriber) -> Told {
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

    async fn legacy(
        &mut self,
        conversation: &Arc<Conversation>,
        all: bool,
        since: Option<String>,
    ) -> Told {
        let Listening {
            subscriber,
            mut items,
            _place,
        } = Listening::new(conversation).ok_or_else(too_many)?;
        let mut batch = Vec::new();
        let mut next = 0;
        let mut replaying = all || since.is_some();
        self.deaf = true;
        loop {
            // Replayed and new events alternate, as on the agent server. An event may be sent twice
            // and out of order.
            match items.try_recv() {
                Ok(item) => batch.push(item),
                Err(_) if replaying && !self.deaf => {}
                Err(_) => {
                    self.wait(
                        Some(conversation),
                        &subscriber,
                        &mut items,
                        &mut batch,
                        false,
                    )
                    .await?;
                }
            }
            for item in batch.drain(..) {
                // Events during a running tool precede the state.
                self.deaf &= begins(&item).is_none();
                match &item {
                    Item::Durable { frame, .. } => self.bare(&frame.event(), &subscriber).await?,
                    Item::Transient(raw) | Item::Snapshot { raw, .. } => self.writer.text(&[raw]),
                    Item::Progress(raw) => {
                        if let Some(delta) = self.delta(raw) {
                            self.writer.text(&[delta.to_string().as_bytes()]);
                        }
                    }
                }
                subscriber.took(&item);
            }
            if replaying && !self.deaf {
                let page = conversation.lock().page(next, 100);
                for (seq, event) in &page {
                    next = seq + 1;
                    if since
                        .as_ref()
                        .is_none_or(|since| timestamp(event) >= since.as_str())
                    {
                        self.bare(event, &subscriber).await?;
                    }
                }
                replaying = !page.is_empty();
            }
            self.flush(&subscriber).await?;
        }
    }

    /// Converts a piece of a streamed answer to an event for the legacy socket.
    fn delta(&self, progress: &Bytes) -> Option<Value> {
        let frame: Value = serde_json::from_slice(progress).ok()?;
        (frame["type"] == "delta").then(|| {
            json!({
                "kind": "StreamingDeltaEvent",
                "id": self.world.clock.id(),
                "timestamp": self.world.clock.local(),
                "source": "agent",
                "content": frame["content"],
            })
        })
    }

    async fn bash(&mut self, all: bool) -> Told {
        let Some((before, subscriber, mut items)) = self.world.bash.subscribe() else {
            let reason = "Too many bash event connections".to_owned();
            return Err(Over::Close(1013, reason));
        };
        if all {
            for raw in before {
                self.bare(&raw, &subscriber).await?;
            }
            self.flush(&subscriber).await?;
        }
        let mut batch = Vec::new();
        loop {
            self.wait(None, &subscriber, &mut items, &mut batch, false)
                .await?;
            for item in batch.drain(..) {
                if let Item::Durable { frame, .. } = &item {
                    self.bare(&frame.event(), &subscriber).await?;
                }
                subscriber.took(&item);
            }
            self.flush(&subscriber).await?;
        }
    }

    /// Waits for items to send. Handles pings, messages and closing in the meantime.
    async fn wait(
        &mut self,
        conversation: Option<&Arc<Conversation>>,
        subscriber: &Arc<Subscriber>,
        items: &mut mpsc::UnboundedReceiver<Item>,
        batch: &mut Vec<Item>,
        envelopes: bool,
    ) -> Told {
        loop {
            self.world.thawed().await;
            while !self.deaf
                && let Some(text) = self.unheard.pop_front()
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
                    Some(Inbound::Binary) => {}
                    Some(Inbound::TooLarge) => return Err(Over::Close(1009, String::new())),
                    Some(Inbound::Text(text)) if self.deaf => self.unheard.push_back(text),
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
            if let Err((code, detail)) = bash::receive(&self.world, text) {
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
        match events::said(text) {
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
    async fn flush(&mut self, subscriber: &Subscriber) -> Told {
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

fn ending(subscriber: &Subscriber) -> Over {
    let ending = super::world::lock(&subscriber.ending).clone();
    match ending {
        Some(Ending::Close(code, reason)) => Over::Close(code, reason),
        _ => Over::Gone,
    }
}

fn too_large() -> Over {
    Over::Close(1013, "frame_too_large".to_owned())
}

fn too_many() -> Over {
    let reason = "Too many connections for this conversation".to_owned();
    Over::Close(1013, reason)
}

fn timestamp(raw: &Bytes) -> &str {
    #[derive(serde::Deserialize)]
    struct Header<'a> {
        timestamp: &'a str,
    }
    serde_json::from_slice::<Header<'_>>(raw).map_or("", |header| header.timestamp)
}
