//! The bash socket for all commands of a workspace and its clones. The hub dispatches each frame to
//! the command it belongs to, and never waits for a reader. It sends no REST requests: when frames
//! may be missing, it notifies the reader, and the reader sends the request.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use oh_protocol::calls::bash::{BashCommand, BashEvent, BashOutput};
use oh_transport::{Backoff, Client, Message, Socket};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep, timeout_at},
};
use tracing::debug;

use super::order::Order;

const TARGET: &str = "/sockets/bash-events";
/// How long the first command waits for the socket. Without a socket, the client polls for the
/// command's end.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a socket without commands stays open. The server accepts only fifty sockets.
const IDLE: Duration = Duration::from_secs(10);
/// Pieces buffered for a slow reader before it has to fetch them. A piece is a million characters.
const FEED: usize = 4;
/// Frames buffered for commands whose id is not known yet.
const EARLY: usize = 32;

/// The socket, opened when the first command needs it. Dropping the last handle closes it.
pub(crate) struct Hub {
    client: Client,
    shared: Arc<Shared>,
    task: Mutex<Option<AbortHandle>>,
}

struct Shared {
    state: Mutex<State>,
    link: watch::Sender<Link>,
    /// Counts the frames and the changes of the link, for readers of the whole history.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// The first dial is in progress, and commands wait for it.
    Dialling,
    Up,
    Down,
}

#[derive(Default)]
struct State {
    listeners: Vec<Listener>,
    /// Number of readers of the whole history.
    watching: usize,
    /// Identifies listeners.
    next: u64,
    /// Number of commands being started. The socket may report them before their id is known.
    starting: usize,
    /// Whether the task is running and will check for work before it ends.
    running: bool,
    early: VecDeque<Early>,
    /// Whether a frame was dropped from `early`.
    overflowed: bool,
}

struct Listener {
    token: u64,
    id: String,
    hints: mpsc::Sender<Notice>,
}

enum Early {
    Started(BashCommand),
    Output(BashOutput),
}

/// A notification for a command's reader.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The server has started to report this command, so no later frame can be missed.
    Trusted,
    /// A piece of output.
    Piece(Box<BashOutput>),
    /// Frames may be missing: only REST is complete.
    Doubtful,
    /// The socket is closed, and the server may be gone too.
    Gone,
}

/// The notifications about one command.
#[derive(Debug)]
pub(crate) struct Feed {
    id: String,
    token: u64,
    hints: mpsc::Receiver<Notice>,
    hub: Arc<Hub>,
}

impl Hub {
    pub(crate) fn new(client: &Client) -> Arc<Self> {
        let shared = Shared {
            state: Mutex::default(),
            link: watch::Sender::new(Link::Down),
            changes: watch::Sender::new(0),
        };
        Arc::new(Self {
            client: client.clone(),
            shared: Arc::new(shared),
            task: Mutex::new(None),
        })
    }

    /// Announces a command that is about to be started, and waits briefly for the socket. Without
    /// one the reader polls.
    pub(crate) async fn begin(self: &Arc<Self>) -> Starting {
        self.shared.lock().starting += 1;
        let starting = Starting {
            hub: Arc::clone(self),
        };
        self.wake();
        let mut link = self.shared.link.subscribe();
        let patience = Instant::now() + PATIENCE;
        let dialled = timeout_at(patience, link.wait_for(|link| *link != Link::Dialling));
        if dialled.await.is_err() {
            // The dial is stalled: no other command should wait for it.
            self.shared.link.send_if_modified(|link| {
                let waited_for = *link == Link::Dialling;
                if waited_for {
                    *link = Link::Down;
                }
                waited_for
            });
        }
        starting
    }

    /// Subscribes to a command that was started earlier.
    pub(crate) fn listen(self: &Arc<Self>, id: &str) -> Feed {
        let (sender, hints) = mpsc::channel(FEED);
        let mut state = self.shared.lock();
        let token = state.next;
        state.next += 1;
        state.listeners.push(Listener {
            token,
            id: id.to_owned(),
            hints: sender,
        });
        drop(state);
        self.wake();
        Feed {
            id: id.to_owned(),
            token,
            hints,
            hub: Arc::clone(self),
        }
    }

    /// Announces changes of the whole history until the result is dropped.
    pub(crate) fn watch(self: &Arc<Self>) -> Watching {
        self.shared.lock().watching += 1;
        self.wake();
        Watching {
            changes: self.shared.changes.subscribe(),
            hub: Arc::clone(self),
        }
    }

