//! Hook support: configuration, linting, authoring, dry runs and monitoring.
//!
//! | Task | API |
//! |-|-|
//! | Configure hooks | [`HookConfig`], [`HookMatcher`], [`Hook`] |
//! | Check a configuration | [`check`], [`lint`], [`lint_with`], [`matches()`] |
//! | Store hooks in a file | [`load`], [`save`], [`discover`], [`parse`] |
//! | Write a hook in Rust | [`author`] |
//! | Test a hook without a server | [`DryRun`] |
//! | Run session hooks on the client | [`SessionHooks`] |
//! | Monitor hook executions | [`execution`], [`executions`], [`blocked_actions`] |
//!
//! The crate does not connect to a server. Events and conversation state are passed in as values.

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
