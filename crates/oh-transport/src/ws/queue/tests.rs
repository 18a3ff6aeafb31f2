//! Tests for order, capacity, closing and memory.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use super::*;

const MOMENT: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn items_arrive_in_order_and_before_the_end() {
    let (sender, mut receiver) = queue(10);
    sender.send(1).await.unwrap();
    sender.send_all(&mut [2, 3].into()).await.unwrap();
    assert_eq!(receiver.try_recv(), Some(1));
    drop(sender);
    assert_eq!(receiver.recv().await, Some(2));
    assert_eq!(receiver.recv().await, Some(3));
    assert_eq!(receiver.try_recv(), None);
    assert_eq!(receiver.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_not_split_and_waits_for_room() {
    let (sender, mut receiver) = queue(2);
    sender.send_all(&mut [1, 2, 3, 4].into()).await.unwrap();
    let mut seen = Vec::new();
    let reading = async {
        while let Some(item) = receiver.recv().await {
            seen.push(item);
            if item == 2 {
                // Two items are left, so the queue is still full.
                assert!(timeout(MOMENT, receiver.0.room.notified()).await.is_err());
            }
        }
    };
    let sending = async move {
        sender.send_all(&mut [5, 6].into()).await.unwrap();
        sender.send(7).await.unwrap();
    };
    tokio::join!(sending, reading);
    assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_sends_and_receives_nothing() {
    let (sender, mut receiver) = queue(1);
    assert!(timeout(MOMENT, receiver.recv()).await.is_err());
    sender.send(1).await.unwrap();
    assert!(timeout(MOMENT, sender.send(2)).await.is_err());
    assert_eq!(receiver.recv().await, Some(1));
    assert!(timeout(MOMENT, receiver.recv()).await.is_err());
    sender.send(3).await.unwrap();
    assert_eq!(receiver.recv().await, Some(3));
}

#[tokio::test(start_paused = true)]
async fn every_waiter_gets_room() {
    let (sender, mut receiver) = queue(1);
    sender.send(0).await.unwrap();
    let sending = async {
        let (a, b, c) = tokio::join!(sender.send(1), sender.send(2), sender.send(3));
        a.and(b).and(c).unwrap();
    };
    let reading = async {
        let mut sum = 0;
        for _ in 0..4 {
            sum += receiver.recv().await.unwrap();
        }
        assert_eq!(sum, 6);
    };
    tokio::join!(sending, reading);
}

#[tokio::test(start_paused = true)]
async fn unreadable_items_are_dropped_and_their_sender_is_notified() {
    let (sender, receiver) = queue(1);
    let (item, dropped) = oneshot::channel::<()>();
    sender.send(item).await.unwrap();
    let (waiting, _) = oneshot::channel();
    let sending = async { sender.send(waiting).await.is_err() };
    let (refused, ()) = tokio::join!(sending, async { drop(receiver) });
    assert!(refused);
    assert!(dropped.await.is_err());
    let (late, _) = oneshot::channel();
    assert!(sender.send(late).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_empty_queue_holds_no_memory() {
    let (sender, mut receiver) = queue(8);
    let held = || sender.0.lock().items.capacity();
    assert_eq!(held(), 0);
    let mut batch = (0..1000).collect();
    sender.send_all(&mut batch).await.unwrap();
    assert_eq!(batch.capacity(), 0);
    assert!(held() >= 1000);
    while receiver.try_recv().is_some() {}
    assert_eq!(held(), 0);
}

#[tokio::test]
async fn a_receiver_of_many_items_lets_other_tasks_run() {
    let (sender, mut receiver) = queue(1);
    let items = 500;
    sender.send_all(&mut (0..items).collect()).await.unwrap();
    let read = Arc::new(AtomicUsize::new(0));
    let reading = tokio::spawn({
        let read = read.clone();
        async move {
            while read.load(Ordering::Relaxed) < items {
                receiver.recv().await.unwrap();
                read.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    tokio::task::yield_now().await;
    let first = read.load(Ordering::Relaxed);
    assert!(first > 0 && first < items, "{first}");
    reading.await.unwrap();
}
