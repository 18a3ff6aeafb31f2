//! Renders the events of a conversation for people.
//!
//! | Task | API |
//! |-|-|
//! | Print to a terminal, or to any output | [`Terminal`] |
//! | Show a conversation as it goes on (feature `conversation`) | `follow` |
//! | Also show what is under way: text as the model writes it, running actions, totals | [`Live`] |
//! | Write a page for a browser, which needs no network | [`Html`] |
//! | Write Markdown | [`Markdown`] |
//! | Write the events themselves, for programs | [`Jsonl`] |
//! | Choose what is shown, hide secrets, highlight texts | [`View`] |
//! | Render a kind of event in a different form | [`View::render`], [`Block`], [`Part`] |
//! | Show tokens, cache rate, context and cost | [`Totals`] |
//! | Write a printer for a different output | [`Printer`], [`View::blocks`] |
//!
//! A [`View`] turns an event into [`Block`]s, which have no output format yet. A [`Printer`] writes
//! them, and remembers only the actions that have no result yet. Every kind of event has a form:
//! messages, actions, file edits as diffs, commands with output and exit code, plans as
//! checklists, verdicts of hooks, errors in full. Events of an unknown kind are shown with their
//! JSON.
//!
//! Texts of events come from models, tools and files, and are not trusted. Secrets are hidden,
//! and no control character of an event reaches the output: see [`View`]. Only [`Jsonl`] writes the
//! events unchanged.

mod clean;
mod diff;
mod elapsed;
#[cfg(feature = "conversation")]
mod follow;
mod highlight;
mod html;
mod jsonl;
mod live;
mod markdown;
mod model;
mod printer;
mod render;
mod syntax;
mod terminal;
mod theme;
mod totals;
mod view;
mod window;
mod wrap;

#[cfg(feature = "conversation")]
pub use follow::{Follow, follow};
pub use html::Html;
pub use jsonl::Jsonl;
pub use live::Live;
pub use markdown::Markdown;
pub use model::{Block, Exit, Part, Progress, Task, Tone};
pub use printer::Printer;
pub use terminal::Terminal;
pub use theme::{Color, Paint, Style, Theme};
pub use totals::Totals;
pub use view::{Detail, View};
