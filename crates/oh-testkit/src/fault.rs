//! What goes wrong, when and how often. It decides; the fake server and the proxy carry it out.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use tokio::sync::watch;

use crate::{Chance, seen::fits};

/// Something that a [`FakeServer`](crate::FakeServer) does wrong, or a [`Proxy`](crate::Proxy) before
/// a real one.
///
/// Give it with [`FakeServer::inject`](crate::FakeServer::inject) or
/// [`Proxy::inject`](crate::Proxy::inject); several compose. A fault of HTTP answers applies to
/// requests, a fault of sockets to events about to be sent. Faults of bytes rather than messages
/// are a [`Link`](crate::Link)'s.
///
/// ```
/// use oh_testkit::Fault;
///
/// // The next three runs are refused, politely.
/// let busy = Fault::status(503).retry_after(1).on("/run").times(3);
/// // Every socket loses its connection after about twenty events.
/// let flaky = Fault::cut().one_in(20);
/// # let _ = (busy, flaky);
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Fault {
    what: What,
    name: Option<String>,
    method: Option<String>,
    on: Option<String>,
    times: Option<u64>,
    after: u64,
    one_in: u64,
}

#[derive(Debug, Clone)]
enum What {
    Answer(AnswerFault),
    Event(EventFault),
}

#[derive(Debug, Clone)]
pub(crate) enum AnswerFault {
    Status {
        status: u16,
        retry_after: Option<u64>,
        html: bool,
    },
    WrongLength,
    /// The request is carried out, its answer is lost.
    Lost,
    Delay(Duration),
    /// Nothing is done before the fault is lifted.
    Hang,
    /// The request is carried out, its answer waits until the fault is lifted.
    Hold,
    Upgrade(UpgradeRefusal),
}

/// How something between client and server refuses to open a WebSocket, for
/// [`Fault::refuse_upgrade`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpgradeRefusal {
    /// An answer with this status: an HTML page with 200, nothing with another one.
    Status(u16),
    /// A `101 Switching Protocols` without `Sec-WebSocket-Accept`, and then the end of the
    /// connection.
    NoAcceptKey,
    /// The end of the connection, without an answer.
    Close,
}

#[derive(Debug, Clone)]
pub(crate) enum EventFault {
    Cut,
    Tear,
    Stall,
    Close(u16, String),
    Twice,
    Leave,
    Pause(Duration),
    Oversized(usize),
    Swap,
}

impl Fault {
    /// Answers with this status, without doing anything. On a socket's path it refuses the
    /// handshake.
    pub fn status(status: u16) -> Self {
        Self::new(What::Answer(AnswerFault::Status {
            status,
            retry_after: None,
            html: false,
        }))
    }

    /// Answers with this status and an HTML page, as a proxy in between would.
    pub fn html(status: u16) -> Self {
        Self::new(What::Answer(AnswerFault::Status {
            status,
            retry_after: None,
            html: true,
        }))
    }

    /// Does what was asked, and announces more body than it sends.
    pub fn wrong_length() -> Self {
        Self::new(What::Answer(AnswerFault::WrongLength))
    }

    /// Does what was asked, and breaks the connection before the answer.
    pub fn lost_answer() -> Self {
        Self::new(What::Answer(AnswerFault::Lost))
    }

    /// Does what was asked, but late.
    pub fn delay(by: Duration) -> Self {
        Self::new(What::Answer(AnswerFault::Delay(by)))
    }

    /// Neither does what was asked nor answers until the fault is lifted ([`named`](Self::named))
    /// or healed; then the request goes on as if it had just come.
    pub fn hang() -> Self {
        Self::new(What::Answer(AnswerFault::Hang))
    }

    /// Does what was asked, and keeps the answer back until the fault is lifted
    /// ([`named`](Self::named)) or healed.
    pub fn hold_answer() -> Self {
        Self::new(What::Answer(AnswerFault::Hold))
    }

    /// Refuses to open sockets, and ends the connection after the refusal; other requests work,
    /// and so do sockets that are open.
    ///
    /// ```
    /// use oh_testkit::{Fault, fake::UpgradeRefusal};
    ///
    /// // A gateway that knows no WebSockets, until `lift("gateway")`.
    /// let gateway = Fault::refuse_upgrade(UpgradeRefusal::Status(426)).named("gateway");
    /// # let _ = gateway;
    /// ```
    pub fn refuse_upgrade(how: UpgradeRefusal) -> Self {
        Self::new(What::Answer(AnswerFault::Upgrade(how)))
    }

