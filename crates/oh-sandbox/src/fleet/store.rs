//! Starts, gives out, takes back and stops the servers of a fleet.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use oh_transport::{Backoff, Client, Liveness};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tracing::{Instrument as _, debug, info_span, warn};

use super::{
    failure::StartError,
    observe::{FleetEvent, FleetObserver},
    provider::{FleetServer, Provider},
    rooms::Rooms,
    settings::Settings,
    stats::FleetStats,
};
use crate::{Error, ErrorKind, Result};

type Answer = oneshot::Sender<Result<Place>>;

/// State shared by the handles of a fleet, its leases and its tasks.
pub(super) struct Store {
    pub(super) settings: Settings,
    provider: Box<dyn Provider>,
    observers: Vec<Box<dyn FleetObserver>>,
    counts: Mutex<FleetStats>,
    inner: Mutex<Inner>,
    /// Changes whenever a server or a lease does.
    changed: watch::Sender<()>,
    /// Held while the provider looks for a server by its name.
    finding: tokio::sync::Mutex<()>,
    runtime: Handle,
}

struct Inner {
    rooms: Rooms<Running, Answer>,
    /// Starts in progress, and delays before the next ones.
    tasks: JoinSet<()>,
    closed: bool,
    /// Whether no server is started for a while, because the last starts failed.
    paused: bool,
}

struct Running {
    server: Box<dyn FleetServer>,
    /// The task that waits for the end of the server.
    watch: Option<Watch>,
}

/// A task that ends when this is dropped.
struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A start in progress. Counted until this is dropped.
struct Starting(Option<Arc<Store>>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(store) = self.0.take() {
            store.lock().rooms.starting -= 1;
            store.pump();
        }
    }
}

/// A stop in progress. Counted until this is dropped, also if the runtime ends.
struct Stopping {
    store: Arc<Store>,
    name: String,
}

impl Drop for Stopping {
    fn drop(&mut self) {
        self.store.lock().rooms.stopping -= 1;
        let server = self.name.as_str();
        self.store.emit(&FleetEvent::Stopped { server });
        self.store.pump();
    }
}

/// A request in the queue. Removed when this is dropped.
struct Waiting {
    store: Arc<Store>,
    id: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.store.lock().rooms.forget(self.id);
    }
}

/// A place on a server. Returned when this is dropped.
pub(super) struct Place {
    store: Arc<Store>,
    room: u64,
    pub(super) client: Client,
    pub(super) directory: String,
    pub(super) name: String,
    pub(super) reused: bool,
    since: Instant,
}

impl Store {
    /// Creates a store, and starts its spares.
    pub(super) fn start(
        settings: Settings,
        provider: Box<dyn Provider>,
        observers: Vec<Box<dyn FleetObserver>>,
    ) -> Arc<Self> {
        let inner = Inner {
            rooms: Rooms::new(),
            tasks: JoinSet::new(),
            closed: false,
            paused: false,
        };
        let store = Arc::new(Self {
            settings,
            provider,
            observers,
            counts: Mutex::default(),
            inner: Mutex::new(inner),
            changed: watch::Sender::new(()),
            finding: tokio::sync::Mutex::new(()),
            runtime: Handle::current(),
        });
        store.pump();
        store
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> MutexGuard<'_, FleetStats> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn emit(&self, event: &FleetEvent<'_>) {
        debug!(?event, "fleet");
        self.counts().count(event);
        for observer in &self.observers {
            observer.on_event(event);
        }
    }

    pub(super) fn stats(&self) -> FleetStats {
        let counts = self.counts().clone();
        let inner = self.lock();
        let rooms = &inner.rooms;
        FleetStats {
            servers: rooms.len(),
            idle: rooms.idle(&self.settings),
            starting: rooms.starting,
            stopping: rooms.stopping,
            leased: rooms.leases(),
            waiting: rooms.waiting(),
            ..counts
        }
    }

    /// Does everything that is due: serves requests, stops servers, starts others.
    fn pump(self: &Arc<Self>) {
        let (given, stops) = {
            let mut inner = self.lock();
            let given = inner.rooms.give(&self.settings);
            let given: Vec<_> = given
                .into_iter()
                .filter_map(|(answer, room, reused)| {
                    let place = self.place(&mut inner, room, reused)?;
                    Some((answer, place))
                })
                .collect();
            let stops = inner.rooms.take_ended(false);
            while inner.tasks.try_join_next().is_some() {}
            if !inner.closed && !inner.paused {
                for _ in 0..inner.rooms.starts(&self.settings) {
                    inner.rooms.starting += 1;
                    let span = info_span!("fleet.start");
                    let starting = self.clone().start_one().instrument(span);
                    inner.tasks.spawn_on(starting, &self.runtime);
                }
            }
            (given, stops)
        };
        for (name, server) in stops {
            self.stop(name, server);
        }
        for (answer, place) in given {
            // The place of a request that was dropped is returned.
            let _returned = answer.send(Ok(place));
        }
        self.changed.send_replace(());
    }