    /// Starts the task, unless it is running.
    fn wake(&self) {
        let mut state = self.shared.lock();
        if !std::mem::replace(&mut state.running, true) {
            drop(state);
            self.shared.link.send_replace(Link::Dialling);
            let run = run(self.client.clone(), Arc::clone(&self.shared));
            let task = tokio::spawn(run).abort_handle();
            *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task {
            task.abort();
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("link", &*self.shared.link.borrow())
            .finish_non_exhaustive()
    }
}

/// A command that has no id yet.
pub(crate) struct Starting {
    hub: Arc<Hub>,
}

impl Starting {
    /// Returns the notifications about the command, including those that arrived before its id was
    /// known.
    pub(crate) fn claim(self, id: &str) -> Feed {
        let feed = self.hub.listen(id);
        let mut state = self.hub.shared.lock();
        let early = std::mem::take(&mut state.early);
        for seen in early {
            match seen {
                Early::Started(command) if command.id == id => state.notify(id, || Notice::Trusted),
                Early::Output(piece) if piece.command_id == id => {
                    state.notify(id, || Notice::Piece(Box::new(piece.clone())));
                }
                other => state.early.push_back(other),
            }
        }
        // Sent last, because it overrides `Trusted`.
        if state.overflowed {
            state.notify(id, || Notice::Doubtful);
        }
        drop(state);
        feed
    }

    /// Returns the id of the command that this order started, if the socket has reported it. The
    /// order's directory is marked, so no other command matches.
    pub(super) fn reported(&self, order: &Order) -> Option<String> {
        let ours = |command: &BashCommand| {
            command.command == order.line
                && command.cwd.as_deref() == Some(&order.cwd)
                && command.timeout == i64::from(order.seconds)
        };
        let state = self.hub.shared.lock();
        state.early.iter().find_map(|early| match early {
            Early::Started(command) if ours(command) => Some(command.id.clone()),
            _ => None,
        })
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let mut state = self.hub.shared.lock();
        state.starting -= 1;
        if state.starting == 0 {
            state.early.clear();
            state.overflowed = false;
        }
    }
}

impl Feed {
    /// Waits for the next notification. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Notice {
        match self.hints.recv().await {
            Some(notice) => notice,
            None => {
                // The buffer overflowed, so the hub cut this reader off. Subscribe again, and use
                // REST.
                *self = self.hub.listen(&self.id);
                Notice::Gone
            }
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut state = self.hub.shared.lock();
        state.listeners.retain(|one| one.token != self.token);
    }
}

/// Announces that the history may have changed.
pub(crate) struct Watching {
    changes: watch::Receiver<u64>,
    hub: Arc<Hub>,
}

impl Watching {
    /// Returns whether the socket is open.
    pub(super) fn is_up(&self) -> bool {
        *self.hub.shared.link.borrow() == Link::Up
    }

    /// Ignores the announcements so far.
    pub(super) fn mark_seen(&mut self) {
        self.changes.mark_unchanged();
    }

    /// Waits for the next announcement. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        // The hub owns the sender.
        _ = self.changes.changed().await;
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.hub.shared.lock().watching -= 1;
    }
}

impl Shared {
    /// Announces that the history may have changed.
    fn announce(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Returns whether the task may end. If so, the task counts as ended, and the next command
    /// starts another.
    fn leave(&self) -> bool {
        let mut state = self.lock();
        state.running = !state.idle();
        !state.running
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Dispatches a frame. Frames of unknown commands are ignored.
    fn frame(&self, text: &[u8]) {
        self.announce();
        let Ok(event) = BashEvent::from_json(text) else {
            return;
        };
        let mut state = self.lock();
        match event {
            BashEvent::Command(command) => {
                state.notify(&command.id, || Notice::Trusted);
                state.keep(Early::Started(command));
            }
            BashEvent::Output(piece) => {
                state.notify(&piece.command_id, || Notice::Piece(Box::new(piece.clone())));
                state.keep(Early::Output(piece));
            }
            _ => {}
        }
    }

    /// Notifies all listeners that the socket is no longer reliable.
    fn doubt(&self) {
        let mut state = self.lock();
        state.overflowed = state.starting > 0;
        state
            .listeners
            .retain(|one| one.hints.try_send(Notice::Gone).is_ok());
    }
}

impl State {
    fn idle(&self) -> bool {
        self.starting == 0 && self.watching == 0 && self.listeners.is_empty()
    }

    /// Notifies the listeners of a command. A listener whose buffer is full is cut off, and uses
    /// REST.
    fn notify(&mut self, id: &str, notice: impl Fn() -> Notice) {
        self.listeners
            .retain(|one| one.id != id || one.hints.try_send(notice()).is_ok());
    }

    /// Buffers a frame that may belong to a command whose id is not known yet.
    fn keep(&mut self, early: Early) {
        if self.starting == 0 {
            return;
        }
        if self.early.len() == EARLY {
            self.early.pop_front();
            self.overflowed = true;
        }
        self.early.push_back(early);
    }
}

/// Marks the link as down, and notifies the listeners, when dropped.
struct Up<'a>(&'a Shared);

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.link.send_replace(Link::Down);
        self.0.announce();
        self.0.doubt();
    }
}

/// Lets the next command start another task when this one ends with its runtime.
struct Running<'a>(Option<&'a Shared>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.lock().running = false;
        }
    }
}

/// Keeps the socket open while there are commands.
async fn run(client: Client, shared: Arc<Shared>) {
    let fresh = || Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut backoff = fresh();
    let mut running = Running(Some(&shared));
    loop {
        match client.socket(TARGET).await {
            Ok(socket) => {
                let begun = Instant::now();
                serve(socket, &shared).await;
                // Keep the backoff when the server closes each socket at once, so as not to flood
                // it.
                if begun.elapsed() > Duration::from_secs(5) {
                    backoff = fresh();
                }
            }
            Err(error) => {
                debug!(%error, "cannot open the bash socket; commands are polled instead");
                shared.link.send_replace(Link::Down);
            }
        }
        if shared.leave() {
            running.0 = None;
            return;
        }
        sleep(backoff.next_delay()).await;
    }
}

/// Dispatches frames until the socket ends, or has been idle for a while.
async fn serve(mut socket: Socket, shared: &Shared) {
    shared.link.send_replace(Link::Up);
    shared.announce();
    let _up = Up(shared);
    let mut until = Instant::now() + IDLE;
    loop {
        match timeout_at(until, socket.recv()).await {
            Ok(Ok(Message::Text(text))) => shared.frame(&text),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                debug!(%error, "the bash socket ended");
                return;
            }
            Err(_) if shared.lock().idle() => {
                socket.close(1000, "").await;
                return;
            }
            Err(_) => until = Instant::now() + IDLE,
        }
    }
}
