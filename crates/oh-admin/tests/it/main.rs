//! Tests of the administration against the fake server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(test)]
mod agents;
#[cfg(test)]
mod doors;
#[cfg(test)]
mod extras;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod login;
#[cfg(test)]
mod owned;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod settings;

use oh_admin::Admin;
use oh_testkit::FakeServer;

/// The text that the server returns in place of a secret.
const MASK: &str = "**********";

async fn server() -> (FakeServer, Admin) {
    let server = FakeServer::start().await.unwrap();
    let admin = Admin::of(&server.client().unwrap());
    (server, admin)
}
