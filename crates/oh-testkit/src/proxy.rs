//! A TCP proxy with configurable faults, for use in front of a real or a fake server. Forwards
//! bytes; faults of messages are implemented in `messages`.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Error, ErrorKind, Fault, Result,
    messages::{self, Traffic},
    seen::Seen,
};

/// The behaviour of one connection through a [`Proxy`]. Faults can be combined; the first one whose
/// condition is met takes effect. Bytes are counted from the start of the connection, separately
/// for each direction.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Link {
    down: Way,
    up: Way,
    reset: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Way {
    cut_after: Option<u64>,
    stall_after: Option<u64>,
    drip: Option<(usize, Duration)>,
}

impl Link {
    /// Creates a link without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Closes the connection after `bytes` from server to client, even in the middle of a frame.
    pub fn cut_after(mut self, bytes: u64) -> Self {
        self.down.cut_after = Some(bytes);
        self
    }

    /// Closes the connection after `bytes` from client to server.
    pub fn cut_after_sent(mut self, bytes: u64) -> Self {
        self.up.cut_after = Some(bytes);
        self
    }

    /// Stops forwarding to the client after `bytes` without closing the connection (half-open).
    pub fn stall_after(mut self, bytes: u64) -> Self {
        self.down.stall_after = Some(bytes);
        self
    }

    /// Stops forwarding to the server after `bytes` without closing the connection.
    pub fn stall_after_sent(mut self, bytes: u64) -> Self {
        self.up.stall_after = Some(bytes);
        self
    }

    /// Forwards at most `bytes` at a time to the client, with a pause after each piece.
    pub fn drip(mut self, bytes: usize, pause: Duration) -> Self {
        self.down.drip = Some((bytes.max(1), pause));
        self
    }

    /// Forwards at most `bytes` at a time to the server, with a pause after each piece.
    pub fn drip_sent(mut self, bytes: usize, pause: Duration) -> Self {
        self.up.drip = Some((bytes.max(1), pause));
        self
    }

    /// Cuts with a reset (RST) instead of an orderly end (FIN).
    pub fn reset(mut self) -> Self {
        self.reset = true;
        self
    }
}

/// The maximum number of buffered bytes.
const BUFFER: usize = 64 * 1024;

type Links = Box<dyn FnMut(u64) -> Link + Send>;

/// A TCP proxy on a free port of 127.0.0.1 in front of a server.
///
/// The [`Link`] of a connection sets the faults of its bytes. [`inject`](Self::inject) applies the
/// same [`Fault`]s as for the fake server to the requests, responses and events of a real one.
///
/// The proxy runs on the runtime it was started on. Dropping it closes the port and all
/// connections.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use oh_testkit::{Chance, Link, Proxy};
/// # let upstream = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let server = upstream.local_addr()?;
///
/// let proxy = Proxy::start(server).await?;
/// let mut chance = Chance::new(7);
/// proxy.links(move |_connection| Link::new().cut_after(chance.pick(100..=5000)));
/// // … connect the client to `proxy.url()` …
/// proxy.hold(); // The connections are now half-open.
/// proxy.release();
/// # let _ = proxy.url();
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    orders: mpsc::UnboundedSender<Order>,
    _running: AbortOnDropHandle<()>,
}

struct Shared {
    target: Mutex<SocketAddr>,
    links: Mutex<Plan>,
    held: watch::Sender<Held>,
    accepted: AtomicU64,
    open: AtomicUsize,
    traffic: Traffic,
    /// Whether new connections are parsed as HTTP, for faults or for the request log.
    reads: AtomicBool,
}

/// The connections that are not forwarded.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    all: bool,
    /// Connections with a smaller number are never forwarded again.
    before: u64,
}

impl Held {
    fn is_silent(self, number: u64) -> bool {
        number < self.before
    }

    fn waits(self, number: u64) -> bool {
        self.all || self.is_silent(number)
    }
}

struct Plan {
    next: VecDeque<Link>,
    rest: Links,
}

enum Order {
    Cut,
    Refuse(tokio::sync::oneshot::Sender<()>),
    Accept(tokio::sync::oneshot::Sender<std::io::Result<()>>),
}

