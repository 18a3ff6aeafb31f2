//! Jobs that take turns, that block, that panic, and that are left behind.

use std::{
    future::{pending, poll_fn},
    sync::mpsc,
    task::{Poll, Wake},
};

use tokio::{runtime::Builder, task::yield_now, time::timeout};

use super::*;

/// A job that takes so many turns.
fn turns(count: usize, mut each: impl FnMut(usize) + Send + 'static) -> Arc<Job> {
    let mut taken = 0;
    Job::start(poll_fn(move |cx| {
        if taken == count {
            return Poll::Ready(());
        }
        each(taken);
        taken += 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }))
}

#[tokio::test]
async fn jobs_that_do_not_block_share_one_thread_and_take_turns() {
    let (said, heard) = mpsc::channel();
    let jobs: Vec<_> = (0..200)
        .map(|job| {
            let said = said.clone();
            turns(20, move |turn| {
                said.send((job, turn, thread::current().id())).unwrap()
            })
        })
        .collect();
    for job in &jobs {
        job.done().await;
    }
    drop(said);
    let all: Vec<_> = heard.iter().collect();
    assert_eq!(all.len(), 200 * 20);
    for job in 0..200 {
        let own = all.iter().filter(|(of, ..)| *of == job);
        assert!(
            own.map(|(_, turn, _)| *turn).eq(0..20),
            "once each, in order"
        );
    }
    let first = all[0].2;
    assert!(all.iter().all(|(_, _, thread)| *thread == first));
    assert_ne!(first, thread::current().id(), "sockets have that one");
}

#[tokio::test]
async fn no_wake_is_lost() {
    const EACH: u64 = 20_000;
    let (give, mut taken) = tokio::sync::mpsc::unbounded_channel();
    let givers: Vec<_> = (0..3)
        .map(|giver| {
            let give = give.clone();
            thread::spawn(move || (0..EACH).for_each(|n| give.send((giver, n)).unwrap()))
        })
        .collect();
    drop(give);
    let next = Arc::new(Mutex::new([0; 3]));
    let job = Job::start({
        let next = next.clone();
        async move {
            while let Some((giver, n)) = taken.recv().await {
                let mut next = next.lock().unwrap();
                assert_eq!(n, next[giver]);
                next[giver] += 1;
            }
        }
    });
    job.done().await;
    assert_eq!(*next.lock().unwrap(), [EACH; 3]);
    givers.into_iter().for_each(|giver| giver.join().unwrap());
}

/// Each job blocks until the one started after it is through.
async fn jobs_that_block() {
    let (mut end, _) = mpsc::channel::<()>();
    let mut jobs = Vec::new();
    for _ in 0..20 {
        let (next, through) = mpsc::channel();
        let before = std::mem::replace(&mut end, next);
        jobs.push(turns(1, move |_| {
            _ = through.recv();
            _ = before.send(());
        }));
    }
    end.send(()).unwrap();
    for job in jobs {
        job.done().await;
    }
}

#[tokio::test]
async fn jobs_that_block_hold_up_no_other() {
    jobs_that_block().await;
}

#[tokio::test(start_paused = true)]
async fn jobs_that_block_hold_up_no_other_on_a_paused_clock() {
    jobs_that_block().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_a_job_and_no_thread() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    let bomb = Bomb;
    let (panics, breaks) = (
        turns(1, |_| panic!("on purpose")),
        turns(1, move |_| _ = &bomb),
    );
    let other = turns(3, |_| ());
    for job in [panics, breaks, other] {
        job.done().await;
        assert!(job.is_done());
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_stands_still_until_jobs_are_through() {
    let job = turns(20_000, |_| ());
    timeout(LINGER, job.done()).await.unwrap();
}

#[tokio::test]
async fn a_thread_goes_when_no_job_is_left() {
    let job = turns(1, |_| ());
    let threads = job.threads.clone();
    job.done().await;
    while threads.lock().threads > 0 {
        yield_now().await;
    }
    assert_eq!(threads.lock().jobs, 0);
}

#[test]
fn the_end_of_a_runtime_ends_its_jobs() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let kept = Arc::new(());
    let job = runtime.block_on(async {
        let kept = kept.clone();
        Job::start(async move {
            pending::<()>().await;
            drop(kept);
        })
    });
    drop(runtime);
    assert!(!job.is_done());
    job.wake_by_ref();
    assert!(job.is_done());
    assert_eq!(Arc::strong_count(&kept), 1, "it was dropped");
    assert_eq!(job.threads.lock().threads, 0);
}
