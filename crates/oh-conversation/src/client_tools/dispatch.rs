//! Calling handlers and delivering what they say: one task per handle that has tools.

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use oh_protocol::{Event, ExecutionStatus, Payload};
use oh_transport::Backoff;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};

use super::{ClientTool, ClientToolCall, ToolResult, answers, called, claims::Claims, heading};
use crate::{
    Conversation, Cursor, ErrorKind, EventStream, Link, Result, Run, RunOutcome, RunStatus,
    conversation::{WeakConversation, after},
};

/// How far dispatching is.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// The event that was looked at last.
    seen: Option<Box<str>>,
    at_work: usize,
    /// How many results have been delivered.
    delivered: u64,
}

/// The task that dispatches. Dropping it ends the handlers.
#[derive(Debug)]
pub(crate) struct Dispatch {
    tools: Vec<ClientTool>,
    progress: watch::Receiver<Progress>,
    task: AbortHandle,
}

impl Drop for Dispatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Dispatch {
    /// `new`: the whole log is yet to be dispatched. `resume`: what history has no result for,
    /// too.
    pub(crate) fn start(
        conversation: &Conversation,
        tools: Vec<ClientTool>,
        new: bool,
        resume: bool,
    ) -> Self {
        let (sender, progress) = watch::channel(Progress::default());
        let dispatcher = Dispatcher {
            weak: conversation.downgrade(),
            tools: tools
                .iter()
                .map(|tool| (tool.name.clone(), tool.clone()))
                .collect(),
            progress: Arc::new(sender),
            new,
            resume,
        };
        let task = tokio::spawn(dispatcher.run()).abort_handle();
        Self {
            tools,
            progress,
            task,
        }
    }

    /// The tools, for a copy of the conversation.
    pub(crate) fn tools(&self) -> &[ClientTool] {
        &self.tools
    }

    pub(crate) fn stop(&self) {
        self.task.abort();
    }
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
            cut_off,
        }) = self.begin().await
        else {
            return;
        };
        let mut at_work = JoinSet::new();
        // Calls that the server has not executed yet: they may wait for approval.
        let mut open = HashMap::new();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                Some(_) = at_work.join_next(), if !at_work.is_empty() => continue,
            };
            let Some(Ok(event)) = event else {
                return;
            };
            if called(&event).is_some_and(|name| self.tools.contains_key(name)) {
                open.insert(event.id().to_owned(), event.clone());
            }
            if let Some(action) = self.answered(&event, &mut open)
                && let Some(tool) = called(&action).and_then(|name| self.tools.get(name))
            {
                let has = |set: fn(&CutOff) -> &HashSet<String>| {
                    cut_off
                        .as_ref()
                        .is_some_and(|old| set(old).contains(action.id()))
                };
                let (passed, again) = (has(|old| &old.passed), has(|old| &old.unanswered));
                if executed(&event)
                    && !passed
                    && let Some(claim) = claims.claim(action.id(), again)
                {
                    self.progress.send_modify(|progress| progress.at_work += 1);
                    let work = AtWork(self.progress.clone());
                    let (tool, weak) = (tool.clone(), self.weak.clone());
                    at_work.spawn(async move {
                        carry_out(weak, tool, action, &work).await;
                        drop(claim);
                    });
                }
            }
            let seen = Some(event.id().into());
            self.progress.send_modify(|progress| progress.seen = seen);
        }
    }

    /// The call of a client tool that an event answers: the server has executed it, or somebody
    /// has rejected it.
    fn answered(&self, event: &Event, open: &mut HashMap<String, Event>) -> Option<Event> {
        if !matches!(event.kind(), "ObservationEvent" | "UserRejectObservation") {
            return None;
        }
        let (tool, id) = match event.payload() {
            Payload::Observation(body) => (&body.tool_name, &body.action_id),
            Payload::UserReject(body) => (&body.tool_name, &body.action_id),
            _ => return None,
        };
        if !self.tools.contains_key(&**tool) {
            return None;
        }
        if let Some(action) = open.remove(&**id) {
            return Some(action);
        }
        // It is history, and has waited for approval until now.
        let events = self.weak.upgrade()?.events();
        let mut held = events.iter().rev();
        held.find(|event| event.id() == &**id).cloned()
    }

    /// Waits for the log to be here, so that history can be told from what is new.
    async fn begin(&self) -> Option<Begun> {
        let mut changes = self.weak.upgrade()?.changes();
        loop {
            changes.borrow_and_update();
            let conversation = self.weak.upgrade()?;
            let (link, last) = {
                let held = conversation.mirror().read();
                (held.link, held.cursor)
            };
            if self.new || link == Link::Live {
                let server = conversation.client().base_url().as_str();
                let history = || if self.new { -1 } else { last };
                let claims = Claims::of(server, conversation.id(), history);
                let (cursor, cut_off) = match self.resume {
                    true => (Cursor::Start, Some(CutOff::among(&conversation))),
                    false => (after(claims.history()), None),
                };
                let events = conversation.subscribe(cursor);
                return Some(Begun {
                    claims,
                    events,
                    cut_off,
                });
            }
            if link == Link::Ended {
                return None;
            }
            drop(conversation);
            changes.changed().await.ok()?;
        }
    }
}

/// What there is to dispatch.
struct Begun {
    claims: Arc<Claims>,
    events: EventStream,
    /// Where those are asked for.
    cut_off: Option<CutOff>,
}

/// Calls of history: those with a result, and those without.
#[derive(Default)]
struct CutOff {
    passed: HashSet<String>,
    unanswered: HashSet<String>,
}

