//! Run coding agents on an OpenHands agent server, from Rust.
//!
//! An agent server is a Python service that runs coding agents: a model works in a directory with a
//! terminal, an editor and other tools. This crate starts such a server or connects to one, runs
//! conversations with its agents, and checks their work.
//!
//! ```no_run
//! # #[cfg(all(feature = "process", feature = "workspace", feature = "conversation"))]
//! # async fn first(key: String) -> openhands::Result<()> {
//! use openhands::prelude::*;
//!
//! // A private server. The first start installs it, and reports its progress.
//! let server = LocalServer::builder().on_progress(|step| eprintln!("{step}")).start().await?;
//!
//! let llm = Llm::new("anthropic/claude-sonnet-4-5-20250929").api_key(key);
//! let conversation = Conversation::builder(&server, Agent::default_preset(llm).cli_mode(true))
//!     .on_event(|event| println!("{event}"))
//!     .start()
//!     .await?;
//! conversation.send("Write a greeting to hello.txt.").await?;
//! let outcome = conversation.run().max_cost(0.50).await?.ensure_finished()?;
//! println!("{outcome}");
//!
//! println!("{}", server.execute("cat hello.txt").await?.stdout());
//! conversation.close().await?;
//! # Ok(()) }
//! ```
//!
//! # Tasks
//!
//! | Task | Begin with |
//! |-|-|
//! | Start a server on this machine | [`LocalServer::builder`](process::LocalServer::builder) |
//! | Start a server in a container | `sandbox::DockerServer` (feature `docker`), `sandbox::ApptainerServer` (feature `apptainer`) |
//! | Claim a server in a pod | `sandbox::KubernetesServer` (feature `kubernetes`) |
//! | Start a server in a hosted runtime | `sandbox::HostedServer` (feature `hosted`) |
//! | Start a server in OpenHands Cloud | `sandbox::CloudServer` (feature `hosted`) |
//! | Share servers among many conversations | `sandbox::Fleet` (feature `fleet`) |
//! | Start servers faster | [`process::WarmPool`], [`process::TemplateServer`] |
//! | Install a server in advance | [`process::Provisioner`] |
//! | Connect to a server that runs | [`Client::builder`], then [`Workspace::new`](workspace::Workspace::new) |
//! | Run a command, get its output | [`Workspace::execute`](workspace::Workspace::execute) |
//! | Transfer files | [`Workspace::upload`](workspace::Workspace::upload), [`Workspace::download`](workspace::Workspace::download) |
//! | See what changed, get a patch | [`Workspace::git`](workspace::Workspace::git) |
//! | Clone repositories | [`workspace::CloneRepositories`] |
//! | Configure a model | [`Llm`] |
//! | Store models and keys on a server | [`admin::Admin`] |
//! | Hand jobs to a server and leave | [`control::Control`] |
//! | Configure an agent, its tools and MCP servers | [`Agent`], [`protocol::config`] |
//! | Read MCP servers from a file, add skills | [`protocol::config::McpFile`], [`protocol::config::AgentContext`] |
//! | Start a conversation, send, run | [`Conversation::builder`](conversation::Conversation::builder), [`concepts::runs`] |
//! | Find a conversation again after a restart | [`Conversation::attach`](conversation::Conversation::attach) |
//! | Follow events | [`Conversation::subscribe`](conversation::Conversation::subscribe), [`concepts::mirror`] |
//! | Serve events to others, and resume by number | [`EventStream::numbered`](conversation::EventStream::numbered), [`Cursor`] |
//! | Show a conversation to a person | `view::follow`, `view::Terminal`, `view::Html` (feature `view`) |
//! | Show text while the model writes it | [`Conversation::tokens`](conversation::Conversation::tokens) |
//! | Limit cost and time | [`conversation::Run`] |
//! | Stop a run | [`Conversation::pause`](conversation::Conversation::pause), [`Conversation::interrupt`](conversation::Conversation::interrupt) |
//! | Approve actions | [`concepts::approvals`] |
//! | Guard an agent without a program | [`hooks`], [`HookConfig`] |
//! | Read hooks from a file, check them | [`hooks::load`], [`hooks::lint`] |
//! | Write a hook in Rust | [`hooks::author`] |
//! | Offer a tool that this program implements | [`conversation::ClientTool`] |
//! | Set secrets, switch the model | [`conversation::Secrets`], [`conversation::Settings`] |
//! | Go back in the history, fork | [`conversation::Branches`] |
//! | Pursue a goal, delegate work | [`conversation::Goals`], [`conversation::Children`] |
//! | Search or export a log | [`conversation::EventLog`] |
//! | List conversations | [`conversation::Conversations`] |
//! | Run many conversations | [`conversation::Bulk`] |
//! | Survive broken connections | [`concepts::reconnect`] |
//! | Send a request that has no method | [`Client::call`] with a type of [`protocol::calls`] |
//! | Handle errors | [`Error`], [`ErrorKind`] |
//! | Test a program without Python and model | [`testkit`] |
//!
//! Guides in the repository show whole tasks. Begin with `docs/quick-start.md`, `docs/concepts.md`,
//! `docs/models.md` and `docs/tools.md`. Then read `docs/conversations.md` (start, run, read,
//! serve, approve, batches, attach again), `docs/testing.md` (tests without a server),
//! `docs/hooks.md`, `docs/view.md`, `docs/workspace.md`, `docs/admin.md`, `docs/environment.md`,
//! `docs/security.md`, and `docs/errors.md` (all errors and their remedies). Users of other clients
//! find their methods in `docs/from-python.md` and `docs/from-typescript.md`.
//!
//! # Modules
//!
//! `openhands` is the facade: it re-exports the crates below and contains no logic. Each of them
//! can also be used alone. [`prelude`] has the types that most programs need; they are also in the
//! root of this crate. [`concepts`] explains how conversations behave. Examples on the pages of a
//! module name its crate: `oh_conversation::Run` is `openhands::conversation::Run`.
//!
//! | Module | Feature | What it does |
//! |-|-|-|
//! | [`protocol`] | always | events, state, agent and model configuration, calls |
//! | [`transport`] | always | the [`Client`]: HTTP and WebSocket, auth, retry |
//! | [`process`] | `process` | provision, start, watch and stop a local server |
//! | `sandbox` | `docker`, `fleet` | start, watch and remove a server in a container; fleets of servers |
//! | [`workspace`] | `workspace` | commands, files and git on the server |
//! | [`conversation`] | `conversation` | live events exactly once, mirrored state, run |
//! | [`control`] | `control` | starts conversations and leaves: no events, no socket |
//! | [`admin`] | `admin` | models, keys, settings, secrets and MCP servers of a server |
//! | [`hooks`] | `hooks` | configure, check, write and watch hooks |
//! | `view` | `view` | renders events in a terminal, as HTML, Markdown or JSON lines |
//! | `syntax` | `view` | colours the code and the file edits of a view |
//! | [`testkit`] | `testkit` | for tests: scripted model, fake server, fault injection |
//!
//! `tls` (https and wss) and all other features except `apptainer`, `docker`, `fleet`,
//! `hosted`, `kubernetes`, `testkit` and `view` are enabled by default.

