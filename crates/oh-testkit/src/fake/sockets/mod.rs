//! The three sockets: authentication, replay, live events and closing.

mod bash;
mod handshake;
mod inbox;
mod legacy;
mod line;
mod session;

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::mpsc;

use self::{
    handshake::kind,
    line::{Line, read},
};
use crate::{
    fake::{
        state::world::World,
        wire::{frames, reply},
    },
    http::{self as server, Request, Response},
};

/// Responds to an upgrade request. A spawned task serves the socket.
pub(crate) fn open(world: &Arc<World>, request: &mut Request) -> Response {
    let path = request.uri().path().to_owned();
    let given = request.uri().query().unwrap_or_default().to_owned();
    let query = |name: &str| reply::query(&given, name);
    let Some(kind) = kind(world, &path, &query) else {
        return forbidden();
    };
    let key = query("session_api_key").or_else(|| {
        let header = request.headers().get("x-session-api-key")?;
        Some(header.to_str().ok()?.to_owned())
    });
    if world.door.is_dormant() {
        return forbidden();
    }
    let known = match key {
        _ if world.door.is_open() => true,
        None => false,
        Some(given) if world.door.accepts(&given) => true,
        Some(_) => return forbidden(),
    };
    let Some((answer, socket)) = frames::upgrade(request) else {
        return reply::not_found();
    };
    let (serving, silenced) = (Arc::clone(world), world.silenced.subscribe());
    world.spawn(async move {
        let Some((reader, writer)) = socket.await else {
            return;
        };
        let (to, inbound) = mpsc::channel(16);
        let line = Line::new(&serving, path, writer, inbound, silenced);
        tokio::select! {
            () = line.serve(kind, known) => {}
            // The line receives the end of reading as a message and decides what to do.
            () = read(reader, to) => {}
        }
    });
    answer.map(|()| server::full(Bytes::new()))
}

fn forbidden() -> Response {
    let mut response = http::Response::new(server::full(Bytes::new()));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}
