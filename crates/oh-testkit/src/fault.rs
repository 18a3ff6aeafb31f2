//! Faults and the rules for when they apply. The fake server and the proxy execute them.

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

/// A fault of a [`FakeServer`](crate::FakeServer), or of a [`Proxy`](crate::Proxy) in front of a
/// real server.
///
/// Inject a fault with [`FakeServer::inject`](crate::FakeServer::inject) or
/// [`Proxy::inject`](crate::Proxy::inject). Faults can be combined. HTTP faults apply to requests;
/// socket faults apply to events before they are sent. For faults of bytes rather than messages,
/// use a [`Link`](crate::Link).
///
/// ```
/// use oh_testkit::Fault;
///
/// # use std::time::Duration;
/// // The next three runs are rejected, with `Retry-After`.
/// let busy = Fault::status(503).retry_after(Duration::from_secs(1)).on("/run").times(3);
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
    /// Executes the request but loses the response.
    Lost,
    /// Executes the request but responds with this status instead.
    Replaced(u16),
    Delay(Duration),
    /// Does not execute the request before the fault is lifted.
    Hang,
    /// Executes the request but holds the response until the fault is lifted.
    Hold,
    Upgrade(UpgradeRefusal),
}

/// How an intermediary refuses to open a WebSocket. Used by [`Fault::refuse_upgrade`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpgradeRefusal {
    /// A response with this status. The body is an HTML page for 200, and empty for other statuses.
    Status(u16),
    /// A `101 Switching Protocols` without `Sec-WebSocket-Accept`, followed by the end of the
    /// connection.
    NoAcceptKey,
    /// Closes the connection without a response.
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
    /// Responds with this status without executing the request. On a socket's path, rejects the
    /// handshake.
    pub fn status(status: u16) -> Self {
        Self::new(What::Answer(AnswerFault::Status {
            status,
            retry_after: None,
            html: false,
        }))
    }

    /// Responds with this status and an HTML page, like a proxy in between, without executing the
    /// request.
    pub fn html(status: u16) -> Self {
        Self::new(What::Answer(AnswerFault::Status {
            status,
            retry_after: None,
            html: true,
        }))
    }

    /// Executes the request but sends a body shorter than its content length.
    pub fn wrong_length() -> Self {
        Self::new(What::Answer(AnswerFault::WrongLength))
    }

    /// Executes the request but closes the connection before the response.
    pub fn lost_answer() -> Self {
        Self::new(What::Answer(AnswerFault::Lost))
    }

    /// Executes the request but responds with this status and an HTML page, like a gateway that
    /// gave up waiting for the server. The request log has the server's own status.
    ///
    /// ```
    /// use oh_testkit::Fault;
    ///
    /// // The server starts one run, and the client gets a 504 for it.
    /// let gateway = Fault::replaced_answer(504).on("/run").times(1);
    /// # let _ = gateway;
    /// ```
    pub fn replaced_answer(status: u16) -> Self {
        Self::new(What::Answer(AnswerFault::Replaced(status)))
    }

    /// Executes the request after a delay.
    pub fn delay(by: Duration) -> Self {
        Self::new(What::Answer(AnswerFault::Delay(by)))
    }

    /// Holds the request until the fault is lifted (see [`named`](Self::named)) or healed: the
    /// request is not executed and gets no response. It then continues normally.
    pub fn hang() -> Self {
        Self::new(What::Answer(AnswerFault::Hang))
    }

    /// Executes the request but holds the response until the fault is lifted (see
    /// [`named`](Self::named)) or healed.
    pub fn hold_answer() -> Self {
        Self::new(What::Answer(AnswerFault::Hold))
    }

    /// Refuses to open sockets and closes the connection after the refusal. Other requests and open
    /// sockets continue to work.
    ///
    /// ```
    /// use oh_testkit::{Fault, fake::UpgradeRefusal};
    ///
    /// // A gateway without support for WebSockets, until `lift("gateway")`.
    /// let gateway = Fault::refuse_upgrade(UpgradeRefusal::Status(426)).named("gateway");
    /// # let _ = gateway;
    /// ```
    pub fn refuse_upgrade(how: UpgradeRefusal) -> Self {
        Self::new(What::Answer(AnswerFault::Upgrade(how)))
    }

    /// Cuts a socket's connection before an event, without a close frame.
    pub fn cut() -> Self {
        Self::new(What::Event(EventFault::Cut))
    }

    /// Sends half of an event's frame, then cuts the connection.
    pub fn tear() -> Self {
        Self::new(What::Event(EventFault::Tear))
    }

    /// Stops sending anything, including pings, without closing the connection (half-open).
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

    /// Omits an event, as the agent server does with an event that it cannot decode.
    pub fn gap() -> Self {
        Self::new(What::Event(EventFault::Leave))
    }

    /// Sends an event after the one that follows it. If the connection ends before then, the event
    /// is lost.
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

    /// Adds a `Retry-After` header to a [`status`](Self::status) fault, rounded up to whole
    /// seconds.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        if let What::Answer(AnswerFault::Status { retry_after, .. }) = &mut self.what {
            *retry_after = Some(whole_seconds(wait));
        }
        self
    }

    /// Limits the fault to paths that contain this text.
    ///
    /// If the text has parts in braces, it must match the whole path, and each part in braces
    /// matches any one segment. For example, `/api/conversations/{id}/events` does not match
    /// `/api/conversations/…/events/search`.
    pub fn on(mut self, path: impl Into<String>) -> Self {
        self.on = Some(path.into());
        self
    }

    /// Limits the fault to requests with this method, such as `POST`. Opening a socket is a `GET`.
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// Names the fault, so that it can be lifted without lifting others. See
    /// [`FakeServer::lift`](crate::FakeServer::lift) and [`Proxy::lift`](crate::Proxy::lift).
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Applies the fault at most this many times. Default: until [`heal`](crate::FakeServer::heal).
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Applies the fault only after this many requests, or this many events of the connection, have
    /// passed.
    pub fn after(mut self, count: u64) -> Self {
        self.after = count;
        self
    }

    /// Applies the fault at random, once in this many cases on average. The random numbers depend
    /// on the server's seed.
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

