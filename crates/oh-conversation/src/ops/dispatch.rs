//! Calling the handlers of client tools and delivering their results: one task per handle with
//! tools.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use oh_protocol::{Event, ExecutionStatus, Payload};
use oh_transport::Backoff;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    ClientTool, Conversation, Cursor, Error, ErrorKind, EventStream, LinkStatus, Result,
    WeakConversation,
    client_tools::{Dispatch, Progress, answers, called, claims, claims::Claims, heading},
};

/// Starts dispatching. `new`: the whole log is new. `resume`: also execute calls in the history
/// that have no result.
pub(crate) fn start(
    conversation: &Conversation,
    tools: Vec<ClientTool>,
    new: bool,
    resume: bool,
) -> Dispatch {
    let (sender, progress) = watch::channel(Progress::default());
    let dispatcher = Dispatcher {
        weak: conversation.downgrade(),
        tools: tools
            .iter()
            .map(|tool| (tool.name().to_owned(), tool.clone()))
            .collect(),
        progress: Arc::new(sender),
        new,
        resume,
    };
    let task = tokio::spawn(dispatcher.run()).abort_handle();
    Dispatch::new(tools, resume, progress, task)
}

struct Dispatcher {
    weak: WeakConversation,
    tools: HashMap<String, ClientTool>,
    progress: Arc<watch::Sender<Progress>>,
    new: bool,
    resume: bool,
}

impl Dispatcher {
    async fn run(self) {
        let Some(Begun {
            claims,
            mut events,
            end,
            mut seen,
        }) = self.begin().await
        else {
            return;
        };
        let mut at_work = JoinSet::new();
        // Calls that the server has not executed yet; they may wait for approval.
        let mut open = HashMap::new();
        // A call before the end may have a result behind it, from this process or another one.
        let mut executed = Vec::new();
        let mut results = HashSet::new();
        while let Some(event) = events.next_before(end).await {
            let Ok(event) = event else {
                return;
            };
            results.extend(answers(&event));
            seen = Some(event.id().into());
            executed.extend(self.executed(&event, &mut open));
        }
        executed.retain(|call| !results.contains(&call.action));
        for call in executed {
            self.dispatch(call, self.resume, &claims, &mut at_work);
        }
        self.progress.send_modify(|progress| progress.seen = seen);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                Some(_) = at_work.join_next(), if !at_work.is_empty() => continue,
            };
            let Some(Ok(event)) = event else {
                return;
            };
            if let Some(call) = self.executed(&event, &mut open) {
                self.dispatch(call, false, &claims, &mut at_work);
            }
            let seen = Some(event.id().into());
            self.progress.send_modify(|progress| progress.seen = seen);
        }
    }

    /// Returns the call of a client tool whose execution an event shows. Adds a call to those that
    /// the server has not executed, and removes one that was rejected. The server logs an
    /// observation for a client tool's call as soon as the call is approved or needs no approval.
    fn executed(&self, event: &Event, open: &mut HashMap<String, Event>) -> Option<Executed> {
        if called(event).is_some_and(|name| self.tools.contains_key(name)) {
            open.insert(event.id().to_owned(), event.clone());
        }
        match (event.kind(), event.payload()) {
            ("UserRejectObservation", Payload::UserReject(body)) => {
                open.remove(&*body.action_id);
                None
            }
            ("ObservationEvent", Payload::Observation(body)) => {
                let tool = self.tools.get(&*body.tool_name)?;
                Some(Executed {
                    event: open.remove(&*body.action_id),
                    action: body.action_id.to_string(),
                    tool: tool.clone(),
                })
            }
            _ => None,
        }
    }

    /// Calls the handler of a call, unless this process has called it. With `again`, the handler is
    /// called again if it was interrupted.
    fn dispatch(
        &self,
        call: Executed,
        again: bool,
        claims: &Arc<Claims>,
        at_work: &mut JoinSet<()>,
    ) {
        let Some(claim) = claims.claim(&call.action, again) else {
            return;
        };
        self.progress.send_modify(|progress| progress.at_work += 1);
        let work = AtWork(self.progress.clone());
        let weak = self.weak.clone();
        at_work.spawn(async move {
            let Executed {
                action,
                event,
                tool,
            } = call;
            let event = match event {
                Some(event) => Some(event),
                None => fetch(&weak, &action).await,
            };
            // A tool of the server may have the same name.
            if let Some(event) = event
                && called(&event) == Some(tool.name())
            {
                carry_out(weak, tool, event, &work).await;
            }
            drop(claim);
        });
    }

    /// Waits until the log has arrived, so that history can be distinguished from new events.
    async fn begin(&self) -> Option<Begun> {
        let mut changes = self.weak.upgrade()?.changes();
        loop {
            changes.borrow_and_update();
            let conversation = self.weak.upgrade()?;
            let (link, last, log, numbered) = {
                let held = conversation.mirror().read();
                let numbered = held.confirmed() == held.log.end();
                (held.link, held.cursor, held.log.clone(), numbered)
            };
            if self.new || (link.is_up() && numbered) {
                let server = conversation.client().base_url().as_str();
                if self.new {
                    // Another program may have deleted an earlier conversation with this id.
                    claims::forget(server, conversation.id());
                }
                let history = || if self.new { -1 } else { last };
                let claims = Claims::of(server, conversation.id(), history);
                let events = match self.resume {
                    true => conversation.subscribe_skipping(Cursor::Start),
                    // All of the log is history, whether its numbers are the server's or not.
                    false if claims.history() == last => conversation.subscribe_at(log.end()),
                    false => conversation.subscribe_skipping(Cursor::after(claims.history())),
                };
                let (end, seen) = match self.new {
                    true => (0, None),
                    false => (log.end(), log.last().map(|event| event.id().into())),
                };
                return Some(Begun {
                    claims,
                    events,
                    end,
                    seen,
                });
            }
            if link == LinkStatus::Ended {
                return None;
            }
            drop((conversation, log));
            changes.changed().await.ok()?;
        }
    }
}

