//! The state of a fake cluster that all its parts share.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::watch, task::JoinSet};

use crate::kubernetes::{
    clock::Clock,
    pod::{Factory, Pod},
    refusal::Refusal,
    store::{Key, Store},
};

/// The token that the API accepts.
pub(crate) const TOKEN: &str = "fake-cluster-token";
/// The group of claims.
pub(crate) const EXTENSIONS: &str = "extensions.agents.x-k8s.io";
/// The group of sandboxes.
pub(crate) const AGENTS: &str = "agents.x-k8s.io";

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) pods: Factory,
    pub(crate) namespace: String,
    pub(crate) warm_pool: String,
    /// The version in which the cluster serves agent-sandbox, if it does.
    pub(crate) version: Option<String>,
    pub(crate) state: Mutex<State>,
    /// Counts how often watches were cut.
    pub(crate) cuts: watch::Sender<u64>,
    /// Counts the lines that pods have written.
    pub(crate) written: watch::Sender<u64>,
    /// The tasks that end with the cluster.
    tasks: Mutex<JoinSet<()>>,
}

/// The part of the state that changes while the cluster runs.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) running: BTreeMap<Key, Pod>,
    pub(crate) rejections: Vec<Rejection>,
    /// The failures of the next claims.
    pub(crate) failures: VecDeque<Failure>,
    pub(crate) requests: BTreeMap<String, usize>,
    /// The output of pods, with the time of each line.
    pub(crate) logs: BTreeMap<Key, Vec<(jiff::Timestamp, String)>>,
    pub(crate) is_down: bool,
}

/// A failure that a claim gets instead of a ready sandbox.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// A condition with this reason and message.
    Condition(String, String),
    /// A pod whose container waits for this reason.
    Waiting(String, String),
}

/// An error for the next requests of a kind.
#[derive(Debug, Clone)]
pub(crate) struct Rejection {
    pub(crate) verb: String,
    pub(crate) plural: String,
    pub(crate) refusal: Refusal,
    pub(crate) left: usize,
}

impl World {
    pub(crate) fn new(
        pods: Factory,
        namespace: String,
        warm_pool: String,
        version: Option<String>,
    ) -> Self {
        Self {
            store: Store::new(),
            clock: Clock::default(),
            pods,
            namespace,
            warm_pool,
            version,
            state: Mutex::default(),
            cuts: watch::Sender::new(0),
            written: watch::Sender::new(0),
            tasks: Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Executes a task that ends with the cluster.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Ends all tasks.
    pub(crate) fn end(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.abort_all();
    }

    /// Counts a request, and returns the error that the test has set for it.
    pub(crate) fn received(&self, verb: &str, plural: &str) -> Result<(), Refusal> {
        let mut state = self.state();
        *state
            .requests
            .entry(format!("{verb} {plural}"))
            .or_default() += 1;
        let mut set = state.rejections.iter_mut();
        let hit = set.find(|rejection| {
            rejection.left > 0 && rejection.verb == verb && rejection.plural == plural
        });
        match hit {
            Some(rejection) => {
                rejection.left -= 1;
                Err(rejection.refusal.clone())
            }
            None => Ok(()),
        }
    }
}
