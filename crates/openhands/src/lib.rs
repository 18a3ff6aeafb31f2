//! Run coding agents on an OpenHands agent server, from Rust.
//!
//! This crate is the facade: it re-exports the layers below it and holds no logic of its own.
//! Each layer is a crate that can be taken alone.
//!
//! | Module | Feature | What it does |
//! |-|-|-|
//! | [`protocol`] | always | events, state, agent and model configuration, calls |
//! | [`transport`] | always | the [`Client`]: HTTP and WebSocket, auth, retry |
//! | [`process`] | `process` | provision, start, watch and stop a local server |
//! | [`workspace`] | `workspace` | commands, files and git on the server |
//! | [`conversation`] | `conversation` | live events exactly once, mirrored state, run |
//! | [`hooks`] | `hooks` | configure, check, write and watch hooks |
//! | [`testkit`] | `testkit` | scripted model, fake server, faults: for tests |
//!
//! `tls` (https and wss) is on by default with everything but `testkit`.

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

// The README's example compiles, or this crate's doctests fail.
#[cfg(all(doctest, feature = "process"))]
#[doc = include_str!("../../../README.md")]
struct Readme;

// So do those of the guide to workspaces.
#[cfg(all(
    doctest,
    feature = "process",
    feature = "workspace",
    feature = "conversation"
))]
#[doc = include_str!("../../../docs/workspace.md")]
struct WorkspaceGuide;

// Those of the guide to supervision.
#[cfg(all(doctest, feature = "process"))]
#[doc = include_str!("../../../docs/supervision.md")]
struct SupervisionGuide;

// And those of the guide to hooks.
#[cfg(all(
    doctest,
    feature = "process",
    feature = "workspace",
    feature = "conversation",
    feature = "hooks"
))]
#[doc = include_str!("../../../docs/hooks.md")]
struct HooksGuide;