/// The input of the dispatcher.
struct Begun {
    claims: Arc<Claims>,
    events: EventStream,
    /// Index after the newest event at the beginning.
    end: usize,
    /// The id of that event.
    seen: Option<Box<str>>,
}

/// A call of a client tool that the server has executed.
struct Executed {
    action: String,
    /// The call, if the stream has shown it.
    event: Option<Event>,
    tool: ClientTool,
}

/// Fetches a call that is older than the first event of the stream: it waited for approval. Returns
/// `None` if the server does not have it, or the link has ended.
async fn fetch(weak: &WeakConversation, action: &str) -> Option<Event> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        let conversation = weak.upgrade()?;
        if conversation.ended().is_some() {
            return None;
        }
        let held = conversation.events();
        if let Some(event) = held.iter().rev().find(|event| event.id() == action) {
            return Some(event.clone());
        }
        match conversation.log().event(action).await {
            Ok(event) => return Some(event),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => {
                return None;
            }
            Err(error) => debug!(
                conversation = %conversation.id(),
                %error,
                "cannot read the call of a client tool; trying again"
            ),
        }
        drop((conversation, held));
        sleep(backoff.next_delay()).await;
    }
}

/// Counts a handler while it is running, however it ends.
struct AtWork(Arc<watch::Sender<Progress>>);

impl AtWork {
    fn delivered(&self) {
        self.0.send_modify(|progress| progress.delivered += 1);
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.send_modify(|progress| progress.at_work -= 1);
    }
}

async fn carry_out(weak: WeakConversation, tool: ClientTool, event: Event, work: &AtWork) {
    let Some(conversation) = weak.upgrade().map(|conversation| conversation.id()) else {
        return;
    };
    debug!(%conversation, tool = tool.name(), action = event.id(), "calling a client tool");
    let heading = heading(tool.name(), &event);
    if let Some(text) = tool.call(conversation, event.clone()).await {
        deliver(&weak, &event, &heading, &text, work).await;
    }
}

/// Maximum number of times that a gateway may forbid a result before the result is given up: a
/// server that is starting does so for a moment.
const FORBIDDEN: u32 = 5;

/// Counts the rejections of one result.
#[derive(Default)]
struct Rejections {
    forbidden: u32,
    /// Whether the result was replaced with the reason of its rejection.
    replaced: bool,
}