impl Proxy {
    /// Starts a proxy in front of `target`.
    ///
    /// # Errors
    ///
    /// Returns an error if no port can be opened.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        Self::seeded(target, 0).await
    }

    /// Starts a proxy in front of `target`, with a seed for the random numbers of injected faults.
    ///
    /// # Errors
    ///
    /// Returns an error if no port can be opened.
    pub async fn seeded(target: SocketAddr, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .map_err(Error::bind)?;
        let address = listener.local_addr().map_err(Error::bind)?;
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            links: Mutex::new(Plan {
                next: VecDeque::new(),
                rest: Box::new(|_| Link::new()),
            }),
            held: watch::Sender::new(Held::default()),
            accepted: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            traffic: Traffic::new(seed),
            reads: AtomicBool::new(false),
        });
        let (orders, inbox) = mpsc::unbounded_channel();
        let running = tokio::spawn(run(listener, Arc::clone(&shared), inbox));
        Ok(Self {
            address,
            shared,
            orders,
            _running: AbortOnDropHandle::new(running),
        })
    }

    /// Returns the address of the proxy.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of the proxy: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Forwards later connections to a different server, for example after a restart on another
    /// port.
    pub fn retarget(&self, target: SocketAddr) {
        *lock(&self.shared.target) = target;
    }

    /// Sets the link of the next connection. Repeated calls are queued, one link per connection.
    pub fn next(&self, link: Link) {
        lock(&self.shared.links).next.push_back(link);
    }

    /// Sets the links of all connections that have no link from [`next`](Self::next). The closure
    /// gets the number of the connection, starting at 0.
    pub fn links(&self, links: impl FnMut(u64) -> Link + Send + 'static) {
        lock(&self.shared.links).rest = Box::new(links);
    }

    /// Injects a fault into requests, responses or events of new connections.
    ///
    /// New connections must be HTTP/1.1 without TLS, or WebSockets, which are then not compressed.
    /// An event is a text message with the `type` `durable` or without a `type`. The faults of the
    /// link are applied to the result.
    pub fn inject(&self, fault: Fault) {
        self.shared.traffic.faults.add(fault);
        self.shared.reads.store(true, Ordering::SeqCst);
    }

    /// Removes all injected faults. Requests that hang because of a fault continue.
    pub fn heal(&self) {
        self.shared.traffic.faults.clear();
    }

    /// Removes the faults with this [name](Fault::named). Requests that hang because of them
    /// continue.
    pub fn lift(&self, name: &str) {
        self.shared.traffic.faults.lift(name);
    }

    /// Records the requests of new connections. [`inject`](Self::inject) also starts recording. New
    /// connections must be HTTP/1.1 without TLS, or WebSockets, which are then not compressed.
    pub fn record(&self) {
        self.shared.reads.store(true, Ordering::SeqCst);
    }

    /// Returns the [recorded](Self::record) requests, oldest first. Corresponds to
    /// [`FakeServer::requests`](crate::FakeServer::requests) for a real server.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.traffic.seen.all()
    }

    /// Returns the recorded requests with this method and route, oldest first. In `route`, a part
    /// in braces matches any one segment of the path: `/api/conversations/{id}/run`.
    pub fn requests_to(&self, method: &str, route: &str) -> Vec<Seen> {
        self.shared.traffic.seen.such(method, route)
    }

    /// Returns the number of recorded requests by method and [route](Seen::route).
    pub fn request_counts(&self) -> BTreeMap<String, usize> {
        self.shared.traffic.seen.counts()
    }

    /// Clears the recorded requests.
    pub fn forget_requests(&self) {
        self.shared.traffic.seen.forget();
    }

    /// Stops forwarding on all current and future connections without closing any (half-open).
    pub fn hold(&self) {
        self.shared.held.send_modify(|held| held.all = true);
    }

    /// Continues to forward after [`hold`](Self::hold). Held data is delivered late.
    pub fn release(&self) {
        self.shared.held.send_modify(|held| held.all = false);
    }

    /// Stops forwarding on all open connections permanently, without closing any (half-open). New
    /// connections work.
    pub fn silence(&self) {
        let before = self.accepted();
        self.shared.held.send_modify(|held| held.before = before);
    }

    /// Closes all open connections now.
    pub fn cut(&self) {
        let _ = self.orders.send(Order::Cut);
    }

    /// Refuses new connections and closes the open ones.
    pub async fn refuse(&self) {
        let (done, refused) = tokio::sync::oneshot::channel();
        let _ = self.orders.send(Order::Refuse(done));
        let _ = refused.await;
    }

    /// Accepts connections again on the same port.
    ///
    /// # Errors
    ///
    /// Returns an error if another process uses the port.
    pub async fn accept(&self) -> Result<()> {
        let (done, accepted) = tokio::sync::oneshot::channel();
        let _ = self.orders.send(Order::Accept(done));
        match accepted.await {
            Ok(bound) => bound.map_err(Error::bind),
            Err(_) => Err(Error::plain(ErrorKind::NotFound, "the proxy has ended")),
        }
    }

    /// Returns the number of connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Returns the number of open connections.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("address", &self.address)
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let accepting = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Ok((client, _)) = accepting => {
                let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
                let link = {
                    let mut plan = lock(&shared.links);
                    match plan.next.pop_front() {
                        Some(link) => link,
                        None => (plan.rest)(number),
                    }
                };
                shared.open.fetch_add(1, Ordering::SeqCst);
                let open = Open(Arc::clone(&shared));
                connections.spawn(connection(client, number, link, open));
            }
            Some(order) = orders.recv() => match order {
                Order::Cut => connections.shutdown().await,
                Order::Refuse(done) => {
                    listener = None;
                    connections.shutdown().await;
                    let _ = done.send(());
                }
                Order::Accept(done) => {
                    let bound = match &listener {
                        Some(_) => Ok(()),
                        None => TcpListener::bind(address).await.map(|bound| {
                            listener = Some(bound);
                        }),
                    };
                    let _ = done.send(bound);
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Counts a connection as open until it is dropped.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connection(mut client: TcpStream, number: u64, link: Link, open: Open) {
    let target = *lock(&open.0.target);
    // If the server is down, the connection ends, as it would without the proxy.
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    if link.reset {
        let _ = client.set_zero_linger();
    }
    if open.0.reads.load(Ordering::SeqCst) {
        return reading(client, server, number, link, &open.0).await;
    }
    // Owned halves would shut the stream down in order when dropped, before a reset can be sent.
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let held = || (open.0.held.subscribe(), number);
    // A cut ends both directions; an orderly end of one direction leaves the other open, as in TCP.
    let _ = tokio::try_join!(
        pump(from_server, to_client, link.down, held()),
        pump(from_client, to_server, link.up, held()),
    );
}

/// Forwards a connection through the message parser. The link applies to the client's side.
async fn reading(
    mut client: TcpStream,
    server: TcpStream,
    number: u64,
    link: Link,
    shared: &Shared,
) {
    let held = || (shared.held.subscribe(), number);
    let (near, far) = tokio::io::duplex(BUFFER);
    let (from_client, to_client) = client.split();
    let (from_near, to_near) = tokio::io::split(near);
    let talking = AtomicBool::new(true);
    let talk = async {
        messages::converse(far, server, &shared.traffic).await;
        talking.store(false, Ordering::SeqCst);
        // Data sent before the end still has to be forwarded.
        std::future::pending::<()>().await;
    };
    let up = async {
        let ended = pump(from_client, to_near, link.up, held()).await;
        if ended.is_ok() || !talking.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = talk => {}
        () = up => {}
        _ = pump(from_near, to_client, link.down, held()) => {}
    }
}

struct Cut;

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    (mut held, number): (watch::Receiver<Held>, u64),
) -> Result<(), Cut> {
    let mut buffer = vec![0; BUFFER];
    let mut passed: u64 = 0;
    loop {
        if way.cut_after.is_some_and(|limit| passed >= limit) {
            return Err(Cut);
        }
        if way.stall_after.is_some_and(|limit| passed >= limit) {
            return std::future::pending().await;
        }
        if held.wait_for(|held| !held.waits(number)).await.is_err() {
            return Err(Cut);
        }
        let limits = [way.cut_after, way.stall_after];
        let left = limits
            .into_iter()
            .flatten()
            .map(|limit| usize::try_from(limit - passed).unwrap_or(usize::MAX));
        let room = left
            .chain(way.drip.map(|(bytes, _)| bytes))
            .fold(buffer.len(), usize::min);
        let read = tokio::select! {
            biased;
            changed = held.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return Err(Cut),
            },
            read = from.read(&mut buffer[..room]) => read,
        };
        match read {
            Ok(0) => {
                let _ = to.shutdown().await;
                return Ok(());
            }
            Ok(count) => {
                if to.write_all(&buffer[..count]).await.is_err() {
                    return Err(Cut);
                }
                passed += count as u64;
                if let Some((_, pause)) = way.drip {
                    tokio::time::sleep(pause).await;
                }
            }
            Err(_) => return Err(Cut),
        }
    }
}
