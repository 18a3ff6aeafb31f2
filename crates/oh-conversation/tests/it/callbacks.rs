//! Tests of callbacks: which threads they run on, how they end, and what they keep alive.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use futures_util::FutureExt;
use oh_conversation::{Conversation, LinkStatus, Subscription};
use oh_protocol::{
    Event,
    config::{Agent, Llm},
};
use serde_json::json;
use tokio::{
    runtime::{Builder, Handle},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::yield_now,
};

use crate::mock::{Dial, Mock, Place, attached, soon};

async fn append(mock: &Mock, dial: &Dial, count: usize) {
    for _ in 0..count {
        let (seq, event) = mock.append("New", &json!({}));
        dial.durable(seq, &event).await.unwrap();
    }
}

/// Returns a callback that sends the id of each event.
fn ids() -> (
    impl FnMut(&Event) + Send + Clone + 'static,
    UnboundedReceiver<String>,
) {
    let (calls, called) = unbounded_channel();
    let say = move |event: &Event| _ = calls.send(event.id().to_owned());
    (say, called)
}

/// Waits until a conversation without handles has closed its link.
async fn link_ends(mut dial: Dial) {
    soon(async { while dial.peer.recv().await.is_some() {} }).await;
}

/// Starts a conversation with callbacks set on the builder. Also returns the server's end of its
/// socket.
async fn started(
    with: impl FnOnce(oh_conversation::ConversationBuilder) -> oh_conversation::ConversationBuilder,
) -> (Mock, UnboundedReceiver<Dial>, Dial, Conversation) {
    let (mock, mut dials) = Mock::new();
    mock.plan(
        "/api/conversations",
        Ok((
            201,
            json!({"id": mock.id.to_string(), "execution_status": "idle",
            "workspace": {"working_dir": "/w"}}),
        )),
    );
    let agent = Agent::new(Llm::new("m"));
    let builder = with(Conversation::builder(&Place(mock.client()), agent).id(mock.id));
    let starting = tokio::spawn(builder.unchecked_tools().start());
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(starting).await.unwrap().unwrap();
    (mock, dials, dial, conversation)
}

