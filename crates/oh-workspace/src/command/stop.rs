//! Stopping a command in the background.

use std::time::Duration;

use oh_protocol::calls::{Scope, bash::StopCommand};
use oh_transport::Client;

/// Stops a command if the server can be reached. A command that has ended is not an error.
pub(super) fn stop_soon(
    client: &Client,
    scope: Scope,
    id: &str,
) -> impl Future<Output = ()> + Send + 'static {
    let (client, stop) = (client.clone(), StopCommand::new(id).scope(scope));
    async move {
        let _ = client.call(&stop).timeout(Duration::from_secs(10)).await;
    }
}
