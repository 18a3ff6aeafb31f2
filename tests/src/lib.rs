//! Shared parts of the end-to-end tests: a server whose agents work in a home without start-up
//! files.

use openhands::{
    LocalServer,
    process::{LocalServerBuilder, Provisioner, TemplateServer},
};
use tempfile::TempDir;

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

/// Returns a builder for a server whose shells run no start-up files.
///
/// The user's start-up files may take seconds, and the server reports a command typed during that
/// time as done. A shell that is killed while it runs them can leave the locks of other tools
/// behind.
pub fn server(home: &TempDir) -> LocalServerBuilder {
    LocalServer::builder().env("HOME", home.path())
}

/// Returns a template for a test that starts or restarts several servers:
/// `server(&home).template(&it)`. A test with a single server does not become faster.
///
/// # Panics
///
/// Panics if there is no environment, or its modules cannot be imported.
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
pub async fn template() -> TemplateServer {
    let template = TemplateServer::builder().start().await;
    template.expect("a template of the server")
}

/// The last version before the session socket whose behaviour with clients is known in detail.
pub const BEFORE: &str = "1.43.1";

/// Returns a builder like [`server`], for a server of the generation before the session socket.
pub fn server_before(home: &TempDir) -> LocalServerBuilder {
    server(home).provisioner(Provisioner::new().version(BEFORE))
}

/// Returns a template like [`template`], for servers of [`server_before`].
///
/// # Panics
///
/// Panics if the environment cannot be created, or its modules cannot be imported.
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
pub async fn template_before() -> TemplateServer {
    let provisioner = Provisioner::new().version(BEFORE);
    let template = TemplateServer::builder().provisioner(provisioner);
    template.start().await.expect("a template of the server")
}

/// Start of every program for the server's Python. One of the server's libraries creates a
/// directory in /tmp when it is imported, and nothing else removes it.
pub const TIDY: &str = "\
import atexit, os
def _tidy(make=os.mkdir):
    def mkdir(path, *rest, **named):
        make(path, *rest, **named)
        if os.fspath(path).startswith('/tmp/browser-use-downloads-'):
            atexit.register(os.rmdir, path)
    os.mkdir = mkdir
_tidy()
";
