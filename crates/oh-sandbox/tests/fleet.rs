//! Tests of fleets: order, bounds, retries, deaths, cancelled requests and drains.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use oh_sandbox::{
    AttachedServers, ErrorKind, Fleet, FleetBuilder, FleetEvent, FleetServer, Lease, Request,
    StartError, provider_fn,
};
use oh_testkit::FakeServer;
use oh_transport::{Client, Liveness, ServerSource as _, WorkspaceHandle};
use tokio::time::{Instant, sleep, timeout};

const LONG: Duration = Duration::from_secs(600);

/// Counts of a provider, and how its next starts fail.
#[derive(Clone, Default)]
struct Starts {
    failures: Arc<Mutex<VecDeque<StartError>>>,
    made: Arc<AtomicUsize>,
    living: Arc<AtomicUsize>,
    stopped: Arc<AtomicUsize>,
}

/// A server without a process. Its supervisor reports that it is ready.
#[derive(Debug)]
struct Plain {
    client: Client,
    number: usize,
    living: Arc<AtomicUsize>,
    stopped: Arc<AtomicUsize>,
}

impl Starts {
    fn fail(&self, errors: impl IntoIterator<Item = StartError>) {
        self.failures.lock().unwrap().extend(errors);
    }

    fn fleet(&self) -> FleetBuilder {
        let this = self.clone();
        Fleet::builder(provider_fn(move || {
            let this = this.clone();
            async move {
                sleep(Duration::from_secs(1)).await;
                if let Some(error) = this.failures.lock().unwrap().pop_front() {
                    return Err(error);
                }
                let client = Client::builder("http://127.0.0.1:1").build()?;
                client.set_liveness(Liveness::Ready);
                let number = this.made.fetch_add(1, Ordering::SeqCst);
                this.living.fetch_add(1, Ordering::SeqCst);
                let (living, stopped) = (this.living.clone(), this.stopped.clone());
                Ok(Plain {
                    client,
                    number,
                    living,
                    stopped,
                })
            }
        }))
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    fn living(&self) -> usize {
        self.living.load(Ordering::SeqCst)
    }
}

impl WorkspaceHandle for Plain {
    fn client(&self) -> &Client {
        &self.client
    }

    fn working_dir(&self) -> &str {
        "/project"
    }
}

impl FleetServer for Plain {
    fn name(&self) -> String {
        format!("plain-{}", self.number)
    }