impl Rejections {
    /// Counts a failure. Returns whether another attempt would be rejected too.
    fn is_final(&mut self, error: &Error) -> bool {
        match error.kind() {
            ErrorKind::Validation | ErrorKind::InvalidInput | ErrorKind::Status => true,
            ErrorKind::Forbidden => {
                self.forbidden += 1;
                self.forbidden >= FORBIDDEN
            }
            _ => false,
        }
    }
}

/// Sends a result until it is in the log, or the conversation is closed. For a result that is
/// rejected, the agent receives the reason.
async fn deliver(
    weak: &WeakConversation,
    action: &Event,
    heading: &str,
    text: &str,
    work: &AtWork,
) {
    let mut text = format!("{heading}\n{text}");
    let mut rejections = Rejections::default();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    // How often the server must confirm that it does not have a result that may have been accepted.
    let mut doubts = 0;
    loop {
        let Some(conversation) = weak.upgrade() else {
            return;
        };
        if conversation.ended().is_some() {
            return;
        }
        let logged = |event: &Event| answers(event).as_deref() == Some(action.id());
        if conversation.events().iter().rev().any(logged) {
            return work.delivered();
        }
        if doubts > 0 {
            match is_taken(&conversation, action).await {
                Ok(true) => return work.delivered(),
                // A message that arrives during a step is logged when the step has ended.
                Ok(false) if !conversation.state().execution_status().is_running() => doubts -= 1,
                Ok(false) => {}
                Err(error) => debug!(
                    conversation = %conversation.id(),
                    %error,
                    "cannot check whether the server received a client tool's result; trying again"
                ),
            }
            if doubts > 0 {
                drop(conversation);
                sleep(backoff.next_delay()).await;
                continue;
            }
        }
        // Only saved: a running agent picks up the message itself, and a new run needs further
        // checks.
        let message = conversation.send(text.clone()).even_if_pending();
        match message.await {
            Ok(()) => {
                work.delivered();
                return set_to_work(&conversation).await;
            }
            Err(error) if error.kind() == ErrorKind::Unauthorized => {
                warn!(
                    conversation = %conversation.id(),
                    %error,
                    "cannot deliver a client tool's result: the session key was rejected"
                );
                return;
            }
            Err(error) if rejections.is_final(&error) => {
                warn!(
                    conversation = %conversation.id(),
                    %error,
                    "a client tool's result was rejected"
                );
                if std::mem::replace(&mut rejections.replaced, true) {
                    return;
                }
                let status = error.status().map(|status| status.to_string());
                let status = status.unwrap_or_else(|| "the message is invalid".into());
                text = format!("{heading}\nThe result could not be delivered: {status}.");
            }
            Err(error) => {
                debug!(
                    conversation = %conversation.id(),
                    %error,
                    "could not deliver a client tool's result; trying again"
                );
                doubts = if error.kind() == ErrorKind::Ambiguous {
                    2
                } else {
                    0
                };
            }
        }
        drop(conversation);
        sleep(backoff.next_delay()).await;
    }
}

/// Starts a run for a result that arrived when the agent had finished. Does not run if a user has
/// stopped the agent, the budget of the run is reached, or while an action waits for approval,
/// because the run would execute it.
async fn set_to_work(conversation: &Conversation) {
    let status = conversation.mirror().read().status();
    let done = match status {
        ExecutionStatus::Finished | ExecutionStatus::Running => true,
        // Caused by this result or another one that arrived after the end.
        ExecutionStatus::Idle => true,
        _ => false,
    };
    let starts = conversation
        .client_tools()
        .is_some_and(Dispatch::starts_runs);
    if !done || !starts {
        return;
    }
    let limit = conversation.limits().wedged;
    match timeout(limit, conversation.start_run(|| ())).await {
        Ok(Ok(_)) | Err(_) => {}
        // The result is read in the next run.
        Ok(Err(error)) => {
            debug!(
                conversation = %conversation.id(),
                %error,
                "could not start a run for a client tool's result; the agent reads it in the next \
                 run"
            );
        }
    }
}

/// Returns whether the server's log has the result of a call.
async fn is_taken(conversation: &Conversation, action: &Event) -> Result<bool> {
    let mut found = conversation.log().search().source("user").body(action.id());
    while let Some(event) = found.next().await {
        if answers(&event?).as_deref() == Some(action.id()) {
            return Ok(true);
        }
    }
    Ok(false)
}
