//! A TCP proxy that misbehaves on demand, for use before a real or a fake server. It forwards
//! bytes; what they mean is known where a fault is about a message, in `messages`.

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

/// How one connection through a [`Proxy`] behaves. Faults compose; the first whose time comes
/// acts. Bytes are counted from the connection's start, in the direction named.
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
    /// A link without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Closes the connection after `bytes` from server to client. Mid-frame is fine.
    pub fn cut_after(mut self, bytes: u64) -> Self {
        self.down.cut_after = Some(bytes);
        self
    }

    /// Closes the connection after `bytes` from client to server.
    pub fn cut_after_sent(mut self, bytes: u64) -> Self {
        self.up.cut_after = Some(bytes);
        self
    }

    /// Stops forwarding to the client after `bytes`, without closing: half-open.
    pub fn stall_after(mut self, bytes: u64) -> Self {
        self.down.stall_after = Some(bytes);
        self
    }

    /// Stops forwarding to the server after `bytes`, without closing.
    pub fn stall_after_sent(mut self, bytes: u64) -> Self {
        self.up.stall_after = Some(bytes);
        self
    }

    /// Forwards to the client at most `bytes` at a time, with a pause after each piece.
    pub fn drip(mut self, bytes: usize, pause: Duration) -> Self {
        self.down.drip = Some((bytes.max(1), pause));
        self
    }

    /// Forwards to the server at most `bytes` at a time, with a pause after each piece.
    pub fn drip_sent(mut self, bytes: usize, pause: Duration) -> Self {
        self.up.drip = Some((bytes.max(1), pause));
        self
    }

    /// Makes a cut a reset (RST) instead of an orderly end (FIN).
    pub fn reset(mut self) -> Self {
        self.reset = true;
        self
    }
}

/// How much is on its way at most.
const BUFFER: usize = 64 * 1024;

type Links = Box<dyn FnMut(u64) -> Link + Send>;

/// A TCP proxy on a free port of 127.0.0.1, in front of a server.
///
/// What goes wrong with the bytes of a connection says its [`Link`]; with
/// [`inject`](Self::inject) the same [`Fault`]s as the fake server's befall the requests, answers
/// and events of a real one.
///
/// It runs on the runtime it was started on. Dropping it closes port and connections.
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
/// // … point the client at `proxy.url()` …
/// proxy.hold(); // half-open from here on
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
    /// Connections are read as HTTP, because somebody wants to know what they say.
    reads: AtomicBool,
}

/// Which connections are not forwarded.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    all: bool,
    /// Those with a smaller number, for good.
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
    /// When no port can be opened.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        Self::seeded(target, 0).await
    }

    /// The same; the chance of injected faults follows the seed.
    ///
    /// # Errors
    ///
    /// When no port can be opened.
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

    /// Its own address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its own address as `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends later connections to another server, such as one that was started anew.
    pub fn retarget(&self, target: SocketAddr) {
        *lock(&self.shared.target) = target;
    }

    /// How the next connection that has no link assigned yet behaves. Calls queue up.
    pub fn next(&self, link: Link) {
        lock(&self.shared.links).next.push_back(link);
    }

    /// How each connection behaves that [`next`](Self::next) does not speak for, by its number
    /// from 0.
    pub fn links(&self, links: impl FnMut(u64) -> Link + Send + 'static) {
        lock(&self.shared.links).rest = Box::new(links);
    }

    /// Does something wrong with requests, answers or events from now on, on connections that are
    /// opened from now on: they have to be HTTP/1.1 without TLS, or WebSockets. These are not
    /// compressed then. An event is a text that says nothing of its `type`, or that it is
    /// `durable`. The link's own faults act on what is left.
    pub fn inject(&self, fault: Fault) {
        self.shared.traffic.faults.add(fault);
        self.shared.reads.store(true, Ordering::SeqCst);
    }

    /// Ends all injected faults. What hangs on one goes on.
    pub fn heal(&self) {
        self.shared.traffic.faults.clear();
    }

    /// Ends the faults of this [name](Fault::named). What hangs on one of them goes on.
    pub fn lift(&self, name: &str) {
        self.shared.traffic.faults.lift(name);
    }

    /// Records requests from now on, on connections that are opened from now on, as
    /// [`inject`](Self::inject) does too. The connections have to be HTTP/1.1 without TLS, or
    /// WebSockets, which are not compressed then.
    pub fn record(&self) {
        self.shared.reads.store(true, Ordering::SeqCst);
    }

    /// The requests that were [recorded](Self::record), oldest first, without bodies: the same as
    /// [`FakeServer::requests`](crate::FakeServer::requests), for a real server.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.traffic.seen.all()
    }

    /// Such requests, oldest first. In `route` a part in braces stands for any one part of a path:
    /// `/api/conversations/{id}/run`.
    pub fn requests_to(&self, method: &str, route: &str) -> Vec<Seen> {
        self.shared.traffic.seen.such(method, route)
    }

    /// How often each kind of request was recorded, by method and [route](Seen::route).
    pub fn request_counts(&self) -> BTreeMap<String, usize> {
        self.shared.traffic.seen.counts()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.shared.traffic.seen.forget();
    }

    /// Stops forwarding on all links, present and future, without closing any: half-open.
    pub fn hold(&self) {
        self.shared.held.send_modify(|held| held.all = true);
    }

    /// Forwards again after [`hold`](Self::hold); what waited arrives late.
    pub fn release(&self) {
        self.shared.held.send_modify(|held| held.all = false);
    }

    /// Stops forwarding on the connections that are open now, for good and without closing any:
    /// half-open. Connections that are opened from now on work.
    pub fn silence(&self) {
        let before = self.accepted();
        self.shared.held.send_modify(|held| held.before = before);
    }

    /// Closes every open connection now.
    pub fn cut(&self) {
        let _ = self.orders.send(Order::Cut);
    }

    /// Refuses connections from now on, and closes the open ones.
    pub async fn refuse(&self) {
        let (done, refused) = tokio::sync::oneshot::channel();
        let _ = self.orders.send(Order::Refuse(done));
        let _ = refused.await;
    }

    /// Accepts connections again, on the same port.
    ///
    /// # Errors
    ///
    /// When another process took the port meanwhile.
    pub async fn accept(&self) -> Result<()> {
        let (done, accepted) = tokio::sync::oneshot::channel();
        let _ = self.orders.send(Order::Accept(done));
        match accepted.await {
            Ok(bound) => bound.map_err(Error::bind),
            Err(_) => Err(Error::plain(ErrorKind::Missing, "the proxy has ended")),
        }
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open.
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

/// Counts a connection as open while it lives.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connection(mut client: TcpStream, number: u64, link: Link, open: Open) {
    let target = *lock(&open.0.target);
    // A server that is away looks the same through the proxy: the connection ends.
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
    // Borrowed halves: owned ones would end the stream in order when dropped, before a reset.
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let held = || (open.0.held.subscribe(), number);
    // A cut ends both ways; an orderly end of one leaves the other, as TCP does.
    let _ = tokio::try_join!(
        pump(from_server, to_client, link.down, held()),
        pump(from_client, to_server, link.up, held()),
    );
}

/// The same with somebody in between who reads the messages. The link is the client's.
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
        // What was said before is still on its way.
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