    fn stop(self: Box<Self>, _grace: Duration) -> Request<()> {
        self.stopped.fetch_add(1, Ordering::SeqCst);
        Request::new(async move {
            sleep(Duration::from_secs(1)).await;
            drop(self);
            Ok(())
        })
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.living.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits until the condition holds. The clock of these tests is paused.
async fn until(condition: impl Fn() -> bool) {
    timeout(LONG, async {
        while !condition() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}

async fn acquire(fleet: &Fleet) -> Lease {
    timeout(LONG, fleet.acquire()).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_share_the_servers_in_order() {
    let starts = Starts::default();
    let fleet = starts.fleet().size(3).conversations_per_server(2).start();
    assert_eq!(fleet.places(), 6);
    let order = Arc::new(Mutex::new(Vec::new()));
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = Vec::new();
    for n in 0..1000 {
        let (fleet, order) = (fleet.clone(), order.clone());
        let (now, most) = (now.clone(), most.clone());
        tasks.push(tokio::spawn(async move {
            let lease = fleet.acquire().await.unwrap();
            order.lock().unwrap().push(n);
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_secs(1)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            drop(lease);
        }));
    }
    for task in tasks {
        timeout(LONG, task).await.unwrap().unwrap();
    }
    let expected: Vec<_> = (0..1000).collect();
    assert_eq!(*order.lock().unwrap(), expected);
    assert_eq!(most.load(Ordering::SeqCst), 6);
    let stats = fleet.stats();
    assert_eq!((stats.requests, stats.leases), (1000, 1000));
    assert_eq!((stats.starts, stats.most_servers, stats.leased), (3, 3, 0));
    assert_eq!(stats.reused, 997);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_three_times_is_retried_with_delays() {
    let starts = Starts::default();
    starts.fail((0..3).map(|_| StartError::transient("crashed")));
    let fleet = starts.fleet().start();
    let begun = Instant::now();
    let lease = acquire(&fleet).await;
    // Four starts of a second, and delays of about 0.5, 1 and 2 s.
    assert!(
        begun.elapsed() > Duration::from_millis(5_700),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(lease.name(), "plain-0");
    let stats = fleet.stats();
    assert_eq!((stats.failed_starts, stats.starts), (3, 1));
    assert_eq!(stats.failures["NoServer"], 3);
    let shown = stats.to_string();
    assert!(
        shown.contains("openhands_fleet_failures_total{kind=\"NoServer\"} 3"),
        "{shown}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_no_retry_can_cure_fails_all_requests_and_the_next_one_tries_again() {
    let starts = Starts::default();
    starts.fail((0..2).map(|_| StartError::permanent("no such image")));
    let fleet = starts.fleet().size(2).warm(1).start();
    let (one, two) = tokio::join!(fleet.acquire(), fleet.acquire());
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NoServer);
        assert!(error.to_string().contains("no such image"), "{error}");
    }
    assert_eq!(fleet.stats().failed_starts, 2);
    assert_eq!(acquire(&fleet).await.name(), "plain-0");
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_other_servers_if_one_cannot_be_started() {
    let starts = Starts::default();
    let fleet = starts.fleet().size(2).start();
    let first = acquire(&fleet).await;
    starts.fail([StartError::permanent("quota")]);
    let waiting = tokio::spawn(fleet.acquire());
    until(|| fleet.stats().failed_starts == 1).await;
    assert!(!waiting.is_finished());
    drop(first);
    let second = timeout(LONG, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(second.name(), "plain-0");
    assert!(second.is_reused());
}

#[tokio::test(start_paused = true)]
async fn a_dead_server_is_replaced() {
    let starts = Starts::default();
    let fleet = starts.fleet().size(1).start();
    let lease = acquire(&fleet).await;
    let client = lease.client().clone();
    client.set_liveness(Liveness::Gone("exit status 1".into()));
    let next = acquire(&fleet).await;
    assert_eq!((lease.name(), next.name()), ("plain-0", "plain-1"));
    drop((lease, next));
    until(|| starts.living() == 1).await;
    assert_eq!(fleet.stats().discarded, 1);
    // An idle server too.
    let client = acquire(&fleet).await.client().clone();
    client.set_liveness(Liveness::Gone("exit status 1".into()));
    until(|| starts.living() == 0).await;
    assert_eq!(acquire(&fleet).await.name(), "plain-2");
}

#[tokio::test(start_paused = true)]
async fn warm_servers_are_ready_before_they_are_requested_and_replaced_after_it() {
    let starts = Starts::default();
    let fleet = starts.fleet().size(4).warm(2).start();
    until(|| fleet.stats().idle == 2).await;
    let begun = Instant::now();
    let lease = acquire(&fleet).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    until(|| fleet.stats().idle == 2).await;
    lease.discard("dirty");
    until(|| starts.living() == 2).await;
    assert_eq!(starts.made(), 3);
}

#[tokio::test(start_paused = true)]
async fn each_lease_of_a_fresh_fleet_has_a_server_for_itself() {
    let starts = Starts::default();
    let fleet = starts.fleet().size(2).fresh().start();
    for n in 0..4 {
        let lease = acquire(&fleet).await;
        assert_eq!(lease.name(), format!("plain-{n}"));
        assert!(!lease.is_reused());
    }
    until(|| fleet.stats().stopped == 4).await;
    assert_eq!(starts.living(), 0);
    assert!(fleet.stats().most_servers <= 2);
}

#[tokio::test(start_paused = true)]
async fn separate_directories_differ() {
    let fleet = Starts::default().fleet().separate_directories().start();
    let one = acquire(&fleet).await.working_dir().to_owned();
    let two = acquire(&fleet).await.working_dir().to_owned();
    assert!(
        one.starts_with("/project/lease-") && one != two,
        "{one} {two}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_loses_no_place_and_no_server() {
    let starts = Starts::default();
    let fleet = starts.fleet().size(1).start();
    // Given up while the server starts, and while another lease is out.
    assert!(
        timeout(Duration::from_millis(100), fleet.acquire())
            .await
            .is_err()
    );
    let lease = acquire(&fleet).await;
    assert!(
        timeout(Duration::from_millis(100), fleet.acquire())
            .await
            .is_err()
    );
    // Given up after the place was assigned, before the future has seen it.
    let mut assigned = Box::pin(fleet.acquire());
    assert!(
        timeout(Duration::from_millis(100), &mut assigned)
            .await
            .is_err()
    );
    drop(lease);
    drop(assigned);
    let lease = acquire(&fleet).await;
    assert_eq!((lease.name(), starts.made()), ("plain-0", 1));
    let stats = fleet.stats();
    assert_eq!((stats.leased, stats.waiting, stats.abandoned), (1, 0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_request_fails_after_its_time_limit() {
    let limit = Duration::from_secs(30);
    let fleet = Starts::default()
        .fleet()
        .size(1)
        .wait_at_most(limit)
        .start();
    let _lease = acquire(&fleet).await;
    let begun = Instant::now();
    let error = fleet.acquire().await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed()), (ErrorKind::Timeout, limit));
    assert!(error.is_timeout());
    assert_eq!(fleet.stats().failures["Timeout"], 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_a_lease_and_fails_requests() {
    let starts = Starts::default();
    let fleet = starts.fleet().size(2).start();
    let (one, two) = (acquire(&fleet).await, acquire(&fleet).await);
    let waiting = tokio::spawn(fleet.acquire());
    until(|| fleet.stats().waiting == 1).await;
    let (ending, handle) = (fleet.clone(), fleet.clone());
    let ending = tokio::spawn(async move { ending.shutdown(LONG).await });
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        handle.acquire().await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    drop(two);
    until(|| starts.living() == 1).await;
    assert!(!ending.is_finished());
    drop(one);
    assert_eq!(timeout(LONG, ending).await.unwrap().unwrap(), 0);
    assert_eq!(starts.living(), 0);
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_servers_whose_leases_are_not_returned_in_time() {
    let starts = Starts::default();
    let fleet = starts.fleet().size(2).start();
    let lease = acquire(&fleet).await;
    let begun = Instant::now();
    assert_eq!(fleet.shutdown(Duration::from_secs(20)).await, 1);
    assert_eq!(begun.elapsed(), Duration::from_secs(21));
    assert_eq!(starts.living(), 0);
    drop(lease);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_fleet_ends_everything() {
    let starts = Starts::default();
    let fleet = starts.fleet().size(3).warm(2).start();
    let lease = acquire(&fleet).await;
    let begun = starts.made();
    drop(fleet);
    assert_eq!(starts.living(), 0);
    drop(lease);
    sleep(LONG).await;
    assert_eq!(
        (starts.made(), starts.living()),
        (begun, 0),
        "no start has survived"
    );
}

#[tokio::test(start_paused = true)]
async fn an_observer_sees_each_step() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let starts = Starts::default();
    starts.fail([StartError::transient("crashed")]);
    let sink = seen.clone();
    let fleet = starts.fleet().observer(move |event: &FleetEvent<'_>| {
        let shown = format!("{event:?}");
        let name = shown
            .split([' ', '{'])
            .next()
            .unwrap_or_default()
            .to_owned();
        sink.lock().unwrap().push(name);
    });
    let fleet = fleet.start();
    acquire(&fleet).await.discard("dirty");
    until(|| starts.living() == 0).await;
    let expected = [
        "Requested",
        "StartFailed",
        "Started",
        "Leased",
        "Discarded",
        "Returned",
        "Stopped",
    ];
    until(|| seen.lock().unwrap().len() == expected.len()).await;
    assert_eq!(*seen.lock().unwrap(), expected);
}

fn client(server: &FakeServer) -> Client {
    let client = Client::builder(server.url()).session_api_key(server.session_api_key());
    client.build().unwrap()
}

#[tokio::test]
async fn attached_servers_are_found_by_name_and_checked_before_they_are_used_again() {
    let (one, two) = (
        FakeServer::start().await.unwrap(),
        FakeServer::start().await.unwrap(),
    );
    let provider = AttachedServers::new([client(&one), client(&two)], "/workspace");
    let fleet = Fleet::builder(provider).size(10).start();
    assert_eq!(fleet.places(), 2);
    let found = timeout(LONG, fleet.acquire_from(two.url())).await.unwrap();
    let lease = found.unwrap().unwrap();
    assert_eq!(lease.name(), two.url());
    assert_eq!(acquire(&fleet).await.name(), one.url());
    assert!(
        fleet
            .acquire_from("http://127.0.0.1:1")
            .await
            .unwrap()
            .is_none()
    );
    one.kill();
    one.refuse();
    let waiting = tokio::spawn(fleet.acquire());
    while fleet.stats().discarded == 0 {
        tokio::task::yield_now().await;
    }
    drop(lease);
    let next = timeout(LONG, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(next.name(), two.url());
    drop(next);
    assert_eq!(fleet.shutdown(LONG).await, 0);
    assert!(
        client(&two).is_alive().await,
        "the server belongs to another program"
    );
}