    /// Breaks a socket's connection before an event, without a goodbye.
    pub fn cut() -> Self {
        Self::new(What::Event(EventFault::Cut))
    }

    /// Sends half of an event's frame, then breaks the connection.
    pub fn tear() -> Self {
        Self::new(What::Event(EventFault::Tear))
    }

    /// Sends nothing any more, not even pings, and closes nothing: half-open.
    pub fn stall() -> Self {
        Self::new(What::Event(EventFault::Stall))
    }

    /// Closes a socket before an event, with a code and a reason.
    pub fn close(code: u16, reason: impl Into<String>) -> Self {
        Self::new(What::Event(EventFault::Close(code, reason.into())))
    }

    /// Sends an event twice.
    pub fn duplicate() -> Self {
        Self::new(What::Event(EventFault::Twice))
    }

    /// Leaves an event out, as the agent server does with one it cannot read.
    pub fn gap() -> Self {
        Self::new(What::Event(EventFault::Leave))
    }

    /// Sends an event after the one that follows it. It is lost with the connection if that ends
    /// before.
    pub fn swap() -> Self {
        Self::new(What::Event(EventFault::Swap))
    }

    /// Waits before each event.
    pub fn drip(pause: Duration) -> Self {
        Self::new(What::Event(EventFault::Pause(pause)))
    }

    /// Sends a frame of this many bytes before an event.
    pub fn oversized(bytes: usize) -> Self {
        Self::new(What::Event(EventFault::Oversized(bytes)))
    }

    fn new(what: What) -> Self {
        Self {
            what,
            name: None,
            method: None,
            on: None,
            times: None,
            after: 0,
            one_in: 1,
        }
    }

    /// Tells the client when to come back, with a [`status`](Self::status).
    pub fn retry_after(mut self, seconds: u64) -> Self {
        if let What::Answer(AnswerFault::Status { retry_after, .. }) = &mut self.what {
            *retry_after = Some(seconds);
        }
        self
    }

    /// Only where the path holds this text. With parts in braces it is a whole path in which they
    /// stand for any one part: `/api/conversations/{id}/events` is not about
    /// `/api/conversations/…/events/search`.
    pub fn on(mut self, path: impl Into<String>) -> Self {
        self.on = Some(path.into());
        self
    }

    /// Only for requests with this method, such as `POST`. Opening a socket is a `GET`.
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// Gives the fault a name, by which it can be lifted while others stay:
    /// [`FakeServer::lift`](crate::FakeServer::lift), [`Proxy::lift`](crate::Proxy::lift).
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// At most so often. Default: until [`heal`](crate::FakeServer::heal).
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Only once so many requests, or events of the connection, have passed.
    pub fn after(mut self, count: u64) -> Self {
        self.after = count;
        self
    }

    /// By chance, once in so many cases. The chance follows the server's seed.
    pub fn one_in(mut self, cases: u64) -> Self {
        self.one_in = cases.max(1);
        self
    }

    fn applies(&mut self, asked: Asked<'_>, passed: u64, chance: &mut Chance) -> bool {
        let path = asked.path;
        let here = self.on.as_ref().is_none_or(|on| match on.contains('{') {
            true => fits(on, path),
            false => path.contains(on),
        });
        let so = self
            .method
            .as_ref()
            .is_none_or(|method| asked.method.is_none_or(|asked| asked == method));
        let opens = matches!(self.what, What::Answer(AnswerFault::Upgrade(_)));
        if opens && !asked.upgrade || !so || !here || passed < self.after || self.times == Some(0) {
            return false;
        }
        if self.one_in > 1 && !chance.hit(1, self.one_in) {
            return false;
        }
        if let Some(times) = &mut self.times {
            *times -= 1;
        }
        true
    }
}

/// What a fault may be about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// `None` for an event.
    pub(crate) method: Option<&'a str>,
    pub(crate) path: &'a str,
    /// A socket is to be opened.
    pub(crate) upgrade: bool,
}

/// A fault that hit a request.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub(crate) what: AnswerFault,
    number: u64,
}

