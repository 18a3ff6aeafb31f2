//! Futures of a client own all that they need, so that tasks can run them. Checked at compile time:
//! nothing here runs.

use std::time::Duration;

use http::{Method, Response};
use oh_protocol::{Request, calls::server::GetServerInfo};
use oh_transport::{Body, Capability, Client};

fn spawns<F: Future<Output: Send> + Send + 'static>(_: F) {}

const _: fn(&Client, &str) = |client, target| {
    let request = || Request::new(Method::GET, target);
    spawns(client.call(GetServerInfo::default()));
    spawns(client.call(GetServerInfo::default()).single_attempt());
    spawns(client.stream(request(), Body::empty()));
    spawns(client.stream_within(request(), Body::empty(), Duration::ZERO));
    spawns(client.accepted(Response::new(Body::empty())));
    spawns(client.session_api_key());
    spawns(client.socket(target));
    spawns(client.server_info());
    spawns(client.check());
    spawns(client.is_alive());
    spawns(client.has(Capability::SessionSocket));
    spawns(client.server_gone());
};
