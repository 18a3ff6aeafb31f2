//! Shared parts of the end-to-end tests: servers whose agents work in a home without start-up
//! files, forked from templates that all tests of a process share.

pub mod conformance;
pub mod containers;
mod python;
mod stand_in;
mod templates;

use openhands::{
    LocalServer,
    process::{LocalServerBuilder, Provisioner, SERVER_VERSION, TemplateServer},
};
use tempfile::TempDir;

pub use python::python;
pub use stand_in::{Answer, StandIn, header};

/// Returns a home for [`server`], removed at the end of the test.
///
/// # Panics
///
/// Panics if a temporary directory cannot be created.
#[must_use]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
pub fn home() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Returns a builder for a server whose shells run no start-up files. It is forked from the
/// template that the tests of a process share, which makes a start about 10 s faster.
///
/// The user's start-up files may take seconds, and the server reports a command typed during that
/// time as done. A shell that is killed while it runs them can leave the locks of other tools
/// behind.
///
/// # Panics
///
/// Panics if the template cannot be started.
pub fn server(home: &TempDir) -> LocalServerBuilder {
    server_of(SERVER_VERSION, home)
}

/// Returns a builder like [`server`], for a server that is started cold.
pub fn cold_server(home: &TempDir) -> LocalServerBuilder {
    LocalServer::builder().env("HOME", home.path())
}

/// The last version before the session socket whose behaviour with clients is known in detail.
pub const BEFORE: &str = "1.43.1";

/// Returns a builder like [`server`], for a server of the generation before the session socket.
///
/// # Panics
///
/// Panics if the environment cannot be created, or the template cannot be started.
pub fn server_before(home: &TempDir) -> LocalServerBuilder {
    server_of(BEFORE, home)
}

/// Returns a builder like [`server`], for a server of this version.
///
/// # Panics
///
/// Panics if the environment cannot be created, or the template cannot be started.
pub fn server_of(version: &str, home: &TempDir) -> LocalServerBuilder {
    let builder = cold_server(home).provisioner(Provisioner::new().version(version));
    match cfg!(target_os = "linux") {
        true => builder.template(&templates::shared(version)),
        false => builder,
    }
}

/// Returns a separate template, for a test of templates.
///
/// # Panics
///
/// Panics if there is no environment, or its modules cannot be imported.
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
pub async fn template() -> TemplateServer {
    let template = TemplateServer::builder().start().await;
    template.expect("a template of the server")
}

/// Start of every program for the server's Python. One of the server's libraries creates a
/// directory in /tmp when it is imported, and nothing else removes it.
pub const TIDY: &str = include_str!("tidy.py");
