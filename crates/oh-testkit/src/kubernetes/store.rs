//! The objects of a fake cluster, with their versions and the changes that watches read.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::kubernetes::{clock, refusal::Refusal};

/// The name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) plural: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(plural: &str, namespace: &str, name: &str) -> Self {
        Self {
            plural: plural.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn missing(&self) -> Refusal {
        let message = format!("{} {:?} not found", self.plural, self.name);
        Refusal::new(404, "NotFound", message)
    }
}

/// A change of an object, as a watch sends it.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub(crate) kind: &'static str,
    pub(crate) key: Key,
    pub(crate) object: Value,
}

/// The part of an object that a request may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status.
    Main,
    /// The status only.
    Status,
}

#[derive(Debug)]
pub(crate) struct Store {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    /// Versions before this one are forgotten.
    oldest: u64,
    objects: BTreeMap<Key, Value>,
    history: VecDeque<Change>,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a receiver of the newest version.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn get(&self, key: &Key) -> Result<Value, Refusal> {
        let state = self.state();
        let found = state.objects.get(key).cloned();
        found.ok_or_else(|| key.missing())
    }

    /// Returns the objects of a kind in a namespace, and the version of the list.
    pub(crate) fn list(&self, plural: &str, namespace: &str) -> (Vec<Value>, u64) {
        let state = self.state();
        let all = state.objects.iter();
        let found = all.filter(|(key, _)| key.plural == plural && key.namespace == namespace);
        let items = found.map(|(_, object)| object.clone()).collect();
        (items, state.version)
    }

    pub(crate) fn create(&self, key: Key, mut object: Value) -> Result<Value, Refusal> {
        let mut state = self.state();
        if state.objects.contains_key(&key) {
            let message = format!("{} {:?} already exists", key.plural, key.name);
            return Err(Refusal::new(409, "AlreadyExists", message));
        }
        let metadata = &mut object["metadata"];
        metadata["namespace"] = json!(key.namespace);
        metadata["uid"] = json!(uuid::Uuid::new_v4().to_string());
        metadata["generation"] = json!(1);
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = json!(clock::text(jiff::Timestamp::now()));
        }
        let stored = state.put("ADDED", key, object);
        self.notify(state);
        Ok(stored)
    }

    /// Changes an object. Fails with a conflict if `change` sets another version than the newest.
    pub(crate) fn update(
        &self,
        key: &Key,
        part: Part,
        change: impl FnOnce(&mut Value),
    ) -> Result<Value, Refusal> {
        let mut state = self.state();
        let before = state.objects.get(key).ok_or_else(|| key.missing())?.clone();
        let mut object = before.clone();
        change(&mut object);
        if object["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"] {
            let message = format!(
                "Operation cannot be fulfilled on {} {:?}: the object has been modified; please \
                 apply your changes to the latest version and try again",
                key.plural, key.name
            );
            return Err(Refusal::new(409, "Conflict", message));
        }
        match part {
            Part::Main => object["status"] = before["status"].clone(),
            Part::Status => {
                let status = object["status"].take();
                object = before.clone();
                object["status"] = status;
            }
        }
        for fixed in [
            "name",
            "namespace",
            "uid",
            "creationTimestamp",
            "generation",
        ] {
            object["metadata"][fixed] = before["metadata"][fixed].clone();
        }
        if object["spec"] != before["spec"] {
            let generation = before["metadata"]["generation"]
                .as_u64()
                .unwrap_or_default();
            object["metadata"]["generation"] = json!(generation + 1);
        }
        if object == before {
            return Ok(before);
        }
        let stored = state.put("MODIFIED", key.clone(), object);
        self.notify(state);
        Ok(stored)
    }

    pub(crate) fn delete(&self, key: &Key) -> Result<Value, Refusal> {
        let mut state = self.state();
        let removed = state.objects.remove(key).ok_or_else(|| key.missing())?;
        let last = state.record("DELETED", key.clone(), removed);
        self.notify(state);
        Ok(last)
    }

    /// Returns the changes after a version, and the newest version. Fails if they are forgotten.
    pub(crate) fn since(
        &self,
        version: u64,
        matches: impl Fn(&Key) -> bool,
    ) -> Result<(Vec<Change>, u64), Refusal> {
        let state = self.state();
        if version < state.oldest {
            let message = format!("too old resource version: {version} ({})", state.oldest);
            return Err(Refusal::new(410, "Expired", message));
        }
        let first = state
            .history
            .partition_point(|change| change.version <= version);
        let newer = state.history.range(first..);
        let found = newer.filter(|change| matches(&change.key)).cloned();
        Ok((found.collect(), state.version))
    }

    /// Forgets all changes, so that watches from an older version fail with 410.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        // The version moves on, so that no client is up to date.
        state.version += 1;
        state.oldest = state.version;
        state.history.clear();
    }

    fn notify(&self, state: MutexGuard<'_, State>) {
        let version = state.version;
        drop(state);
        self.changed.send_replace(version);
    }
}

impl State {
    fn put(&mut self, kind: &'static str, key: Key, object: Value) -> Value {
        let object = self.record(kind, key.clone(), object);
        self.objects.insert(key, object.clone());
        object
    }

    fn record(&mut self, kind: &'static str, key: Key, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.history.push_back(Change {
            version: self.version,
            kind,
            key,
            object: object.clone(),
        });
        object
    }
}

/// Applies a JSON merge patch (RFC 7386).
pub(crate) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(fields) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        match value {
            Value::Null => {
                if let Some(target) = target.as_object_mut() {
                    target.remove(&name);
                }
            }
            value => merge(&mut target[name.as_str()], value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new("sandboxclaims", "default", "one")
    }

    fn store() -> Store {
        let store = Store::new();
        store
            .create(
                key(),
                json!({"metadata": {"name": "one"}, "spec": {"a": 1}}),
            )
            .unwrap();
        store
    }

    #[test]
    fn a_change_with_an_old_version_is_a_conflict() {
        let store = store();
        let old = store.get(&key()).unwrap()["metadata"]["resourceVersion"].clone();
        let change = |patch: Value| store.update(&key(), Part::Main, |object| merge(object, patch));
        let spec = json!({"spec": {"a": 2}});
        assert_eq!(change(spec).unwrap()["metadata"]["generation"], 2);
        let stale = json!({"metadata": {"resourceVersion": old}, "spec": {"a": 3}});
        assert_eq!(change(stale).unwrap_err().code, 409);
        assert_eq!(store.get(&key()).unwrap()["spec"]["a"], 2);
    }

    #[test]
    fn the_status_is_changed_only_by_its_subresource() {
        let store = store();
        let both = |object: &mut Value| {
            object["spec"] = json!({"a": 9});
            object["status"] = json!({"b": 9});
        };
        let status = store.update(&key(), Part::Status, both).unwrap();
        assert_eq!(
            (&status["spec"]["a"], &status["status"]["b"]),
            (&json!(1), &json!(9))
        );
        let main = store
            .update(&key(), Part::Main, |object| object["status"] = json!(0))
            .unwrap();
        assert_eq!(main["status"]["b"], 9);
    }

    #[test]
    fn forgotten_versions_are_gone() {
        let store = store();
        assert_eq!(store.since(0, |_| true).unwrap().0.len(), 1);
        store.forget();
        assert_eq!(store.since(1, |_| true).unwrap_err().code, 410);
        let (_, newest) = store.list("sandboxclaims", "default");
        assert!(store.since(newest, |_| true).unwrap().0.is_empty());
    }
}
