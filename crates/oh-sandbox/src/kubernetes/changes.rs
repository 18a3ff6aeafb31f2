//! Follows one object of the cluster through cut and expired watches.

use futures_util::{StreamExt, stream::BoxStream};
use kube::{
    Api, Resource,
    api::{WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use tracing::debug;

use crate::kubernetes::{refused, waiting::Backoff};

/// The successive states of an object.
pub(crate) struct Changes<K> {
    api: Api<K>,
    name: String,
    /// The version of the newest state that was returned.
    version: String,
    events: Option<BoxStream<'static, kube::Result<WatchEvent<K>>>>,
    backoff: Backoff,
}

impl<K> Changes<K>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    /// Follows an object from this version.
    pub(crate) fn since(api: Api<K>, name: String, version: String) -> Self {
        Self {
            api,
            name,
            version,
            events: None,
            backoff: Backoff::new(),
        }
    }

    /// Returns the next state, or `None` if the object was deleted. Requests that fail for a reason
    /// that passes are repeated. Cancel-safe.
    pub(crate) async fn next(&mut self) -> kube::Result<Option<K>> {
        loop {
            let Some(events) = &mut self.events else {
                let only = format!("metadata.name={}", self.name);
                let params = WatchParams::default().fields(&only);
                match self.api.watch(&params, &self.version).await {
                    Ok(events) => self.events = Some(events.boxed()),
                    Err(error) => return self.after(error).await,
                }
                continue;
            };
            match events.next().await {
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    self.backoff.reset();
                    self.seen(&object);
                    return Ok(Some(object));
                }
                Some(Ok(WatchEvent::Deleted(_))) => return Ok(None),
                Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                    self.backoff.reset();
                    self.version = bookmark.metadata.resource_version;
                }
                Some(Ok(WatchEvent::Error(status))) => {
                    return self.after(kube::Error::Api(status)).await;
                }
                Some(Err(error)) => return self.after(error).await,
                // The cluster ends each watch after some minutes. A gateway may end it at once.
                None => {
                    self.events = None;
                    self.backoff.wait(None).await;
                }
            }
        }
    }

    /// Reads the object after a watch has failed. The versions since the last event may be lost
    /// (410), so the current state decides.
    async fn after(&mut self, error: kube::Error) -> kube::Result<Option<K>> {
        self.events = None;
        let expired = matches!(&error, kube::Error::Api(status) if status.code == 410);
        if !expired && !refused::is_transient(&error) {
            return Err(error);
        }
        let mut failed = error;
        loop {
            debug!(error = %failed, name = %self.name, "a watch has failed; reading the object");
            self.backoff.wait(refused::retry_after(&failed)).await;
            match self.api.get_opt(&self.name).await {
                Ok(Some(object)) => {
                    self.seen(&object);
                    return Ok(Some(object));
                }
                Ok(None) => return Ok(None),
                Err(error) if refused::is_transient(&error) => failed = error,
                Err(error) => return Err(error),
            }
        }
    }

    fn seen(&mut self, object: &K) {
        if let Some(version) = &object.meta().resource_version {
            self.version.clone_from(version);
        }
    }
}
