//! Tests for attempts under virtual time: which calls are retried, how often, after which delay,
//! and with which result. The transport responds from a list.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Response};
use oh_protocol::{Answer, Request};

use super::*;
use crate::{Body, HttpTransport};

type Reply = Box<dyn Fn() -> Result<Response<Body>> + Send + Sync>;

/// A transport that returns its responses in order and records the times of the requests. The last
/// response is repeated.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    replies: VecDeque<Reply>,
    asked: Vec<Instant>,
    hang: bool,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

#[async_trait]
impl HttpTransport for Script {
    async fn send(&self, _: http::Request<Body>) -> Result<Response<Body>> {
        let hang = {
            let mut lines = self.0.lock().unwrap();
            lines.asked.push(Instant::now());
            lines.hang
        };
        if hang {
            std::future::pending::<()>().await;
        }
        let mut lines = self.0.lock().unwrap();
        if lines.replies.len() > 1 {
            lines.replies.pop_front().unwrap()()
        } else {
            lines.replies[0]()
        }
    }
}

impl Script {
    fn then(self, reply: impl Fn() -> Result<Response<Body>> + Send + Sync + 'static) -> Self {
        self.0.lock().unwrap().replies.push_back(Box::new(reply));
        self
    }

    fn answer(self, status: u16, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.then(move || {
            let mut answer = Response::builder().status(status);
            for (name, value) in headers {
                answer = answer.header(*name, *value);
            }
            Ok(answer.body(Body::empty()).unwrap())
        })
    }

    fn fail(self, kind: ErrorKind) -> Self {
        self.then(move || Err(Error::new(kind, "scripted")))
    }

    fn hang() -> Self {
        let script = Self::default();
        script.0.lock().unwrap().hang = true;
        script
    }

    fn client(&self) -> Client {
        let builder = Client::builder("http://server").http_transport(self.clone());
        builder.ignore_environment().build().unwrap()
    }

    /// Returns the time between each request and the one before it.
    fn gaps(&self) -> Vec<Duration> {
        let asked = &self.0.lock().unwrap().asked;
        asked.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().asked.len()
    }
}

struct Probe(Repeat);

impl Call for Probe {
    type Output = Bytes;

    fn operation(&self) -> Operation {
        Operation::new(Method::POST, "/probe/{id}", self.0)
    }

    fn request(&self) -> oh_protocol::Result<Request> {
        Ok(Request::new(Method::POST, "/probe/7?secret=canary"))
    }

    fn decode(&self, answer: Answer) -> oh_protocol::Result<Bytes> {
        Ok(answer.body)
    }
}

const AGAIN: Probe = Probe(Repeat::Idempotent);
const ONCE: Probe = Probe(Repeat::Never);

