//! Configure, check, write, try and watch hooks.
//!
//! | To | Use |
//! |-|-|
//! | configure | [`HookConfig`], [`HookMatcher`], [`Hook`]; [`check`], [`lint`], [`lint_with`], [`matches()`] |
//! | keep in a file | [`load`], [`save`], [`discover`], [`parse`] |
//! | write a hook in Rust | [`author`] |
//! | try one without a server | [`DryRun`] |
//! | run those of a session here | [`SessionHooks`] |
//! | see them run | [`execution`], [`executions`], [`blocked_actions`] |
//!
//! Knows no server and no conversation: it takes their events and their state as values.

pub mod author;
#[cfg(unix)]
mod dry_run;
mod error;
mod files;
mod input;
mod json;
mod matching;
mod pattern;
#[cfg(unix)]
mod session;
mod text;
mod tools;
mod verdict;
mod watch;

pub use oh_protocol::{event::HookExecutionEvent, hooks::*};

#[cfg(unix)]
pub use dry_run::DryRun;
pub use error::{Error, ErrorKind, Result};
pub use files::{discover, load, parse, save};
pub use input::HookInput;
pub use matching::{Lint, LintKind, check, hooks_for, lint, lint_with, matches};
#[cfg(unix)]
pub use session::{SessionHooks, server_runs_session_hooks};
pub use verdict::{HookOutcome, Trial};
pub use watch::{
    EventItem, Executions, HookExecution, LocalExecutions, blocked_actions, blocked_messages,
    execution, executions,
};