/// The request or event that a fault may apply to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// `None` for an event.
    pub(crate) method: Option<&'a str>,
    pub(crate) path: &'a str,
    /// Whether the request opens a socket.
    pub(crate) upgrade: bool,
}

/// A fault that applies to a request.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub(crate) what: AnswerFault,
    number: u64,
}

/// The active faults.
pub(crate) struct Faults {
    inner: Mutex<Inner>,
    /// Notifies waiting requests when faults have been lifted.
    lifted: watch::Sender<()>,
    /// The number of socket faults. Avoids locking for each event if there are none.
    of_events: AtomicUsize,
}

struct Inner {
    /// Faults with their injection number.
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

    /// Lifts the faults with this name.
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

    /// Waits until a fault is no longer active.
    pub(crate) async fn until_lifted(&self, hit: &Hit) {
        let mut lifted = self.lifted.subscribe();
        let over = |_: &()| {
            let inner = self.lock();
            !inner.faults.iter().any(|(number, _)| *number == hit.number)
        };
        // Cannot fail: `self` keeps the sender alive.
        let _ = lifted.wait_for(over).await;
    }

    /// Returns all faults that apply to a request, in the order of injection.
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

    /// Returns whether there are any socket faults.
    pub(crate) fn concern_events(&self) -> bool {
        self.of_events.load(Ordering::SeqCst) > 0
    }

    /// Returns all faults that apply to an event. `passed` is the number of events that the
    /// connection has sent before.
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

/// Returns the status and body of a refused upgrade, or `None` if there is no response.
pub(crate) fn refused_upgrade(how: UpgradeRefusal) -> Option<(StatusCode, &'static str)> {
    let status = match how {
        UpgradeRefusal::Close => return None,
        UpgradeRefusal::NoAcceptKey => 101,
        // A correct 101 response would open the socket.
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

/// Returns the payload of an oversized frame, which clients ignore.
pub(crate) fn oversized(bytes: usize) -> Vec<u8> {
    let (head, tail) = (br#"{"type":"oversized","padding":""#, br#""}"#);
    let mut payload = head.to_vec();
    payload.resize(bytes.max(head.len() + tail.len()) - tail.len(), b' ');
    payload.extend_from_slice(tail);
    payload
}

/// Returns a time in the whole seconds of a `Retry-After` header, rounded up.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}
