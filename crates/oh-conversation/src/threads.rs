//! The threads that callbacks run on: one while they return soon, more while they block. Knows no
//! events.
//!
//! A [`Job`] is a future that is polled where user code may block; ready ones take turns. The
//! threads are the runtime's for blocking work, borrowed while there is any: so a callback knows
//! its runtime, whose end waits for the callbacks under way, and the clock of a test that has
//! paused it stands still until they are through.

mod job;

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Handle, Id},
    time::sleep,
};

pub(crate) use job::Job;

/// A thread that has done all there was rests so long before it looks again: what a stream of
/// events brings meanwhile costs one turn, and wakes nobody.
const REST: Duration = Duration::from_micros(500);
/// A thread that finds nothing to do waits so long for more before it goes.
const LINGER: Duration = Duration::from_secs(1);
/// How often it is looked whether jobs that wait need more threads.
const TICK: Duration = Duration::from_millis(100);
/// Threads that took fewer turns each since the last look are blocked, or slow.
const FEW: usize = 10;
/// More threads there are never: half of those a runtime has for blocking work by default.
const MOST: usize = 256;

/// The jobs of one runtime, and the threads they share.
struct Threads {
    runtime: Handle,
    shared: Mutex<Shared>,
    ready: Condvar,
}

#[derive(Default)]
struct Shared {
    /// Jobs that are ready for a turn.
    queue: VecDeque<Arc<Job>>,
    /// How many turns have begun.
    turns: usize,
    threads: usize,
    /// How many threads wait for a job.
    idle: usize,
    /// Whether a task looks after jobs that wait.
    watched: bool,
    /// How many jobs are not done.
    jobs: usize,
}

/// Counts a job for as long as it has work.
struct Counted(Arc<Threads>);

impl Threads {
    /// Those of the current runtime: there is one set while it has jobs.
    fn current() -> Arc<Self> {
        static ALL: Mutex<Vec<(Id, Weak<Threads>)>> = Mutex::new(Vec::new());
        let runtime = Handle::current();
        let id = runtime.id();
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, threads)| threads.strong_count() > 0);
        let known = all.iter().find(|(of, _)| *of == id);
        known
            .and_then(|(_, threads)| threads.upgrade())
            .unwrap_or_else(|| {
                let threads = Arc::new(Self {
                    runtime,
                    shared: Mutex::default(),
                    ready: Condvar::new(),
                });
                all.push((id, Arc::downgrade(&threads)));
                threads
            })
    }

    fn push(self: Arc<Self>, job: Arc<Job>) {
        let mut shared = self.lock();
        shared.queue.push_back(job);
        if shared.threads == 0 {
            shared.threads = 1;
            drop(shared);
            self.borrow_thread();
            return;
        }
        if shared.idle > 0 {
            self.ready.notify_one();
        }
        self.look_after(shared);
    }

    /// The next job to take a turn; none when the thread is to go.
    fn next(self: &Arc<Self>) -> Option<Arc<Job>> {
        let mut shared = self.lock();
        let (mut rested, mut waited) = (false, false);
        loop {
            if let Some(job) = shared.queue.pop_front() {
                shared.turns = shared.turns.wrapping_add(1);
                self.look_after(shared);
                return Some(job);
            }
            // It stays for a while, or bursts would start thread after thread.
            if waited || shared.jobs == 0 || is_paused() {
                shared.threads -= 1;
                return None;
            }
            if !rested {
                rested = true;
                drop(shared);
                thread::sleep(REST);
                shared = self.lock();
                continue;
            }
            shared.idle += 1;
            let (again, timeout) = self
                .ready
                .wait_timeout(shared, LINGER)
                .unwrap_or_else(PoisonError::into_inner);
            shared = again;
            shared.idle -= 1;
            waited = timeout.timed_out();
        }
    }

    /// Sees to it that a job does not wait for good behind callbacks that block.
    fn look_after(self: &Arc<Self>, mut shared: MutexGuard<'_, Shared>) {
        if shared.queue.len() > shared.idle && !shared.watched {
            shared.watched = true;
            drop(shared);
            self.runtime.spawn(self.clone().watch());
        }
    }

    async fn watch(self: Arc<Self>) {
        loop {
            let turns = self.lock().turns;
            if is_paused() {
                // A paused clock does not go on while a thread is at work.
                _ = self.runtime.spawn_blocking(|| thread::sleep(TICK)).await;
            } else {
                sleep(TICK).await;
            }
            let more = {
                let mut shared = self.lock();
                if shared.queue.is_empty() {
                    shared.watched = false;
                    return;
                }
                let slow = shared.turns.wrapping_sub(turns) < FEW * shared.threads;
                let wanted = if slow { shared.threads } else { 0 };
                let more = wanted.min(shared.queue.len()).min(MOST - shared.threads);
                shared.threads += more;
                more
            };
            for _ in 0..more {
                self.clone().borrow_thread();
            }
        }
    }

    /// Takes a thread that has been counted already.
    fn borrow_thread(self: Arc<Self>) {
        let runtime = self.runtime.clone();
        let thread = Thread(Some(self));
        runtime.spawn_blocking(move || thread.run());
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn new(threads: Arc<Threads>) -> Self {
        threads.lock().jobs += 1;
        Self(threads)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut shared = self.0.lock();
        shared.jobs -= 1;
        if shared.jobs == 0 {
            self.0.ready.notify_all();
        }
    }
}

/// What a borrowed thread does.
struct Thread(Option<Arc<Threads>>);

impl Thread {
    fn run(mut self) {
        if let Some(threads) = self.0.take() {
            while let Some(job) = threads.next() {
                job.take_turn();
            }
        }
    }
}

impl Drop for Thread {
    /// A runtime that has ended lends no thread: its jobs end, as its tasks do.
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            let left = {
                let mut shared = threads.lock();
                shared.threads -= 1;
                std::mem::take(&mut shared.queue)
            };
            left.iter().for_each(|job| job.end());
        }
    }
}

/// Whether the runtime's clock is paused, as only tests do: it stands elsewhere than the real one.
fn is_paused() -> bool {
    let before = Instant::now();
    let clock = tokio::time::Instant::now().into_std();
    clock < before || clock > Instant::now()
}

#[cfg(test)]
mod tests;