    fn place(self: &Arc<Self>, inner: &mut Inner, room: u64, reused: bool) -> Option<Place> {
        let server = &inner.rooms.server(room)?.server;
        let directory = server.working_dir();
        let directory = match self.settings.separate {
            true => {
                let unique = oh_protocol::ConversationId::random();
                format!("{}/lease-{unique}", directory.trim_end_matches('/'))
            }
            false => directory.to_owned(),
        };
        Some(Place {
            store: self.clone(),
            room,
            client: server.client().clone(),
            directory,
            name: server.name(),
            reused,
            since: Instant::now(),
        })
    }

    /// Starts a server, with retries.
    async fn start_one(self: Arc<Self>) {
        let mut counted = Starting(Some(self.clone()));
        let (first, longest) = self.settings.backoff;
        let mut backoff = Backoff::new(first, longest);
        let mut attempt = 1;
        loop {
            let begun = Instant::now();
            let error = match self.provider.start().await {
                Ok(server) => {
                    counted.0 = None;
                    self.add(server, begun.elapsed(), true);
                    return;
                }
                Err(error) => error,
            };
            let again = error.is_retried() && attempt < self.settings.attempts;
            let retry = again.then(|| backoff.next_delay());
            warn!(%error, attempt, ?retry, "a server of the fleet could not be started");
            let kind = error.kind();
            self.emit(&FleetEvent::StartFailed {
                kind,
                attempt,
                retry,
            });
            match retry {
                Some(delay) => sleep(delay).await,
                None => {
                    counted.0 = None;
                    return self.give_up(&error);
                }
            }
            attempt += 1;
        }
    }

    /// Adds a server that is ready. `started`: whether a start of this fleet was counted for it.
    fn add(self: &Arc<Self>, server: Box<dyn FleetServer>, took: Duration, started: bool) {
        let name = server.name();
        let client = server.client().clone();
        self.emit(&FleetEvent::Started {
            server: &name,
            took,
        });
        let room = {
            let mut inner = self.lock();
            inner.rooms.starting -= usize::from(started);
            let running = Running {
                server,
                watch: None,
            };
            match inner.closed {
                true => {
                    inner.rooms.stopping += 1;
                    Err(running)
                }
                false => Ok(inner.rooms.add(running, name.clone())),
            }
        };
        match room {
            Err(running) => self.stop(name, running),
            Ok(room) => {
                let store = self.clone();
                let watching = self.runtime.spawn(async move {
                    let reason = client.server_gone().await;
                    store.retire(room, true, &reason);
                });
                let mut inner = self.lock();
                let most = inner.rooms.len();
                match inner.rooms.server(room) {
                    Some(running) => running.watch = Some(Watch(watching.abort_handle())),
                    None => watching.abort(),
                }
                drop(inner);
                let mut counts = self.counts();
                counts.most_servers = counts.most_servers.max(most);
            }
        }
        self.pump();
    }

    /// Ends a start that has failed. Without a server, no request can be served.
    fn give_up(self: &Arc<Self>, error: &StartError) {
        let failed = {
            let mut inner = self.lock();
            inner.rooms.starting -= 1;
            inner.paused = true;
            let (store, pause) = (self.clone(), self.settings.backoff.1);
            let resuming = async move {
                sleep(pause).await;
                store.lock().paused = false;
                store.pump();
            };
            inner.tasks.spawn_on(resuming, &self.runtime);
            match inner.rooms.has_any() || inner.rooms.starting > 0 {
                true => Vec::new(),
                false => inner.rooms.fail(),
            }
        };
        for answer in failed {
            let _unread = answer.send(Err(error.error().clone()));
        }
        self.pump();
    }

    fn stop(self: &Arc<Self>, name: String, running: Running) {
        let (store, grace) = (self.clone(), self.settings.grace);
        let counted = Stopping { store, name };
        let span = info_span!("fleet.stop", server = %counted.name);
        let stopping = async move {
            if let Err(error) = running.server.stop(grace).await {
                let server = counted.name.as_str();
                warn!(%error, server, "a server of the fleet did not stop as it should");
            }
            drop(counted);
        };
        self.runtime.spawn(stopping.instrument(span));
    }

