//! Links shared by the handles of one process: each conversation has one socket and one mirror,
//! regardless of the number of handles.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use oh_protocol::{ConversationId, calls::events::Count, state::ConversationInfo};
use oh_transport::{Backoff, Client};
use tokio::runtime::{Handle, Id};

use crate::{
    Error, Result,
    limits::Limits,
    link::{
        tokens::{Readers, Tokens},
        watcher::{Stop, Watcher},
    },
    lock::lock,
    mirror::{Mirror, answered::Answered, head::Asked},
};

/// The position in the log at which a mirror starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Begin {
    /// At the first event.
    #[default]
    Start,
    /// With this many of the newest events.
    Tail(usize),
    /// After the event with this `seq`.
    After(u64),
}

/// The options of a link.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinkOptions {
    pub(crate) begin: Begin,
    /// The minimum number of events to keep; `None` keeps all.
    pub(crate) keep: Option<usize>,
    /// Shared with the mirror and the watcher of the link.
    pub(crate) limits: Arc<Limits>,
}

impl LinkOptions {
    /// Returns the limits, to change them.
    pub(crate) fn limits(&mut self) -> &mut Limits {
        Arc::make_mut(&mut self.limits)
    }
}

/// A link and its mirror.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) tokens: Readers,
    pub(crate) head: Asked,
    /// Stops the watcher, also when this is dropped.
    stop: Arc<Stop>,
    /// How many handles are open.
    open: AtomicUsize,
    runtime: Id,
    pub(crate) options: LinkOptions,
}

type Links = HashMap<ConversationId, Vec<Weak<Shared>>>;

static LINKS: LazyLock<Mutex<Links>> = LazyLock::new(Mutex::default);

impl Shared {
    /// Joins the link of another handle in this process, if its options are compatible.
    fn join(client: &Client, id: ConversationId, options: &LinkOptions) -> Option<Arc<Self>> {
        let runtime = Handle::current().id();
        // A link to an earlier conversation with this id may not have noticed its end yet.
        let answered = Answered::of(client.base_url().as_str(), id);
        let mut links = lock(&LINKS);
        let known = links.get_mut(&id)?;
        known.retain(|link| link.strong_count() > 0);
        let found = known.iter().filter_map(Weak::upgrade).find(|link| {
            let whole = link.options.keep.is_none() && link.options.begin == Begin::Start;
            let same = link.options.keep == options.keep
                && link.options.begin == options.begin
                && matches!(link.options.begin, Begin::Start);
            link.runtime == runtime
                && link.client.is_same(client)
                && link.options.limits == options.limits
                && (whole || same)
                && Arc::ptr_eq(&link.mirror.answered, &answered)
                && !link.stop.is_asked()
                && link.mirror.read().ended.is_none()
        })?;
        found.open.fetch_add(1, Ordering::AcqRel);
        Some(found)
    }

    /// Joins a link or creates one. Returns whether it was joined.
    pub(crate) async fn link(
        client: Client,
        info: ConversationInfo,
        options: &LinkOptions,
    ) -> Result<(Arc<Self>, bool)> {
        let id = info.id();
        if let Some(link) = Self::join(&client, id, options) {
            return Ok((link, true));
        }
        let state = info.state().clone();
        // Dropped now, because snapshots will replace it.
        drop(info);
        let base = begin_at(&client, id, options.begin).await?;
        let limits = options.limits.clone();
        let answered = Answered::of(client.base_url().as_str(), id);
        let keep = options.keep;
        let (writer, mirror) = Mirror::new(id, state, keep, base, limits.clone(), answered);
        let tokens = Tokens::default();
        let readers = tokens.readers();
        let backoff = Backoff::new(limits.backoff.0, limits.backoff.1);
        let stop = Arc::new(Stop::default());
        let watcher = Watcher::new(client.clone(), writer, tokens, stop.clone(), backoff);
        tokio::spawn(watcher.run());
        let link = Arc::new(Self {
            client,
            mirror,
            tokens: readers,
            head: Asked::default(),
            stop,
            open: AtomicUsize::new(1),
            runtime: Handle::current().id(),
            options: options.clone(),
        });
        let mut links = lock(&LINKS);
        links.retain(|_, known| known.iter().any(|link| link.strong_count() > 0));
        links.entry(id).or_default().push(Arc::downgrade(&link));
        Ok((link, false))
    }

    /// Releases one handle; the last one stops the link. Returns whether it was the last.
    pub(crate) fn release(&self) -> bool {
        // Under the lock, so that no handle joins a link that is being stopped.
        let _links = lock(&LINKS);
        let last = self.open.fetch_sub(1, Ordering::AcqRel) == 1;
        if last {
            self.stop.ask();
        }
        last
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.ask();
    }
}

/// Returns the `seq` at which a mirror begins. A window includes the event at a cursor, because it
/// identifies the log.
///
/// The link fetches the events: by socket, which reports their `seq`s, or else by REST.
async fn begin_at(client: &Client, id: ConversationId, begin: Begin) -> Result<usize> {
    if begin == Begin::Start {
        return Ok(0);
    }
    let length = client.call(&Count::new(id)).await;
    let length = length.map_err(|error| Error::transport(id, "count the events", error))?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Ok(match begin {
        Begin::Start => 0,
        Begin::Tail(events) => length.saturating_sub(events.max(1)),
        Begin::After(seq) => usize::try_from(seq)
            .unwrap_or(usize::MAX)
            .min(length.saturating_sub(1)),
    })
}
