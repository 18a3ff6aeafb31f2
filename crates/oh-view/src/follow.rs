//! Shows a conversation as it goes on.

use std::{
    fmt,
    io::{self, Write},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt as _;
use oh_conversation::{Conversation, Cursor, Error, EventStream, TokenStream};
use oh_protocol::Event;
use tokio::{
    task::JoinHandle,
    time::{self, MissedTickBehavior},
};

use crate::{Live, Printer as _};

/// The time between two drawings of the live area.
const REFRESH: Duration = Duration::from_millis(100);
/// The maximum number of events that are printed with one update of the terminal.
const BATCH: usize = 256;

/// Shows the events of a conversation from a cursor on, and what is under way.
///
/// Past and new events are printed once and in order, also across reconnects. Between events, the
/// live area shows the tokens of the model, running actions and totals.
///
/// A task writes the output, and must not be blocked for long: a terminal or a file is suitable.
/// The task ends when the link of the conversation ends, for example after
/// [`close`](Conversation::close), or when an output cannot be written. It does not keep the
/// conversation open. Dropping the [`Follow`] ends the task and removes the live area.
///
/// ```no_run
/// # async fn watch(conversation: oh_conversation::Conversation)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use oh_conversation::Cursor;
/// use oh_view::{Terminal, View, follow};
///
/// let live = Terminal::stdout(View::new()).live();
/// let shown = follow(&conversation, Cursor::Start, live);
/// conversation.send("Make the tests pass.").await?;
/// conversation.run().await?;
/// conversation.close().await?;
/// shown.await?;
/// # Ok(()) }
/// ```
///
/// # Panics
///
/// Panics if called outside a Tokio runtime.
pub fn follow<W: Write + Send + 'static>(
    conversation: &Conversation,
    from: Cursor,
    live: Live<W>,
) -> Follow<W> {
    let (events, tokens) = (conversation.subscribe(from), conversation.tokens());
    let live = Arc::new(Mutex::new(live));
    let task = tokio::spawn(show(events, tokens, Arc::clone(&live)));
    Follow { task, live }
}

/// A conversation that is being shown. Created by [`follow()`].
///
/// As a future, waits until the link of the conversation has ended and everything is printed. The
/// result is the error of the output, or the [`Error`] that has ended the events, as the inner
/// error of an [`io::Error`].
///
/// Dropping this value ends the output.
#[must_use = "dropping this value ends the output"]
pub struct Follow<W: Write> {
    task: JoinHandle<io::Result<()>>,
    live: Arc<Mutex<Live<W>>>,
}

impl<W: Write> Follow<W> {
    /// Removes the live area until [`show`](Self::show) is called, so that something else can write
    /// to the terminal. Events are printed in the meantime.
    ///
    /// # Errors
    ///
    /// Returns the error of the output.
    pub fn hide(&self) -> io::Result<()> {
        lock(&self.live).hide()
    }

    /// Draws the live area again after [`hide`](Self::hide).
    ///
    /// # Errors
    ///
    /// Returns the error of the output.
    pub fn show(&self) -> io::Result<()> {
        lock(&self.live).show()
    }
}

impl<W: Write> Future for Follow<W> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = Pin::new(&mut self.task).poll(cx);
        ended.map(|ended| ended.map_err(io::Error::from)?)
    }
}

impl<W: Write> Drop for Follow<W> {
    fn drop(&mut self) {
        self.task.abort();
        // The task may be aborted later.
        let _ = lock(&self.live).hide();
    }
}

impl<W: Write> fmt::Debug for Follow<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("ended", &self.task.is_finished())
            .finish_non_exhaustive()
    }
}

fn lock<W: Write>(live: &Mutex<Live<W>>) -> MutexGuard<'_, Live<W>> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn show<W: Write>(
    mut events: EventStream,
    mut tokens: TokenStream,
    live: Arc<Mutex<Live<W>>>,
) -> io::Result<()> {
    let mut ticks = time::interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut has_tokens = true;
    loop {
        tokio::select! {
            event = events.next() => {
                let (batch, end) = batch(event, &mut events);
                lock(&live).print_all(&batch)?;
                if let Some(end) = end {
                    lock(&live).finish()?;
                    return end.map_err(io::Error::other);
                }
            }
            token = tokens.next(), if has_tokens => match token {
                Some(token) => lock(&live).token(&token),
                None => has_tokens = false,
            },
            _ = ticks.tick() => lock(&live).refresh()?,
        }
    }
}

/// Returns an event with those that follow without waiting, and the end of the stream, if reached.
fn batch(
    first: Option<Result<Event, Error>>,
    events: &mut EventStream,
) -> (Vec<Event>, Option<Result<(), Error>>) {
    let (mut batch, mut next) = (Vec::new(), Some(first));
    loop {
        match next {
            Some(Some(Ok(event))) => batch.push(event),
            Some(Some(Err(error))) => return (batch, Some(Err(error))),
            Some(None) => return (batch, Some(Ok(()))),
            None => return (batch, None),
        }
        if batch.len() == BATCH {
            return (batch, None);
        }
        next = events.next().now_or_never();
    }
}