#[tokio::test(start_paused = true)]
async fn dropping_a_subscription_stops_its_callback() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let (say, mut called) = ids();
    let subscription = conversation.on_event(say);
    append(&mock, &dial, 1).await;
    assert_eq!(soon(called.recv()).await.unwrap(), "0");
    drop(subscription);
    append(&mock, &dial, 1).await;
    // The callback was dropped without another call.
    assert_eq!(soon(called.recv()).await, None);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_subscription_stops_a_blocking_callback_after_the_current_call() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let (mut say, mut called) = ids();
    let (release, blocked) = mpsc::channel::<()>();
    let subscription = conversation.on_event_blocking(move |event| {
        say(event);
        _ = blocked.recv();
    });
    append(&mock, &dial, 5).await;
    assert_eq!(soon(called.recv()).await.unwrap(), "0");
    drop(subscription);
    drop(release);
    assert_eq!(soon(called.recv()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_callback_does_not_keep_its_conversation_alive() {
    for blocking in [false, true] {
        let (mock, _dials, dial, conversation) = attached("idle").await;
        let own = conversation.clone();
        let (calls, mut called) = unbounded_channel();
        let callback = move |_: &Event| _ = calls.send(own.events().len());
        let subscription = match blocking {
            true => conversation.on_event_blocking(callback),
            false => conversation.on_event(callback),
        };
        append(&mock, &dial, 1).await;
        assert_eq!(soon(called.recv()).await, Some(1));
        drop(conversation);
        drop(subscription);
        link_ends(dial).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_detached_callback_with_a_weak_handle_ends_with_the_last_handle() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let weak = conversation.downgrade();
    let (calls, mut called) = unbounded_channel();
    let subscription = conversation.on_event(move |_| {
        let own = weak.upgrade();
        _ = calls.send(own.map(|conversation| conversation.events().len()));
    });
    subscription.detach();
    append(&mock, &dial, 1).await;
    assert_eq!(soon(called.recv()).await, Some(Some(1)));
    let weak = conversation.downgrade();
    assert_eq!(weak.upgrade().unwrap().id(), mock.id);
    drop(conversation);
    assert!(weak.upgrade().is_none());
    link_ends(dial).await;
    assert_eq!(soon(called.recv()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_detached_callbacks_after_all_received_events() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let own = conversation.clone();
    let (mut say, mut called) = ids();
    let callback = move |event: &Event| {
        say(event);
        assert!(own.events().len() <= 3);
    };
    conversation.on_event(callback).detach();
    append(&mock, &dial, 3).await;
    while conversation.events().len() < 3 {
        yield_now().await;
    }
    soon(conversation.close()).await.unwrap();
    drop(conversation);
    for expected in ["0", "1", "2"] {
        assert_eq!(soon(called.recv()).await.unwrap(), expected);
    }
    assert_eq!(soon(called.recv()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_callback_ends_no_callback() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let panicking = |mut say: Box<dyn FnMut(&Event) + Send>| {
        move |event: &Event| {
            say(event);
            assert!(event.id() != "1", "on purpose");
        }
    };
    let (first, mut on_task) = ids();
    let (second, mut on_thread) = ids();
    let (third, mut healthy) = ids();
    let _subscriptions = [
        conversation.on_event(panicking(Box::new(first))),
        conversation.on_event_blocking(panicking(Box::new(second))),
        conversation.on_event(third),
    ];
    append(&mock, &dial, 3).await;
    for called in [&mut on_task, &mut on_thread, &mut healthy] {
        for expected in ["0", "1", "2"] {
            assert_eq!(soon(called.recv()).await.unwrap(), expected);
        }
    }
}

#[test]
fn callbacks_may_be_added_and_ended_outside_a_runtime() {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let (mock, _dials, dial, conversation) = runtime.block_on(attached("idle"));
    let (say, mut called) = ids();
    let on_task = conversation.on_event(say.clone());
    let on_thread = conversation.on_event_blocking(say);
    let stopped = conversation.on_event(|_| ());
    stopped.stop();
    runtime.block_on(async {
        append(&mock, &dial, 1).await;
        for _ in 0..2 {
            assert_eq!(soon(called.recv()).await.unwrap(), "0");
        }
    });
    drop((on_task, on_thread));
    assert_eq!(runtime.block_on(soon(called.recv())), None);
}

#[test]
fn a_callback_added_after_its_runtime_is_gone_is_never_called() {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let (_mock, _dials, _dial, conversation) = runtime.block_on(attached("idle"));
    drop(runtime);
    let (say, mut called) = ids();
    conversation.on_event(say.clone()).detach();
    let subscription = conversation.on_event_blocking(say);
    subscription.cancel().now_or_never().unwrap();
    assert!(called.try_recv().is_err());
}

/// Closes a conversation from inside each kind of callback, on the current runtime.
async fn close_inside(blocking: bool, add: fn(&Conversation, bool, Callback) -> Subscription) {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let own = conversation.clone();
    let (calls, mut called) = unbounded_channel();
    let callback: Callback = Box::new(move |event| {
        let closed = match blocking {
            true => Handle::current().block_on(own.close()),
            false => own.close().now_or_never().unwrap(),
        };
        _ = calls.send((event.id().to_owned(), closed.is_ok()));
    });
    let other = conversation.on_event(|_| ());
    let subscription = add(&conversation, blocking, callback);
    append(&mock, &dial, 1).await;
    assert_eq!(soon(called.recv()).await.unwrap(), ("0".into(), true));
    soon(subscription.cancel()).await;
    soon(other.cancel()).await;
    soon(conversation.close()).await.unwrap();
    assert_eq!(conversation.link().status(), LinkStatus::Ended);
}

type Callback = Box<dyn FnMut(&Event) + Send>;

fn add(conversation: &Conversation, blocking: bool, callback: Callback) -> Subscription {
    match blocking {
        true => conversation.on_event_blocking(callback),
        false => conversation.on_event(callback),
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_inside_a_callback_does_not_deadlock() {
    close_inside(false, add).await;
}

#[tokio::test]
async fn a_close_from_inside_a_blocking_callback_does_not_wait_for_itself() {
    close_inside(true, add).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_from_inside_a_blocking_callback_does_not_wait_for_itself_on_many_threads() {
    close_inside(true, add).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_of_a_builder_may_close_and_delete_their_conversation() {
    for (blocking, delete) in [(false, false), (true, false), (true, true)] {
        let own = Arc::new(Mutex::new(None::<Conversation>));
        let (calls, mut called) = unbounded_channel();
        let callback = {
            let own = own.clone();
            move |event: &Event| {
                let Some(own) = own.lock().unwrap().take() else {
                    return;
                };
                let ended = match (blocking, delete) {
                    (false, _) => own.close().now_or_never().expect("it waits for nothing"),
                    (true, false) => Handle::current().block_on(own.close()),
                    (true, true) => Handle::current().block_on(own.delete()),
                };
                _ = calls.send((event.id().to_owned(), ended.is_ok()));
            }
        };
        let (mock, _dials, dial, conversation) = started(|builder| match blocking {
            true => builder.on_event_blocking(callback),
            false => builder.on_event(callback),
        })
        .await;
        let mut links = conversation.link().changes();
        *own.lock().unwrap() = Some(conversation);
        append(&mock, &dial, 1).await;
        assert_eq!(soon(called.recv()).await.unwrap(), ("0".into(), true));
        soon(async { while links.next().await.is_some() {} }).await;
        assert_eq!(mock.seen("DELETE "), usize::from(delete));
        assert_eq!(soon(called.recv()).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_callback_may_cancel_itself() {
    for blocking in [false, true] {
        let (mock, _dials, dial, conversation) = attached("idle").await;
        let own = Arc::new(Mutex::new(None::<Subscription>));
        let (calls, mut called) = unbounded_channel();
        let subscription = add(
            &conversation,
            blocking,
            Box::new({
                let own = own.clone();
                move |event| {
                    if let Some(own) = own.lock().unwrap().take() {
                        own.cancel().now_or_never().expect("it waits for itself");
                    }
                    _ = calls.send(event.id().to_owned());
                }
            }),
        );
        *own.lock().unwrap() = Some(subscription);
        append(&mock, &dial, 1).await;
        assert_eq!(soon(called.recv()).await.unwrap(), "0");
        append(&mock, &dial, 1).await;
        assert_eq!(soon(called.recv()).await, None);
    }
}

#[tokio::test]
async fn a_close_does_not_wait_for_a_blocked_callback_which_is_not_called_again() {
    let (release, blocked) = mpsc::channel::<()>();
    let (mut say, mut called) = ids();
    let (mock, _dials, dial, conversation) = started(|builder| {
        builder.on_event_blocking(move |event| {
            say(event);
            _ = blocked.recv();
        })
    })
    .await;
    append(&mock, &dial, 5).await;
    assert_eq!(soon(called.recv()).await.unwrap(), "0");
    while conversation.events().len() < 5 {
        yield_now().await;
    }
    // If `close` waited for the callback, it would never return.
    tokio::time::timeout(Duration::from_secs(60), conversation.close())
        .await
        .unwrap()
        .unwrap();
    drop(release);
    assert_eq!(soon(called.recv()).await, None);
}

#[tokio::test(start_paused = true)]
async fn callbacks_of_a_builder_receive_all_events_before_a_close() {
    let (first, mut on_task) = ids();
    let (second, mut on_thread) = ids();
    let (mock, _dials, dial, conversation) =
        started(|builder| builder.on_event(first).on_event_blocking(second)).await;
    append(&mock, &dial, 500).await;
    while conversation.events().len() < 500 {
        yield_now().await;
    }
    soon(conversation.close()).await.unwrap();
    for called in [&mut on_task, &mut on_thread] {
        for expected in 0..500 {
            assert_eq!(called.try_recv().unwrap(), expected.to_string());
        }
        assert_eq!(soon(called.recv()).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_callback_of_a_builder_outlives_the_last_handle_until_it_has_all_events() {
    let (say, mut called) = ids();
    let (mock, _dials, dial, conversation) = started(|builder| builder.on_event(say)).await;
    append(&mock, &dial, 50).await;
    while conversation.events().len() < 50 {
        yield_now().await;
    }
    drop(conversation);
    for expected in 0..50 {
        assert_eq!(soon(called.recv()).await.unwrap(), expected.to_string());
    }
    assert_eq!(soon(called.recv()).await, None);
}

#[tokio::test(start_paused = true)]
async fn many_blocking_callbacks_that_wait_for_each_other_all_get_a_thread() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let (mut end, _) = mpsc::channel::<()>();
    let mut subscriptions = Vec::new();
    for _ in 0..20 {
        let (next, through) = mpsc::channel();
        let before = std::mem::replace(&mut end, next);
        subscriptions.push(conversation.on_event_blocking(move |_| {
            _ = through.recv();
            _ = before.send(());
        }));
    }
    append(&mock, &dial, 1).await;
    while conversation.events().is_empty() {
        yield_now().await;
    }
    end.send(()).unwrap();
    for subscription in subscriptions {
        soon(subscription.cancel()).await;
    }
}

#[test]
fn a_close_inside_a_callback_deletes_the_conversation_without_blocking_the_runtime() {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let server = oh_testkit::FakeServer::start().await.unwrap();
            let place = Place(server.client().unwrap());
            let agent = Agent::new(Llm::new("m").api_key("k"));
            let builder = Conversation::builder(&place, agent).delete_on_close();
            let conversation = builder.start().await.unwrap();
            let handle = conversation.clone();
            let subscription = conversation.on_event(move |_| {
                block_on(handle.close()).unwrap();
            });
            subscription.detach();
            conversation.send("hello").await.unwrap();
            while server.conversation(conversation.id()).is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            done.send(()).unwrap();
        });
    });
    ended
        .recv_timeout(Duration::from_secs(60))
        .expect("the callback hangs, or the conversation was not deleted");
}

/// Polls a future on this thread until it is ready.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

/// Adds a callback that waits at its first event until it is released.
fn held_up(conversation: &Conversation) -> (mpsc::Sender<()>, UnboundedReceiver<String>) {
    let (mut say, called) = ids();
    let (release, released) = mpsc::channel();
    let mut first = true;
    let callback = move |event: &Event| {
        say(event);
        if std::mem::take(&mut first) {
            _ = released.recv();
        }
    };
    conversation.on_event_blocking(callback).detach();
    (release, called)
}

#[tokio::test]
async fn a_close_that_nobody_waits_for_goes_on() {
    let (mock, _dials, dial, conversation) = attached("idle").await;
    let (release, mut called) = held_up(&conversation);
    append(&mock, &dial, 1).await;
    soon(called.recv()).await.unwrap();
    let mut closing = conversation.close();
    assert!(
        (&mut closing).now_or_never().is_none(),
        "the callback is busy"
    );
    drop(closing);
    link_ends(dial).await;
    assert_eq!(conversation.link().status(), LinkStatus::Ended);
    release.send(()).unwrap();
}

#[tokio::test]
async fn a_callback_skips_older_events_that_cannot_be_read() {
    let (mock, mut dials) = Mock::new();
    let attach = Conversation::attach(&mock.client(), mock.id).keep_last(1_000);
    let attaching = tokio::spawn(attach.into_future());
    let dial = soon(dials.recv()).await.unwrap();
    dial.welcome(&mock, "idle").await.unwrap();
    let conversation = soon(attaching).await.unwrap().unwrap();
    let (release, mut called) = held_up(&conversation);
    append(&mock, &dial, 1).await;
    soon(called.recv()).await.unwrap();
    // The callback falls behind, so that it needs events that are no longer held.
    append(&mock, &dial, 3_000).await;
    while conversation
        .events()
        .at(-1)
        .is_none_or(|last| last.id() != "3000")
    {
        yield_now().await;
    }
    mock.plan("/events/search", Ok((422, json!({"detail": "no"}))));
    release.send(()).unwrap();
    while soon(called.recv()).await.unwrap() != "3000" {}
}
