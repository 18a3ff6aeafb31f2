//! Capabilities of a server with this client, and a scene that tries each of them. `cargo xtask
//! matrix` plays the scenes on many versions.

mod error;
mod places;
mod returns;
mod runs;
mod stage;

use std::{future::Future, pin::Pin, time::Duration};

use openhands::ErrorKind;

pub use error::SceneError;
pub use stage::Stage;

/// Time limit of a scene.
const LIMIT: Duration = Duration::from_secs(120);

/// The result of a scene.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The server and the client do what the scene expects.
    Works,
    /// The server does not have the capability, and the client says so with a typed error.
    NotOffered(String),
    /// Something else happened.
    Failed(String),
}

type Scene<'a> = Pin<Box<dyn Future<Output = Result<(), SceneError>> + Send + 'a>>;

/// A capability, and the scene that tries it.
struct Capability {
    name: &'static str,
    scene: for<'a> fn(&'a Stage) -> Scene<'a>,
}

macro_rules! capabilities {
    ($($name:literal: $scene:path,)*) => {
        /// All capabilities, in the order of the table.
        const CAPABILITIES: &[Capability] = &[
            $(Capability { name: $name, scene: |stage| Box::pin($scene(stage)) },)*
        ];
    };
}

capabilities! {
    "commands": places::commands,
    "live output of a command": places::live,
    "files": places::files,
    "git": places::git,
    "send and run": runs::send_and_run,
    "events, each once and in order": runs::events,
    "streamed tokens": runs::tokens,
    "denial by a hook": runs::denial,
    "approvals": runs::approvals,
    "pause and continue": runs::pause,
    "interrupt": runs::interrupt,
    "tools of the client": runs::client_tool,
    "cost and tokens": runs::cost,
    "attach": returns::attach,
    "attach to the newest events": returns::tail,
    "continue after a restart": returns::restart,
    "fork": returns::fork,
    "title": returns::title,
    "close and delete": returns::delete,
}

/// Returns the names of all capabilities.
pub fn names() -> impl Iterator<Item = &'static str> {
    CAPABILITIES.iter().map(|capability| capability.name)
}

/// Tries all capabilities on the server of a stage, one after the other. Reports each result.
pub async fn try_all(stage: &Stage, mut report: impl FnMut(&'static str, Outcome)) {
    for capability in CAPABILITIES {
        let scene = (capability.scene)(stage);
        let outcome = match tokio::time::timeout(LIMIT, scene).await {
            Ok(Ok(())) => Outcome::Works,
            Ok(Err(SceneError::Client(error))) if error.kind() == ErrorKind::Unsupported => {
                Outcome::NotOffered(error.to_string())
            }
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(_) => Outcome::Failed(format!("no end after {} s", LIMIT.as_secs())),
        };
        report(capability.name, outcome);
    }
}
