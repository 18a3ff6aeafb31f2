//! The templates that the tests of a process share, one for each version of the server.

use std::{
    collections::BTreeMap,
    future,
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    thread,
};

use openhands::process::{Provisioner, TemplateServer};

/// The template of a version, once it has been started.
type Slot = Arc<OnceLock<TemplateServer>>;

/// Returns the template of this version. The first caller starts it, and the others wait.
///
/// # Panics
///
/// Panics if the environment cannot be created, or its modules cannot be imported.
pub(crate) fn shared(version: &str) -> TemplateServer {
    static SLOTS: Mutex<BTreeMap<String, Slot>> = Mutex::new(BTreeMap::new());
    let slot = {
        let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(version.to_owned()).or_default().clone()
    };
    slot.get_or_init(|| start(version.to_owned())).clone()
}

/// Starts a template on a separate thread and runtime, because the runtime of a test ends with
/// that test. The template's process ends with this process.
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
fn start(version: String) -> TemplateServer {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let provisioner = Provisioner::new().version(version);
            let template = TemplateServer::builder().provisioner(provisioner);
            let template = template.start().await.expect("a template of the server");
            if sender.send(template).is_ok() {
                // Replaces the template if its process ends.
                future::pending::<()>().await;
            }
        });
    });
    receiver.recv().expect("a template; see the panic above")
}
