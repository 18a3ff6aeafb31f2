//! The parts of a rendered event, without any output format.

use std::fmt;

/// A rendered event, or a part of one. All writers print blocks.
///
/// A custom renderer returns blocks too. Secrets are masked and control characters are made visible
/// after rendering, so a renderer can use the texts of an event as they are.
///
/// ```
/// use oh_view::{Block, Part, Tone};
///
/// let block = Block::new(Tone::Action, "deploy").note("staging").part(Part::text("Started."));
/// assert_eq!(block.title, "deploy");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Block {
    /// The server's time of the event, as `hh:mm:ss`. Set by [`View::blocks`](crate::View::blocks).
    /// Empty if the event has no timestamp.
    pub time: String,
    /// The kind of the event. Set by [`View::blocks`](crate::View::blocks).
    pub kind: String,
    /// The tone, which decides the colour.
    pub tone: Tone,
    /// The title: the author of a message or the name of a tool.
    pub title: String,
    /// A short addition to the title, such as the risk of an action. May be empty.
    pub note: String,
    /// The content, in order.
    pub parts: Vec<Part>,
    /// Whether the block is only shown with [`Detail::Full`](crate::Detail::Full).
    pub only_full: bool,
}

/// The tone of a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tone {
    /// A message of the user.
    User,
    /// A message of the agent.
    Agent,
    /// An action of the agent.
    Action,
    /// The result of an action.
    Result,
    /// A success, such as the end of a task.
    Success,
    /// A warning: a rejected action, a denial by a hook.
    Warning,
    /// A failure.
    Error,
    /// Anything else: state, hooks that allowed, condensations.
    #[default]
    Quiet,
}

/// A part of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// Text in Markdown.
    Markdown(String),
    /// The agent's reasoning, in Markdown.
    Thought(String),
    /// Text without markup.
    Text(String),
    /// Source code or data.
    Code {
        /// The language, such as `json`. Empty if unknown.
        language: String,
        /// The code.
        text: String,
    },
    /// A change of a file.
    Diff {
        /// The path of the file. Empty if unknown.
        path: String,
        /// The old content. Empty for a new file.
        old: String,
        /// The new content.
        new: String,
    },
    /// A command in a terminal, or its output.
    Terminal {
        /// The command. Empty if unknown.
        command: String,
        /// The output. Empty for a command that was not executed yet.
        output: String,
        /// The end of the command.
        exit: Exit,
    },
    /// A list of tasks.
    Checklist(Vec<Task>),
    /// Names with values, in order.
    Fields(Vec<(String, String)>),
    /// An error message. Never shortened.
    Error(String),
}

/// The end of a command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// The command was not executed yet, or its end is unknown.
    #[default]
    Unknown,
    /// The command is still running.
    Running,
    /// The command ended with this exit code.
    Code(i64),
}

/// A task in a checklist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// The progress.
    pub progress: Progress,
    /// The title.
    pub title: String,
    /// The notes. May be empty.
    pub notes: String,
}

/// The progress of a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Not started.
    #[default]
    Todo,
    /// Started.
    Doing,
    /// Done.
    Done,
}

impl Block {
    /// Creates a block without parts.
    pub fn new(tone: Tone, title: impl Into<String>) -> Self {
        Self {
            tone,
            title: title.into(),
            ..Self::default()
        }
    }

    /// Sets the addition to the title. Default: empty.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Appends a part. A part without content is ignored.
    #[must_use]
    pub fn part(mut self, part: Part) -> Self {
        if !part.is_empty() {
            self.parts.push(part);
        }
        self
    }

    /// Appends parts. Parts without content are ignored.
    #[must_use]
    pub fn parts(self, parts: impl IntoIterator<Item = Part>) -> Self {
        parts.into_iter().fold(self, Self::part)
    }

    /// Sets whether the block is only shown with [`Detail::Full`](crate::Detail::Full). Default:
    /// `false`.
    #[must_use]
    pub fn only_full(mut self, only_full: bool) -> Self {
        self.only_full = only_full;
        self
    }
}

impl Part {
    /// Creates a text without markup.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Creates code. `language` may be empty.
    pub fn code(language: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Code {
            language: language.into(),
            text: text.into(),
        }
    }

    /// Creates a change of a file. For a new file, `old` is empty.
    pub fn diff(path: impl Into<String>, old: impl Into<String>, new: impl Into<String>) -> Self {
        Self::Diff {
            path: path.into(),
            old: old.into(),
            new: new.into(),
        }
    }

    /// Returns whether the part has no content.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Markdown(text) | Self::Thought(text) | Self::Text(text) | Self::Error(text) => {
                text.trim().is_empty()
            }
            Self::Code { text, .. } => text.is_empty(),
            Self::Diff { path, old, new } => path.is_empty() && old == new,
            Self::Terminal {
                command,
                output,
                exit,
            } => command.is_empty() && output.is_empty() && *exit == Exit::Unknown,
            Self::Checklist(tasks) => tasks.is_empty(),
            Self::Fields(fields) => fields.is_empty(),
        }
    }
}

impl Task {
    /// Creates a task.
    pub fn new(progress: Progress, title: impl Into<String>) -> Self {
        Self {
            progress,
            title: title.into(),
            notes: String::new(),
        }
    }

    /// Sets the notes. Default: empty.
    #[must_use]
    pub fn notes(mut self, notes: impl Into<String>) -> Self {
        self.notes = notes.into();
        self
    }
}

/// Formats the end of a command, such as `exit 0`. Empty if the end is unknown.
impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => Ok(()),
            Self::Running => f.write_str("still running"),
            Self::Code(code) => write!(f, "exit {code}"),
        }
    }
}
