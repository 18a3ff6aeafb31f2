//! Run coding agents on an OpenHands agent server, from Rust.
//!
//! This crate is the facade: it re-exports the crates below and contains no logic. Each of them can
//! also be used alone.
//!
//! | Module | Feature | What it does |
//! |-|-|-|
//! | [`protocol`] | always | events, state, agent and model configuration, calls |
//! | [`transport`] | always | the [`Client`]: HTTP and WebSocket, auth, retry |
//! | [`process`] | `process` | provision, start, watch and stop a local server |
//! | [`workspace`] | `workspace` | commands, files and git on the server |
//! | [`conversation`] | `conversation` | live events exactly once, mirrored state, run |
//! | [`hooks`] | `hooks` | configure, check, write and watch hooks |
//! | [`testkit`] | `testkit` | for tests: scripted model, fake server, fault injection |
//!
//! `tls` (https and wss) and all other features except `testkit` are enabled by default.

pub use oh_protocol as protocol;
pub use oh_transport as transport;

#[cfg(feature = "conversation")]
pub use oh_conversation as conversation;
#[cfg(feature = "hooks")]
pub use oh_hooks as hooks;
#[cfg(feature = "process")]
pub use oh_process as process;
#[cfg(feature = "testkit")]
pub use oh_testkit as testkit;
#[cfg(feature = "workspace")]
pub use oh_workspace as workspace;

pub mod prelude;

pub use prelude::*;

// Compiles the examples of the README with this crate's doctests.
#[cfg(all(
    doctest,
    feature = "process",
    feature = "workspace",
    feature = "conversation",
    feature = "hooks",
    feature = "testkit"
))]
#[doc = include_str!("../../../README.md")]
struct Readme;

// Compiles the examples of the workspace guide.
#[cfg(all(
    doctest,
    feature = "process",
    feature = "workspace",
    feature = "conversation"
))]
#[doc = include_str!("../../../docs/workspace.md")]
struct WorkspaceGuide;

// Compiles the examples of the supervision guide.
#[cfg(all(doctest, feature = "process"))]
#[doc = include_str!("../../../docs/supervision.md")]
struct SupervisionGuide;

// Compiles the examples of the hooks guide.
#[cfg(all(
    doctest,
    feature = "process",
    feature = "workspace",
    feature = "conversation",
    feature = "hooks"
))]
#[doc = include_str!("../../../docs/hooks.md")]
struct HooksGuide;
