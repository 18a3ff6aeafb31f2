//! What goes wrong, when and how often. It decides; the fake server and the proxy carry it out.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::Chance;

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

    /// Only where the path holds this text.
    pub fn on(mut self, path: impl Into<String>) -> Self {
        self.on = Some(path.into());
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

    fn applies(&mut self, path: &str, passed: u64, chance: &mut Chance) -> bool {
        let here = self.on.as_ref().is_none_or(|on| path.contains(on));
        if !here || passed < self.after || self.times == Some(0) {
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

/// The faults in force.
pub(crate) struct Faults {
    inner: Mutex<Inner>,
    /// Saves the lock where there are none, which is where speed matters.
    of_events: AtomicUsize,
}

struct Inner {
    faults: Vec<Fault>,
    chance: Chance,
    requests: u64,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            inner: Mutex::new(Inner {
                faults: Vec::new(),
                chance: Chance::new(seed),
                requests: 0,
            }),
            of_events: AtomicUsize::new(0),
        }
    }

    pub(crate) fn add(&self, fault: Fault) {
        if matches!(fault.what, What::Event(_)) {
            self.of_events.fetch_add(1, Ordering::SeqCst);
        }
        self.lock().faults.push(fault);
    }

    pub(crate) fn clear(&self) {
        self.of_events.store(0, Ordering::SeqCst);
        self.lock().faults.clear();
    }

    /// All faults for a request, in the order they were given.
    pub(crate) fn of_request(&self, path: &str) -> Vec<AnswerFault> {
        let mut inner = self.lock();
        let Inner {
            faults,
            chance,
            requests,
        } = &mut *inner;
        let passed = *requests;
        *requests += 1;
        let mut hits = Vec::new();
        for fault in faults {
            if let What::Answer(what) = fault.what.clone()
                && fault.applies(path, passed, chance)
            {
                hits.push(what);
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
        for fault in faults {
            if let What::Event(what) = fault.what.clone()
                && fault.applies(path, passed, chance)
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

/// What a socket tells instead of an event: so many bytes that nobody can use.
pub(crate) fn oversized(bytes: usize) -> Vec<u8> {
    let (head, tail) = (br#"{"type":"oversized","padding":""#, br#""}"#);
    let mut payload = head.to_vec();
    payload.resize(bytes.max(head.len() + tail.len()) - tail.len(), b' ');
    payload.extend_from_slice(tail);
    payload
}
