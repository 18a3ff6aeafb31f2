//! What the end-to-end tests share: a server whose agents work in a quiet home.

use openhands::{
    LocalServer,
    process::{LocalServerBuilder, Provisioner, TemplateServer},
};
use tempfile::TempDir;

/// A home for [`server`], removed at the end of the test.
///
/// # Panics
///
/// When there is no room for a temporary directory.
#[must_use]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
pub fn home() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A server whose shells find no start-up files. Those of this user may take seconds, and the
/// server's terminal takes a command typed meanwhile for done; a shell killed within them can
/// leave locks of other tools behind.
pub fn server(home: &TempDir) -> LocalServerBuilder {
    LocalServer::builder().env("HOME", home.path())
}

/// A template for a test that starts or restarts several servers: `server(&home).template(&it)`.
/// One server alone is not ready sooner by it.
///
/// # Panics
///
/// When there is no environment, or its modules cannot be imported.
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
pub async fn template() -> TemplateServer {
    let template = TemplateServer::builder().start().await;
    template.expect("a template of the server")
}

/// The last version without the session socket whose client's behaviour is known in detail.
pub const BEFORE: &str = "1.43.1";

/// The same, of the generation before the session socket.
pub fn server_before(home: &TempDir) -> LocalServerBuilder {
    server(home).provisioner(Provisioner::new().version(BEFORE))
}

/// What a program of the server's Python begins with: one of the server's libraries makes a
/// directory in /tmp when it is imported, and nobody removes it.
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