/// The faults in force.
pub(crate) struct Faults {
    inner: Mutex<Inner>,
    /// Tells who waits for a fault's end that faults have ended.
    lifted: watch::Sender<()>,
    /// Saves the lock where there are none, which is where speed matters.
    of_events: AtomicUsize,
}

struct Inner {
    /// By the number under which each was given.
    faults: Vec<(u64, Fault)>,
    given: u64,
    chance: Chance,
    requests: u64,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            inner: Mutex::new(Inner {
                faults: Vec::new(),
                given: 0,
                chance: Chance::new(seed),
                requests: 0,
            }),
            lifted: watch::Sender::new(()),
            of_events: AtomicUsize::new(0),
        }
    }

    pub(crate) fn add(&self, fault: Fault) {
        if matches!(fault.what, What::Event(_)) {
            self.of_events.fetch_add(1, Ordering::SeqCst);
        }
        let mut inner = self.lock();
        inner.given += 1;
        let number = inner.given;
        inner.faults.push((number, fault));
    }

    pub(crate) fn clear(&self) {
        self.keep(|_| false);
    }

    /// Ends the faults of a name.
    pub(crate) fn lift(&self, name: &str) {
        self.keep(|fault| fault.name.as_deref() != Some(name));
    }

    fn keep(&self, stays: impl Fn(&Fault) -> bool) {
        let mut inner = self.lock();
        inner.faults.retain(|(_, fault)| stays(fault));
        let left = inner.faults.iter();
        let left = left.filter(|(_, fault)| matches!(fault.what, What::Event(_)));
        self.of_events.store(left.count(), Ordering::SeqCst);
        drop(inner);
        self.lifted.send_replace(());
    }

    /// Waits until a fault is no longer in force.
    pub(crate) async fn until_lifted(&self, hit: &Hit) {
        let mut lifted = self.lifted.subscribe();
        let over = |_: &()| {
            let inner = self.lock();
            !inner.faults.iter().any(|(number, _)| *number == hit.number)
        };
        // The sender lives as long as this borrow.
        let _ = lifted.wait_for(over).await;
    }

    /// All faults for a request, in the order they were given.
    pub(crate) fn of_request(&self, asked: Asked<'_>) -> Vec<Hit> {
        let mut inner = self.lock();
        let Inner {
            faults,
            chance,
            requests,
            ..
        } = &mut *inner;
        let passed = *requests;
        *requests += 1;
        let mut hits = Vec::new();
        for (number, fault) in faults {
            if let What::Answer(what) = fault.what.clone()
                && fault.applies(asked, passed, chance)
            {
                let number = *number;
                hits.push(Hit { what, number });
            }
        }
        hits
    }

    /// Whether any fault may concern an event.
    pub(crate) fn concern_events(&self) -> bool {
        self.of_events.load(Ordering::SeqCst) > 0
    }

    /// All faults for an event, of which its connection has sent `passed` before.
    pub(crate) fn of_event(&self, path: &str, passed: u64) -> Vec<EventFault> {
        if !self.concern_events() {
            return Vec::new();
        }
        let mut inner = self.lock();
        let Inner { faults, chance, .. } = &mut *inner;
        let mut hits = Vec::new();
        let asked = Asked {
            method: None,
            path,
            upgrade: false,
        };
        for (_, fault) in faults {
            if let What::Event(what) = fault.what.clone()
                && fault.applies(asked, passed, chance)
            {
                hits.push(what);
            }
        }
        hits
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The status and body of a refusal to open a socket; `None` where there is no answer.
pub(crate) fn refused_upgrade(how: UpgradeRefusal) -> Option<(StatusCode, &'static str)> {
    let status = match how {
        UpgradeRefusal::Close => return None,
        UpgradeRefusal::NoAcceptKey => 101,
        // Only a proper handshake opens a socket.
        UpgradeRefusal::Status(101) => 502,
        UpgradeRefusal::Status(status) => status,
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let page = match status {
        StatusCode::OK => "<html>Welcome!</html>\n",
        _ => "",
    };
    Some((status, page))
}

/// What a socket tells instead of an event: so many bytes that nobody can use.
pub(crate) fn oversized(bytes: usize) -> Vec<u8> {
    let (head, tail) = (br#"{"type":"oversized","padding":""#, br#""}"#);
    let mut payload = head.to_vec();
    payload.resize(bytes.max(head.len() + tail.len()) - tail.len(), b' ');
    payload.extend_from_slice(tail);
    payload
}
