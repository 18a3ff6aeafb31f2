//! Options of the view, and the blocks of an event.

use std::{fmt, sync::Arc};

use oh_protocol::{
    Event, Payload, Source, event::Role, printable, redact::Redactor, secrecy::SecretString,
};

use crate::{Block, clean, render};

/// A function that renders the events of one kind. Returns `None` for the default rendering.
type Renderer = Arc<dyn Fn(&Event) -> Option<Vec<Block>> + Send + Sync>;

/// How much of a conversation is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detail {
    /// The events that a person follows: messages, actions, results, failures. Long content is
    /// shortened, except for errors.
    #[default]
    Compact,
    /// Every event, with its whole content.
    Full,
}

/// Renders events as blocks, for all writers. Cheap to clone.
///
/// Secrets are hidden by their names and shapes, and by the values that [`secret`](Self::secret)
/// adds. Control characters and marks that change the text direction are made visible.
///
/// ```
/// use oh_view::{Detail, View};
///
/// let view = View::new().detail(Detail::Full).secret(&"hunter2!".into()).highlight("TODO");
/// ```
#[derive(Clone, Default)]
pub struct View {
    detail: Detail,
    skip_user_messages: bool,
    redactor: Redactor,
    highlights: Vec<String>,
    renderers: Vec<(String, Renderer)>,
}

impl View {
    /// Creates a compact view.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how much is shown. Default: [`Detail::Compact`].
    #[must_use]
    pub fn detail(mut self, detail: Detail) -> Self {
        self.detail = detail;
        self
    }

    /// Returns how much is shown.
    pub fn shown_detail(&self) -> Detail {
        self.detail
    }

    /// Sets whether messages of the user are skipped, for example because the user just typed them.
    /// Messages of the environment and of hooks are shown, although they have the role `user`.
    /// Default: `false`.
    #[must_use]
    pub fn skip_user_messages(mut self, skip: bool) -> Self {
        self.skip_user_messages = skip;
        self
    }

    /// Also hides this value wherever it occurs. See
    /// [`Redactor::with`](oh_protocol::redact::Redactor::with).
    #[must_use]
    pub fn secret(mut self, value: &SecretString) -> Self {
        self.redactor.add(value);
        self
    }

    /// Highlights a text wherever it occurs on a line. Upper and lower case differ. An empty text
    /// is ignored.
    #[must_use]
    pub fn highlight(mut self, text: impl Into<String>) -> Self {
        let text = printable(&text.into()).into_owned();
        if !text.is_empty() {
            self.highlights.push(text);
        }
        self
    }

    /// Renders the events of a kind, such as `ActionEvent`, with a function. If the function
    /// returns `None`, the event is rendered as usual; an empty list hides the event. The function
    /// that was added last is asked first.
    ///
    /// The texts of the blocks are masked and cleaned afterwards.
    #[must_use]
    pub fn render(
        mut self,
        kind: impl Into<String>,
        renderer: impl Fn(&Event) -> Option<Vec<Block>> + Send + Sync + 'static,
    ) -> Self {
        self.renderers.push((kind.into(), Arc::new(renderer)));
        self
    }

    /// Returns the blocks of an event. Empty if the event is not shown. Decodes the event.
    pub fn blocks(&self, event: &Event) -> Vec<Block> {
        if self.skip_user_messages && is_user_message(event) {
            return Vec::new();
        }
        let custom = self
            .renderers
            .iter()
            .rev()
            .filter(|(kind, _)| kind == event.kind());
        let custom = custom.into_iter().find_map(|(_, renderer)| renderer(event));
        let mut blocks = custom.unwrap_or_else(|| render::blocks(event));
        if self.detail == Detail::Compact {
            blocks.retain(|block| !block.only_full);
        }
        for block in &mut blocks {
            // Timestamps are ISO 8601, in the server's local time.
            block.time = event.timestamp().get(11..19).unwrap_or_default().to_owned();
            block.kind = event.kind().to_owned();
            clean::block(block, &self.redactor);
        }
        blocks
    }

    pub(crate) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    pub(crate) fn highlights(&self) -> &[String] {
        &self.highlights
    }
}

fn is_user_message(event: &Event) -> bool {
    *event.source() == Source::User
        && matches!(event.payload(), Payload::Message(body) if body.llm_message.role == Role::User)
}

/// Does not show the secrets.
impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<&str> = self
            .renderers
            .iter()
            .map(|(kind, _)| kind.as_str())
            .collect();
        f.debug_struct("View")
            .field("detail", &self.detail)
            .field("skip_user_messages", &self.skip_user_messages)
            .field("highlights", &self.highlights)
            .field("renderers", &kinds)
            .finish_non_exhaustive()
    }
}