// The README and the guides must compile without warnings, as in a program that denies them.
#![doc(test(attr(deny(warnings), allow(dead_code, unused_variables))))]
// The links above need every feature.
#![cfg_attr(
    not(all(
        feature = "process",
        feature = "workspace",
        feature = "conversation",
        feature = "admin",
        feature = "control",
        feature = "hooks",
        feature = "testkit"
    )),
    allow(rustdoc::broken_intra_doc_links)
)]

#[doc(inline)]
pub use oh_protocol as protocol;
#[doc(no_inline)]
pub use oh_protocol::secrecy;
#[doc(inline)]
pub use oh_transport as transport;

#[cfg(feature = "admin")]
#[doc(inline)]
pub use oh_admin as admin;
#[cfg(feature = "control")]
#[doc(inline)]
pub use oh_control as control;
#[cfg(feature = "conversation")]
#[doc(inline)]
pub use oh_conversation as conversation;
#[cfg(feature = "hooks")]
#[doc(inline)]
pub use oh_hooks as hooks;
#[cfg(feature = "process")]
#[doc(inline)]
pub use oh_process as process;
#[cfg(feature = "fleet")]
#[doc(inline)]
pub use oh_sandbox as sandbox;
#[cfg(feature = "testkit")]
#[doc(inline)]
pub use oh_testkit as testkit;
#[cfg(feature = "view")]
#[doc(inline)]
pub use oh_view as view;
#[cfg(feature = "workspace")]
#[doc(inline)]
pub use oh_workspace as workspace;