impl CutOff {
    fn among(conversation: &Conversation) -> Self {
        let events = conversation.events();
        let passed: HashSet<String> = events.iter().filter_map(answers).collect();
        let calls = events.iter().filter(|event| called(event).is_some());
        let unanswered = calls.map(|event| event.id().to_owned());
        let unanswered = unanswered.filter(|id| !passed.contains(id)).collect();
        Self { passed, unanswered }
    }
}

/// Whether the server has executed the action that an event answers. Of a client tool's call it
/// says so as soon as nothing stands in its way.
fn executed(event: &Event) -> bool {
    event.kind() == "ObservationEvent"
}

/// Counts a handler for as long as it is at work, however it ends.
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
    debug!(%conversation, tool = tool.name(), action = event.id(), "a client tool is called");
    let heading = heading(tool.name(), &event);
    let call = ClientToolCall {
        conversation,
        event: event.clone(),
    };
    // Made within, too: a handler may panic before it gives its future.
    let handling = async { (tool.handler)(call).await };
    let result = AssertUnwindSafe(handling).catch_unwind().await;
    let result = result.unwrap_or_else(|_| ToolResult::text("It failed: the tool panicked."));
    if let ToolResult(Some(text)) = result {
        deliver(&weak, &event, format!("{heading}\n{text}"), work).await;
    }
}

/// Sends a result until it is in the log, or nobody is left to send it.
async fn deliver(weak: &WeakConversation, action: &Event, text: String, work: &AtWork) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    // How often the server must say that it has not taken what it may have taken.
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
                // What comes during a step is taken when the step has ended.
                Ok(false) if !conversation.state().execution_status().is_running() => doubts -= 1,
                Ok(false) => {}
                Err(error) => debug!(conversation = %conversation.id(), %error, "in doubt"),
            }
            if doubts > 0 {
                drop(conversation);
                sleep(backoff.next_delay()).await;
                continue;
            }
        }
        // Only saved: a running agent reads it by itself, and what sets one to work looks first.
        let message = conversation.send(text.clone()).even_if_pending();
        match message.await {
            Ok(()) => {
                work.delivered();
                return set_to_work(&conversation).await;
            }
            Err(error) if error.kind() == ErrorKind::Unauthorized => {
                warn!(conversation = %conversation.id(), %error, "a client tool's result is lost");
                return;
            }
            Err(error) => {
                debug!(conversation = %conversation.id(), %error, "a result is yet to be delivered");
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

/// Lets the agent read a result that came when it was done. Not where a person has stopped it, nor
/// where an action waits for approval: a run would execute it.
async fn set_to_work(conversation: &Conversation) {
    let status = conversation.mirror().read().status();
    let done = match status {
        ExecutionStatus::Finished | ExecutionStatus::Running => true,
        // For this result or another one, which came when it had finished.
        ExecutionStatus::Idle => true,
        _ => false,
    };
    if !done {
        return;
    }
    let limit = conversation.limits().wedged;
    match timeout(limit, conversation.start_run(|| ())).await {
        Ok(Ok(_)) | Err(_) => {}
        // The next run reads it.
        Ok(Err(error)) => {
            debug!(conversation = %conversation.id(), %error, "a result waits for the next run");
        }
    }
}

/// Whether the server's log has the result of a call.
async fn is_taken(conversation: &Conversation, action: &Event) -> Result<bool> {
    let mut found = conversation
        .search_events()
        .source("user")
        .body(action.id());
    while let Some(event) = found.next().await {
        if answers(&event?).as_deref() == Some(action.id()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs until the agent has heard from every client tool it called.
pub(crate) async fn until_settled(run: Run) -> Result<RunOutcome> {
    let conversation = &run.conversation().clone();
    let Some(mut progress) = conversation
        .client_tools()
        .map(|tools| tools.progress.clone())
    else {
        return run.clone().once().await;
    };
    let begun = Instant::now();
    let mut outcome = run.clone().once().await?;
    loop {
        match outcome.status() {
            RunStatus::Finished => {}
            // A result came too late for the run, and no other was begun for it.
            RunStatus::Idle if unread(conversation) => {}
            _ => return Ok(outcome),
        }
        let last = conversation
            .events()
            .iter()
            .next_back()
            .map(|event| event.id().to_owned());
        let before = progress.borrow().delivered;
        let settled = async {
            let settled = progress.wait_for(|now| {
                now.at_work == 0 && has_seen(conversation, now.seen.as_deref(), last.as_deref())
            });
            settled.await.map(|now| now.delivered)
        };
        let settled = match run.time_left(begun) {
            Some(left) => timeout(left, settled).await,
            None => Ok(settled.await),
        };
        let delivered = match settled {
            Err(_) => return Ok(outcome.still_running()),
            // The dispatcher has ended, and the link with it.
            Ok(Err(_)) => return Ok(outcome),
            Ok(Ok(delivered)) => delivered,
        };
        if delivered == before && !unread(conversation) {
            return Ok(outcome);
        }
        // A run of the server's own may be under way or over: this one joins or finds nothing to
        // do.
        let left = run.time_left(begun);
        let next = run.clone().within(left).once().await?;
        outcome = next.after(&outcome);
    }
}

/// Whether what was looked at last is this event or a later one.
fn has_seen(conversation: &Conversation, seen: Option<&str>, event: Option<&str>) -> bool {
    for held in conversation.events().iter().rev() {
        if Some(held.id()) == seen {
            return true;
        }
        if Some(held.id()) == event {
            return false;
        }
    }
    true
}

/// Whether a result came after all that the agent did.
fn unread(conversation: &Conversation) -> bool {
    for event in conversation.events().iter().rev() {
        let acts = matches!(event.kind(), "ActionEvent" | "MessageEvent");
        if acts && event.source().as_str() == "agent" {
            return false;
        }
        if answers(event).is_some() {
            return true;
        }
    }
    false
}
