//! Tests of the control of conversations against the fake server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(test)]
mod owned;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod sends;

use oh_control::Control;
use oh_protocol::{
    ConversationId,
    config::{Agent, Llm, StartConversation},
};
use oh_testkit::{FakeServer, fake::FakeConversation};

async fn server() -> (FakeServer, Control) {
    let server = FakeServer::start().await.unwrap();
    let control = Control::of(&server.client().unwrap());
    (server, control)
}

fn start() -> StartConversation {
    StartConversation::new(Agent::default_preset(Llm::new("m")), "/work")
}

/// Returns a new conversation that never asks.
async fn created(server: &FakeServer, control: &Control) -> (ConversationId, FakeConversation) {
    let created = control.create(start()).await.unwrap();
    let id = created.info.id();
    let conversation = server.conversation(id).unwrap();
    server.forget_requests();
    (id, conversation)
}