#[cfg(feature = "conversation")]
pub mod concepts;
mod error;
pub mod prelude;

pub use error::{Error, ErrorKind, Result};

#[doc(inline)]
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

// Compiles the examples of the first pages.
#[cfg(all(
    doctest,
    feature = "admin",
    feature = "process",
    feature = "workspace",
    feature = "conversation",
    feature = "schemars"
))]
mod first_pages {
    #[doc = include_str!("../../../docs/quick-start.md")]
    struct QuickStart;

    #[doc = include_str!("../../../docs/concepts.md")]
    struct Concepts;

    #[doc = include_str!("../../../docs/recipes.md")]
    struct Recipes;

    #[doc = include_str!("../../../docs/models.md")]
    struct Models;

    #[doc = include_str!("../../../docs/tools.md")]
    struct Tools;

    #[doc = include_str!("../../../docs/logging.md")]
    struct Logging;

    #[doc = include_str!("../../../docs/performance.md")]
    struct Performance;
}

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

// Compiles the examples of the guide to containers.
#[cfg(all(
    doctest,
    feature = "docker",
    feature = "workspace",
    feature = "conversation"
))]
#[doc = include_str!("../../../docs/sandboxes.md")]
struct SandboxesGuide;

// Compiles the examples of the guide to fleets.
#[cfg(all(
    doctest,
    feature = "docker",
    feature = "process",
    feature = "conversation"
))]
#[doc = include_str!("../../../docs/fleet.md")]
struct FleetGuide;

// Compiles the examples of the guide to Kubernetes.
#[cfg(all(doctest, feature = "kubernetes", feature = "conversation"))]
#[doc = include_str!("../../../docs/kubernetes.md")]
struct KubernetesGuide;

// Compiles the examples of the guide to OpenHands Cloud.
#[cfg(all(doctest, feature = "hosted", feature = "conversation"))]
#[doc = include_str!("../../../docs/cloud.md")]
struct CloudGuide;

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

// Compiles the examples of the guide to the view.
#[cfg(all(doctest, feature = "view", feature = "conversation"))]
#[doc = include_str!("../../../docs/view.md")]
struct ViewGuide;

// Compiles the examples of the administration guide.
#[cfg(all(doctest, feature = "admin"))]
#[doc = include_str!("../../../docs/admin.md")]
struct AdminGuide;

// Compiles the examples of the guide to environment variables.
#[cfg(all(doctest, feature = "conversation"))]
#[doc = include_str!("../../../docs/environment.md")]
struct EnvironmentGuide;

// Compiles the examples of the guide to conversations.
#[cfg(all(doctest, feature = "workspace", feature = "conversation"))]
#[doc = include_str!("../../../docs/conversations.md")]
struct ConversationsGuide;

// Compiles and runs the examples of the guide to tests.
#[cfg(all(
    doctest,
    feature = "workspace",
    feature = "conversation",
    feature = "testkit"
))]
#[doc = include_str!("../../../docs/testing.md")]
struct TestingGuide;

// Compiles the examples of the guides for users of other clients.
#[cfg(all(doctest, feature = "workspace", feature = "conversation"))]
#[doc = include_str!("../../../docs/from-python.md")]
struct FromPythonGuide;

#[cfg(all(doctest, feature = "workspace", feature = "conversation"))]
#[doc = include_str!("../../../docs/from-typescript.md")]
struct FromTypescriptGuide;