    /// Gives no more leases of a server, and replaces it.
    pub(super) fn retire(self: &Arc<Self>, room: u64, dead: bool, reason: &str) {
        let retired = self.lock().rooms.retire(room, dead);
        if let Some(server) = retired {
            let server = server.as_str();
            self.emit(&FleetEvent::Discarded { server, reason });
        }
        self.pump();
    }

    /// Waits for a place.
    pub(super) async fn wait(self: &Arc<Self>, name: Option<String>) -> Result<Place> {
        let mut first = false;
        loop {
            let (answer, answered) = oneshot::channel();
            let _waiting = self.request(name.clone(), first, answer)?;
            self.pump();
            let place = answered.await.map_err(|_| closed())??;
            if place.responds().await {
                return Ok(place);
            }
            place.discard("the server does not respond");
            if name.is_some() {
                let what = format!("server {} does not respond", name.unwrap_or_default());
                return Err(Error::new(ErrorKind::NoServer, what));
            }
            first = true;
        }
    }

    fn request(
        self: &Arc<Self>,
        name: Option<String>,
        first: bool,
        answer: Answer,
    ) -> Result<Waiting> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(closed());
        }
        if !inner.rooms.has_any() && inner.rooms.starting == 0 {
            inner.paused = false;
        }
        let id = inner.rooms.request(name, first, answer);
        let store = self.clone();
        Ok(Waiting { store, id })
    }

    /// Finds the server with a name, if there is one. Requests for it can then be served.
    pub(super) async fn find(self: &Arc<Self>, name: &str) -> Result<bool> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            {
                let _one = self.finding.lock().await;
                if self.lock().rooms.has(name) {
                    return Ok(true);
                }
                let starting = self.lock().rooms.starting > 0;
                let begun = Instant::now();
                let found = self.provider.find(name).await;
                if let Some(server) = found.map_err(|error| error.error().clone())? {
                    self.add(server, begun.elapsed(), false);
                    return Ok(true);
                }
                if !starting {
                    return Ok(false);
                }
            }
            // A start in progress may be that of the server.
            let _closed = changed.changed().await;
        }
    }

    /// Ends all requests and starts, and stops the servers without a lease.
    pub(super) fn close(self: &Arc<Self>) {
        self.end_requests();
        self.pump();
    }

    fn end_requests(&self) {
        let failed = {
            let mut inner = self.lock();
            inner.closed = true;
            inner.tasks.abort_all();
            inner.rooms.retire_all();
            inner.rooms.fail()
        };
        for answer in failed {
            let _unread = answer.send(Err(closed()));
        }
    }

    /// Waits until all leases are returned and all servers have ended. After `limit`, stops the
    /// servers that still have leases. Returns the number of those leases.
    pub(super) async fn drain(self: &Arc<Self>, limit: Duration) -> usize {
        let mut changed = self.changed.subscribe();
        let over = async {
            // Cannot fail: this store has the sender.
            let _over = changed.wait_for(|()| self.lock().rooms.is_over()).await;
        };
        if timeout(limit, over).await.is_ok() {
            return 0;
        }
        let (left, stops) = {
            let mut inner = self.lock();
            (inner.rooms.leases(), inner.rooms.take_ended(true))
        };
        for (name, server) in stops {
            self.stop(name, server);
        }
        let mut changed = self.changed.subscribe();
        let _stopped = changed
            .wait_for(|()| {
                let inner = self.lock();
                inner.rooms.stopping == 0 && inner.rooms.starting == 0
            })
            .await;
        left
    }

    /// Ends everything at once, also servers with leases.
    pub(super) fn end(&self) {
        self.end_requests();
        let stops = {
            let mut inner = self.lock();
            let stops = inner.rooms.take_ended(true);
            inner.rooms.stopping -= stops.len();
            stops
        };
        drop(stops);
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Conflict, "the fleet was shut down")
}

impl Place {
    /// Returns whether a server responds that nobody supervises. A supervisor reports an end.
    async fn responds(&self) -> bool {
        let unknown = *self.client.liveness().borrow() == Liveness::Unknown;
        !(unknown && self.reused) || self.client.is_alive().await
    }

    pub(super) fn discard(self, reason: &str) {
        self.store.retire(self.room, false, reason);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let store = &self.store;
        store.lock().rooms.release(self.room, &store.settings);
        store.emit(&FleetEvent::Returned {
            server: &self.name,
            held: self.since.elapsed(),
        });
        store.pump();
    }
}
