//! Tests of logs with events that the server cannot read: the server numbers them, and omits them.
//!
//! Each reader gets each readable event once and in order, and a cursor is the server's `seq`.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use oh_conversation::{Conversation, Cursor, EventStream};
use oh_transport::Error;
use serde_json::json;
use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::mock::{Dial, Mock, full_state};

/// How sockets behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sockets {
    Work,
    /// The handshake succeeds, and nothing arrives until a tool ends.
    Late,
    /// A gateway rejects the handshake.
    Refused,
}

struct Shared {
    sockets: Sockets,
    /// Breaks the next replays after this many events.
    cuts: Vec<usize>,
    live: Vec<mpsc::UnboundedSender<u64>>,
}

/// A server whose log is damaged.
struct Scene {
    mock: Mock,
    shared: Arc<Mutex<Shared>>,
    serving: JoinHandle<()>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Scene {
    fn new(events: u64, lost: &[u64], sockets: Sockets) -> Self {
        let (mock, dials) = Mock::new();
        for _ in 0..events {
            mock.append("New", &json!({}));
        }
        mock.lose(lost.iter().copied());
        let shared = Arc::new(Mutex::new(Shared {
            sockets,
            cuts: Vec::new(),
            live: Vec::new(),
        }));
        let serving = tokio::spawn(serve(mock.clone(), shared.clone(), dials));
        let scene = Self {
            mock,
            shared,
            serving,
        };
        scene.set_sockets(sockets);
        scene
    }

    fn set_sockets(&self, sockets: Sockets) {
        self.shared.lock().unwrap().sockets = sockets;
        self.mock.stop_refusing();
        if sockets == Sockets::Refused {
            for _ in 0..500 {
                self.mock
                    .refuse(Error::from_status(http::StatusCode::FORBIDDEN));
            }
        }
    }

    /// Ends all connections, as a restart of the server does.
    fn restart(&self) {
        self.shared.lock().unwrap().live.clear();
    }

    fn append(&self) {
        let (seq, _) = self.mock.append("New", &json!({}));
        let live = self.shared.lock().unwrap().live.clone();
        for socket in live {
            let _ = socket.send(seq);
        }
    }

    /// Attaches as another process would: with its own client and link.
    async fn attach(&self, how: How) -> Conversation {
        let attach = Conversation::attach(&self.mock.client(), self.mock.id);
        let attach = match how {
            How::Whole => attach,
            How::Tail(events) => attach.tail(events),
            How::From(cursor) => attach.from(cursor),
        };
        let attached = timeout(Duration::from_secs(600), attach.into_future());
        attached.await.expect("attach ends").unwrap()
    }

    fn readable(&self, after: i64) -> Vec<u64> {
        let after = u64::try_from(after + 1).unwrap();
        let all = after..self.mock.len();
        all.filter(|seq| !self.mock.is_lost(*seq)).collect()
    }
}

#[derive(Debug, Clone, Copy)]
enum How {
    Whole,
    Tail(usize),
    From(Cursor),
}

async fn serve(mock: Mock, shared: Arc<Mutex<Shared>>, mut dials: UnboundedReceiver<Dial>) {
    while let Some(dial) = dials.recv().await {
        tokio::spawn(connection(mock.clone(), shared.clone(), dial));
    }
}

async fn connection(mock: Mock, shared: Arc<Mutex<Shared>>, mut dial: Dial) {
    while shared.lock().unwrap().sockets != Sockets::Work {
        tokio::select! {
            () = sleep(Duration::from_millis(100)) => {}
            ended = dial.peer.recv() => if ended.is_none() { return },
        }
    }
    let (sender, mut live) = mpsc::unbounded_channel();
    let cut = {
        let mut shared = shared.lock().unwrap();
        shared.live.push(sender);
        shared.cuts.pop()
    };
    let length = mock.len();
    if dial.target.starts_with("/sockets/events/") {
        legacy(mock, dial, live).await;
        return;
    }
    let _ = dial.sync(length.checked_sub(1)).await;
    let start = u64::try_from(dial.after() + 1).unwrap();
    let readable = (start..length).filter(|seq| !mock.is_lost(*seq));
    for (sent, seq) in readable.enumerate() {
        if cut == Some(sent) {
            return;
        }
        if dial.durable(seq, &mock.event(seq)).await.is_err() {
            return;
        }
    }
    let _ = dial.full_state("idle").await;
    loop {
        tokio::select! {
            ended = dial.peer.recv() => if ended.is_none() { return },
            seq = live.recv() => {
                let Some(seq) = seq else { return };
                if seq >= length && dial.durable(seq, &mock.event(seq)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Serves the legacy socket, which sends events without numbers.
async fn legacy(mock: Mock, mut dial: Dial, mut live: UnboundedReceiver<u64>) {
    let _ = dial.peer.text(full_state("idle").to_string()).await;
    loop {
        tokio::select! {
            ended = dial.peer.recv() => if ended.is_none() { return },
            seq = live.recv() => {
                let Some(seq) = seq else { return };
                let _ = dial.peer.text(mock.event(seq)).await;
            }
        }
    }
}

/// Reads the next event, and checks its number.
async fn next(events: &mut EventStream, what: &str) -> u64 {
    let next = timeout(Duration::from_secs(600), events.next());
    let event = next.await.unwrap_or_else(|_| panic!("{what}: no event"));
    let event = event
        .unwrap_or_else(|| panic!("{what}: the stream has ended"))
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let seq = event.id().parse().unwrap();
    assert_eq!(events.seq(), Some(seq), "{what}: the number of the event");
    assert_eq!(events.cursor(), Cursor::After(seq), "{what}");
    seq
}

/// Reads all of these events, each once and in order.
async fn read(events: &mut EventStream, expected: &[u64], what: &str) {
    for (at, expected) in expected.iter().enumerate() {
        let seq = next(events, what).await;
        assert_eq!(seq, *expected, "{what}: event {at} of the reader");
    }
}

/// Checks that no event follows.
async fn nothing_more(events: &mut EventStream, what: &str) {
    let more = timeout(Duration::from_secs(20), events.next()).await;
    if let Ok(more) = more {
        panic!("{what}: one more: {more:?}");
    }
}

fn damage(random: &mut fastrand::Rng, events: u64) -> Vec<u64> {
    let mut lost = Vec::new();
    for _ in 0..random.u8(0..4) {
        let start = match random.u8(0..4) {
            0 => 0,
            1 => events.saturating_sub(random.u64(1..4)),
            _ => random.u64(0..events),
        };
        let length = if random.bool() { 1 } else { random.u64(1..12) };
        lost.extend(start..(start + length).min(events));
    }
    lost.sort_unstable();
    lost.dedup();
    lost
}

fn cursor(random: &mut fastrand::Rng, events: u64) -> i64 {
    random.i64(-1..i64::try_from(events).unwrap())
}

fn after(seq: i64) -> Cursor {
    u64::try_from(seq).map_or(Cursor::Start, Cursor::After)
}

#[tokio::test(start_paused = true)]
async fn every_reader_of_a_damaged_log_gets_each_event_once_with_the_server_s_number() {
    let seed = std::env::var("OH_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = seed.map_or(0..400, |seed: u64| seed..seed + 1);
    let mut failed = Vec::new();
    for seed in seeds {
        // A panic names the seed with `OH_SEED`.
        if tokio::spawn(damaged(seed)).await.is_err() {
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "{} seeds fail: {failed:?}", failed.len());
}

async fn damaged(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let events = random.u64(1..60);
    let lost = damage(&mut random, events);
    let sockets = [Sockets::Work, Sockets::Work, Sockets::Late][random.usize(0..3)];
    let scene = Scene::new(events, &lost, sockets);
    for _ in 0..random.u8(0..3) {
        let cut = random.usize(0..20);
        scene.shared.lock().unwrap().cuts.push(cut);
    }
    let stored = cursor(&mut random, events);
    let how = match random.u8(0..5) {
        0 => How::Whole,
        1 => How::From(after(stored)),
        2 => How::Tail(1),
        _ => How::Tail(random.usize(1..40)),
    };
    let what = format!("OH_SEED={seed} {events} events, lost {lost:?}, {how:?}, {sockets:?}");
    let conversation = scene.attach(how).await;

    let from = cursor(&mut random, events);
    let mut all = conversation.subscribe(Cursor::Start);
    let mut some = conversation.subscribe(after(from));
    let mut again = conversation.subscribe(after(stored));
    let mut now = conversation.subscribe(Cursor::Now);
    // Late sockets become usable while the readers wait.
    let unlock = async {
        sleep(Duration::from_secs(30)).await;
        scene.set_sockets(Sockets::Work);
    };
    let (whole, later) = (scene.readable(-1), scene.readable(from));
    let rest = scene.readable(stored);
    let (whole_what, some_what) = (format!("{what}: start"), format!("{what}: after {from}"));
    let rest_what = format!("{what}: after {stored}");
    tokio::join!(
        read(&mut all, &whole, &whole_what),
        read(&mut some, &later, &some_what),
        read(&mut again, &rest, &rest_what),
        unlock
    );

    // What the handle lists has the same numbers.
    for (seq, event) in conversation.events().numbered() {
        assert_eq!(event.id(), seq.to_string(), "{what}: listed");
    }

    // Live events, some of them while the link is down, and damage that a restart shows.
    let mut expected = Vec::new();
    for _ in 0..random.u8(0..4) {
        if random.bool() {
            scene.restart();
        }
        for _ in 0..random.u8(0..5) {
            expected.push(scene.mock.len());
            scene.append();
        }
        if random.bool() {
            sleep(Duration::from_millis(random.u64(0..3_000))).await;
        }
    }
    read(&mut now, &expected, &format!("{what}: now")).await;
    read(&mut all, &expected, &format!("{what}: start, live")).await;
    read(&mut some, &expected, &format!("{what}: after, live")).await;

    // Another process continues where this one stopped.
    let known = scene.readable(-1);
    if let Some(last) = known.get(random.usize(0..known.len().max(1))) {
        let last = i64::try_from(*last).unwrap();
        let other = scene.attach(How::From(after(last))).await;
        let mut continued = other.subscribe(after(last));
        let what = format!("{what}: continued after {last}");
        read(&mut continued, &scene.readable(last), &what).await;
        nothing_more(&mut continued, &what).await;
    }
    nothing_more(&mut all, &what).await;
    nothing_more(&mut now, &what).await;
    nothing_more(&mut some, &what).await;
}

/// Without a socket nothing reports the numbers. The readers count the events that the server can
/// read, and still get each event once.
#[tokio::test(start_paused = true)]
async fn without_sockets_each_event_of_a_damaged_log_is_delivered_once_and_numbered_once_sockets_work()
 {
    let mut failed = Vec::new();
    for seed in 0..200 {
        if tokio::spawn(refused(seed)).await.is_err() {
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "{} seeds fail: {failed:?}", failed.len());
}

/// Reads these events by id only, each once and in order.
async fn read_ids(events: &mut EventStream, expected: &[u64], what: &str) {
    for expected in expected {
        let event = timeout(Duration::from_secs(600), events.next()).await;
        let event = event.unwrap_or_else(|_| panic!("{what}: no event"));
        assert_eq!(event.unwrap().unwrap().id(), expected.to_string(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stored_cursor_skips_nothing_while_sockets_are_refused() {
    let lost = [1, 3, 4];
    for works_again in [true, false] {
        let scene = Scene::new(20, &lost, Sockets::Refused);
        let conversation = scene.attach(How::Whole).await;
        let mut events = conversation.subscribe(Cursor::After(10));
        let what = format!("sockets work again: {works_again}");
        if works_again {
            let mends = async {
                sleep(Duration::from_secs(5)).await;
                scene.set_sockets(Sockets::Work);
            };
            let expected = scene.readable(10);
            tokio::join!(mends, read(&mut events, &expected, &what));
        } else {
            let all = scene.readable(-1);
            let half = all.iter().position(|seq| *seq == 11).unwrap();
            read_again(&mut events, &all, half, lost.len(), &what).await;
        }
    }
}

/// Reads the events from `half` on. While sockets are refused, the reader cannot know the server's
/// numbers, so it may start as many events earlier as the server cannot read.
async fn read_again(events: &mut EventStream, all: &[u64], half: usize, lost: usize, what: &str) {
    if all.is_empty() {
        return;
    }
    let first = timeout(Duration::from_secs(600), events.next()).await;
    let first = first.unwrap_or_else(|_| panic!("{what}: no event"));
    let first: u64 = first.unwrap().unwrap().id().parse().unwrap();
    let at = all.iter().position(|id| *id == first).unwrap();
    assert!(at <= half && half - at <= lost, "{what}: starts at {at}");
    read_ids(events, &all[at + 1..], what).await;
}

async fn refused(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let events = random.u64(1..60);
    let lost = damage(&mut random, events);
    let scene = Scene::new(events, &lost, Sockets::Refused);
    let old = random.bool();
    if old {
        // Without the session socket, no server reports numbers.
        scene.mock.set_version("1.43.0");
        scene.set_sockets(Sockets::Work);
    }
    let how = match random.bool() {
        true => How::Whole,
        false => How::Tail(random.usize(1..40)),
    };
    let what = format!("seed {seed}: {events} events, lost {lost:?}, {how:?}, old: {old}");
    let conversation = scene.attach(how).await;
    let mut all = conversation.subscribe(Cursor::Start);
    let mut now = conversation.subscribe(Cursor::Now);
    // The server is asked for its newest event.
    sleep(Duration::from_secs(1)).await;
    let mut expected = scene.readable(-1);
    let half = expected.len() / 2;
    read_ids(&mut all, &expected[..half], &what).await;
    // A reader continues where another one stopped.
    let mut other = conversation.subscribe(all.cursor());
    read_again(&mut other, &expected, half, lost.len(), &what).await;
    for _ in 0..3 {
        scene.append();
    }
    read_ids(&mut all, &expected[half..], &what).await;
    expected = scene.readable(i64::try_from(events).unwrap() - 1);
    for reader in [&mut all, &mut now, &mut other] {
        read_ids(reader, &expected, &what).await;
    }
    if !old {
        scene.set_sockets(Sockets::Work);
        sleep(Duration::from_secs(120)).await;
        assert_eq!(
            conversation.link().status(),
            oh_conversation::LinkStatus::Live,
            "{what}"
        );
        for (seq, event) in conversation.events().numbered() {
            assert_eq!(event.id(), seq.to_string(), "{what}: listed");
        }
        scene.append();
        for reader in [&mut all, &mut now, &mut other] {
            assert_eq!(next(reader, &what).await, scene.mock.len() - 1);
        }
        let whole = scene.readable(-1);
        read(&mut conversation.subscribe(Cursor::Start), &whole, &what).await;
    }
    for reader in [&mut all, &mut now, &mut other] {
        nothing_more(reader, &what).await;
    }
}

/// A window also drops its oldest events, and readers fetch them again.
#[tokio::test(start_paused = true)]
async fn a_window_of_a_damaged_log_that_drops_events_misses_and_repeats_nothing() {
    let lost: Vec<u64> = [(0..3), (700..950), (1_970..1_990), (2_999..3_000)]
        .into_iter()
        .flatten()
        .collect();
    let scene = Scene::new(3_000, &lost, Sockets::Work);
    let conversation = scene.attach(How::Tail(50)).await;
    for _ in 0..2_500 {
        scene.append();
        // The server's queue of a socket is limited.
        tokio::task::yield_now().await;
    }
    let mut last = conversation.subscribe(after(5_498));
    assert_eq!(next(&mut last, "the last").await, 5_499);
    let dropped = conversation.events().seq(0).unwrap();
    assert!(dropped > 3_500, "{dropped}");
    for start in [-1, 800, 1_980, 2_949, 3_100] {
        let mut events = conversation.subscribe(after(start));
        let what = format!("after {start}");
        read(&mut events, &scene.readable(start), &what).await;
        nothing_more(&mut events, &what).await;
    }
}