#[tokio::test(start_paused = true)]
async fn a_call_by_value_is_sent_when_its_task_runs() {
    let script = Script::default().answer(200, &[]);
    let call = script.client().call(ONCE).timeout(Duration::from_secs(1));
    assert_eq!(script.asked(), 0);
    tokio::spawn(call).await.unwrap().unwrap();
    assert_eq!(script.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_failure_and_the_call_decide_whether_to_retry() {
    // The number of attempts for a call that may be repeated, and for one that may not.
    for (status, again, once) in [
        (200, 1, 1),
        (400, 1, 1),
        (401, 1, 1),
        (403, 1, 1),
        (404, 1, 1),
        (409, 1, 1),
        (422, 1, 1),
        (302, 1, 1),
        (429, 5, 1),
        (500, 5, 1),
        (503, 5, 1),
    ] {
        for (call, times) in [(AGAIN, again), (ONCE, once)] {
            let script = Script::default().answer(status, &[]);
            let result = script.client().call(&call).await;
            assert_eq!(script.asked(), times, "{status} {:?}", call.0);
            assert_eq!(result.is_ok(), status == 200);
        }
    }
    for (kind, again, once) in [
        (ErrorKind::Connect, 5, 5),
        (ErrorKind::Interrupted, 5, 1),
        (ErrorKind::Timeout, 5, 1),
        (ErrorKind::Tls, 1, 1),
        (ErrorKind::Proxy, 1, 1),
        (ErrorKind::Decode, 1, 1),
        (ErrorKind::InvalidInput, 1, 1),
    ] {
        for (call, times) in [(AGAIN, again), (ONCE, once)] {
            let script = Script::default().fail(kind);
            let error = script.client().call(&call).await.unwrap_err();
            assert_eq!(
                (script.asked(), error.kind()),
                (times, kind),
                "{:?}",
                call.0
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_continues_when_the_fault_has_ended() {
    let script = Script::default()
        .fail(ErrorKind::Connect)
        .fail(ErrorKind::Interrupted)
        .answer(503, &[])
        .answer(200, &[]);
    script.client().call(&AGAIN).await.unwrap();
    assert_eq!(script.asked(), 4);
}

#[tokio::test(start_paused = true)]
async fn delays_grow_with_jitter_up_to_their_cap() {
    let script = Script::default().fail(ErrorKind::Connect);
    script.client().call(&ONCE).await.unwrap_err();
    let gaps = script.gaps();
    assert_eq!(gaps.len(), 4);
    for (number, gap) in gaps.iter().enumerate() {
        let full = Duration::from_millis(100 << number);
        // The clock has a resolution of a millisecond.
        let grain = Duration::from_millis(2);
        assert!(
            *gap + grain >= full / 2 && *gap <= full + grain,
            "{number}: {gap:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_within_the_limit_is_observed() {
    let script = Script::default()
        .answer(429, &[("retry-after", "7")])
        .answer(200, &[]);
    script.client().call(&AGAIN).await.unwrap();
    assert_eq!(script.gaps()[0].as_secs(), 7);

    for hopeless in [
        &[("retry-after", "600")],
        &[("retry-after", "18446744073709551615")],
    ] {
        let script = Script::default().answer(429, hopeless);
        let begun = Instant::now();
        let error = script.client().call(&AGAIN).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        assert!(error.retry_after().unwrap() >= Duration::from_secs(600));
        assert_eq!((script.asked(), begun.elapsed()), (1, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_covers_all_attempts() {
    let script = Script::default().fail(ErrorKind::Connect);
    let begun = Instant::now();
    let limit = Duration::from_millis(400);
    let client = script.client();
    let error = client.call(&ONCE).timeout(limit).await.unwrap_err();
    // The error is the original failure, not the time limit.
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(begun.elapsed() < limit);
    assert!((2..=4).contains(&script.asked()));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_at_its_limit() {
    // The number of attempts for a call that may be repeated. An attempt without progress is
    // abandoned after half of the limit, but not before 90 s.
    for (set, expected, times) in [(None, 120, 2), (Some(3), 3, 1), (Some(600), 600, 2)] {
        for (call, times) in [(AGAIN, times), (ONCE, 1)] {
            let script = Script::hang();
            let client = script.client();
            let begun = Instant::now();
            let mut call = client.call(&call);
            if let Some(seconds) = set {
                call = call.timeout(Duration::from_secs(seconds));
            }
            let error = call.await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout);
            assert_eq!(
                (begun.elapsed().as_secs(), script.asked()),
                (expected, times)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn very_long_limits_do_not_overflow() {
    let script = Script::default().answer(200, &[]);
    script
        .client()
        .call(&AGAIN)
        .timeout(Duration::MAX)
        .await
        .unwrap();
    let script = Script::default().fail(ErrorKind::Connect);
    let client = script.client();
    client
        .call(&AGAIN)
        .timeout(Duration::ZERO)
        .await
        .unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn an_error_names_the_path_without_its_query() {
    let script = Script::default().answer(404, &[]);
    let error = script.client().call(&ONCE).await.unwrap_err();
    assert_eq!(error.target(), Some("/probe/7"));
    assert_eq!(
        error.to_string(),
        "not the response of an agent server: the server returned 404 Not Found (/probe/7)"
    );
    assert!(!format!("{error:?}").contains("canary"));
}

#[tokio::test(start_paused = true)]
async fn an_observer_receives_every_attempt() {
    let script = Script::default()
        .fail(ErrorKind::Interrupted)
        .answer(429, &[("retry-after", "1")])
        .answer(200, &[]);
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = seen.clone();
    let client = Client::builder("http://server")
        .http_transport(script)
        .on_attempt(move |attempt| {
            noted.lock().unwrap().push(format!(
                "{} {} {} {:?} {:?} {}",
                attempt.number,
                attempt.operation.method,
                attempt.operation.route,
                attempt.status.map(|status| status.as_u16()),
                attempt.failure,
                attempt.retry_in.is_some(),
            ));
        })
        .build()
        .unwrap();
    client.call(&AGAIN).await.unwrap();
    assert_eq!(
        *seen.lock().unwrap(),
        [
            "1 POST /probe/{id} None Some(Interrupted) true",
            "2 POST /probe/{id} Some(429) Some(RateLimited) true",
            "3 POST /probe/{id} Some(200) None false",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_not_sent_again() {
    let script = Script::default().fail(ErrorKind::Connect);
    let client = script.client();
    let call = client.call(&AGAIN);
    let dropped = tokio::time::timeout(Duration::from_millis(10), call.into_future()).await;
    assert!(dropped.is_err());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(script.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_is_alive_only_if_it_answers_soon() {
    for (status, alive) in [
        (200, true),
        (204, true),
        (301, false),
        (404, false),
        (503, false),
    ] {
        let script = Script::default().answer(status, &[]);
        assert_eq!(script.client().is_alive().await, alive, "{status}");
        assert_eq!(script.asked(), 1);
    }
    let refused = Script::default().fail(ErrorKind::Connect);
    assert!(!refused.client().is_alive().await);
    let begun = Instant::now();
    assert!(!Script::hang().client().is_alive().await);
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_without_progress_is_repeated_within_the_limit() {
    let script = Script::default()
        .then(|| Ok(Response::new(Body::from_stream(Silent, Some(2)))))
        .answer(200, &[]);
    let client = script.client();
    let begun = Instant::now();
    let limit = Duration::from_secs(5);
    let call = client.call(&AGAIN).attempt_timeout(limit);
    call.await.unwrap();
    assert_eq!((begun.elapsed().as_secs(), script.asked()), (5, 2));

    // A call that must not be repeated waits for the whole limit.
    let script = Script::default()
        .then(|| Ok(Response::new(Body::from_stream(Silent, Some(2)))))
        .answer(200, &[]);
    let client = script.client();
    let call = client.call(&ONCE).attempt_timeout(limit);
    let error = call.timeout(limit * 4).await.unwrap_err();
    assert_eq!((error.kind(), script.asked()), (ErrorKind::Timeout, 1));
}

/// A body that never arrives.
struct Silent;

impl futures_core::Stream for Silent {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_without_its_body_keeps_its_status() {
    for (status, kind) in [(403, ErrorKind::Forbidden), (500, ErrorKind::Server)] {
        let script = Script::default().then(move || {
            let mut answer = Response::new(Body::from_stream(Silent, Some(500)));
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            Ok(answer)
        });
        let begun = Instant::now();
        let error = script.client().call(&ONCE).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(error.status().unwrap().as_u16(), status);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_of_zero_does_not_shorten_the_delay() {
    for header in [
        &[("retry-after", "0")],
        &[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")],
    ] {
        let script = Script::default().answer(429, header);
        script.client().call(&AGAIN).await.unwrap_err();
        for (number, gap) in script.gaps().iter().enumerate() {
            let least = Duration::from_millis(50 << number);
            assert!(*gap >= least, "{number}: {gap:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_keeps_the_failure_that_was_being_retried() {
    let script = Script::default()
        .answer(503, &[])
        .then(|| Ok(Response::new(Body::from_stream(Silent, Some(2)))));
    let client = script.client();
    let call = client.call(&AGAIN).timeout(Duration::from_secs(10));
    let error = call.await.unwrap_err();
    assert!(error.is_timeout() && error.is_transient(), "{error:?}");
    let shown = error.to_string();
    assert!(
        shown.contains("within 10s while retrying (/probe/7): ") && shown.contains("503"),
        "{shown}"
    );
}

#[tokio::test(start_paused = true)]
async fn only_a_call_without_a_sent_attempt_was_never_sent() {
    let script = Script::default().fail(ErrorKind::Connect);
    assert!(script.client().call(&ONCE).await.unwrap_err().never_sent());
    // The first attempt may have reached the server, regardless of the other attempts.
    let script = Script::default()
        .fail(ErrorKind::Interrupted)
        .fail(ErrorKind::Connect);
    let error = script.client().call(&AGAIN).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.never_sent()),
        (ErrorKind::Connect, false)
    );
}

struct Deletion;

impl Call for Deletion {
    type Output = ();

    fn operation(&self) -> Operation {
        Operation::new(Method::DELETE, "/probe", Repeat::Idempotent)
    }

    fn request(&self) -> oh_protocol::Result<Request> {
        Ok(Request::new(Method::DELETE, "/probe"))
    }

    fn decode(&self, _: Answer) -> oh_protocol::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_delete_with_a_lost_response_succeeds_if_nothing_is_left() {
    fn gone(script: Script) -> Script {
        script.then(|| {
            let json = Bytes::from_static(b"{\"detail\":\"Not Found\"}");
            let mut answer = Response::new(Body::from(json));
            *answer.status_mut() = StatusCode::NOT_FOUND;
            Ok(answer)
        })
    }
    let lost = gone(Script::default().fail(ErrorKind::Interrupted));
    lost.client().call(&Deletion).await.unwrap();
    for script in [
        gone(Script::default()),
        gone(Script::default().fail(ErrorKind::Connect)),
        // The 404 does not have the server's JSON body.
        Script::default()
            .fail(ErrorKind::Interrupted)
            .answer(404, &[]),
    ] {
        let error = script.client().call(&Deletion).await.unwrap_err();
        assert_eq!(error.status().unwrap().as_u16(), 404);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replaced_server_is_noticed() {
    fn version(script: Script, version: &'static str) -> Script {
        script.then(move || {
            let json = format!("{{\"version\":\"{version}\"}}");
            Ok(Response::new(Body::from(Bytes::from(json))))
        })
    }
    let script = version(version(Script::default(), "1.44.0"), "1.58.2");
    let client = script.client();
    let known = async || client.server_info().await.unwrap().version.to_string();
    assert_eq!(
        (known().await, known().await),
        ("1.44.0".into(), "1.44.0".into())
    );
    sleep(Duration::from_secs(31)).await;
    assert_eq!(known().await, "1.58.2");

    // The cache expires sooner if a request fails to reach the server or a supervisor reports a
    // change.
    let script = version(
        version(Script::default(), "1.44.0").fail(ErrorKind::Interrupted),
        "1.58.2",
    );
    let client = script.client();
    let known = async || client.server_info().await.unwrap().version.to_string();
    assert_eq!(known().await, "1.44.0");
    client.call(&ONCE).await.unwrap_err();
    assert_eq!((known().await, script.asked()), ("1.58.2".into(), 3));
    client.set_liveness(crate::Liveness::Ready);
    known().await;
    assert_eq!(script.asked(), 4);
}

/// Checks each failure that can hide that the server was replaced.
#[tokio::test(start_paused = true)]
async fn each_failure_to_reach_the_server_makes_the_client_ask_for_its_version_again() {
    fn version(script: Script, version: &'static str) -> Script {
        script.then(move || {
            let json = format!("{{\"version\":\"{version}\"}}");
            Ok(Response::new(Body::from(Bytes::from(json))))
        })
    }
    fn failing(number: usize, script: Script) -> Option<Script> {
        Some(match number {
            0 => script.fail(ErrorKind::Connect),
            1 => script.fail(ErrorKind::Proxy),
            2 => script.fail(ErrorKind::Tls),
            3 => script.fail(ErrorKind::Interrupted),
            4 => script.fail(ErrorKind::Timeout),
            // A gateway's own responses.
            5 => script.answer(502, &[]),
            6 => script.answer(503, &[]),
            7 => script.answer(504, &[]),
            _ => return None,
        })
    }
    for streamed in [false, true] {
        for number in 0.. {
            let Some(script) = failing(number, version(Script::default(), "1.44.0")) else {
                break;
            };
            let client = version(script, "1.58.2").client();
            let known = async || client.server_info().await.unwrap().version.to_string();
            assert_eq!(known().await, "1.44.0");
            if streamed {
                let request = Request::new(Method::GET, "/file");
                if let Ok(answer) = client.stream(request, Body::empty()).await {
                    client.accepted(answer).await.unwrap_err();
                }
            } else {
                client.call(&ONCE).single_attempt().await.unwrap_err();
            }
            assert_eq!(known().await, "1.58.2", "{number}, streamed: {streamed}");
        }
    }
}
