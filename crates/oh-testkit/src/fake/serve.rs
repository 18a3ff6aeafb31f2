//! Answers a request: by a fault, a socket or a route.

use std::sync::{Arc, atomic::Ordering};

use http::{HeaderValue, StatusCode, header};

use crate::fake::{
    routes, sockets,
    state::world::World,
    wire::reply::{Call, detail, not_found},
};
use crate::{
    fault::{AnswerFault, Asked, refused_upgrade},
    http::{self as server, Answering, Handler, Request, Response},
    seen::Seen,
};

/// The handler of all requests.
#[derive(Clone)]
pub(crate) struct Serving(pub(crate) Arc<World>);

impl Handler for Serving {
    fn answer(&self, request: Request) -> Answering {
        let world = Arc::clone(&self.0);
        Box::pin(answer(world, request))
    }
}

/// Responds to a request, with the active faults.
async fn answer(world: Arc<World>, request: Request) -> Response {
    if world.down.load(Ordering::SeqCst) {
        return server::no_response();
    }
    world.thawed().await;
    let path = request.uri().path().to_owned();
    let upgrade = path.starts_with("/sockets/");
    let seen = Seen::new(request.method().clone(), &path, request.uri().query());
    // Reads the body first, so that a rejection also follows a complete request.
    let (mut request, call) = match upgrade {
        true => (Some(request), None),
        false => {
            let (head, body) = request.into_parts();
            let body = server::read_body(body).await;
            (None, Some(Call { head, body }))
        }
    };
    let seen = match &call {
        Some(call) => seen.body(&call.body),
        None => seen,
    };
    let method = seen.method.clone();
    let unanswered = world.seen.add(seen);
    let asked = Asked {
        method: Some(method.as_str()),
        path: &path,
        upgrade,
    };
    let (mut lost, mut wrong_length, mut held) = (false, false, Vec::new());
    let mut replaced = None;
    for hit in world.faults.of_request(asked) {
        match hit.what {
            AnswerFault::Status {
                status,
                retry_after,
                html,
            } => {
                unanswered.answered(status);
                return refuse(status, retry_after, html);
            }
            AnswerFault::Upgrade(how) => {
                let Some((status, page)) = refused_upgrade(how) else {
                    return server::no_response();
                };
                unanswered.answered(status.as_u16());
                return no_upgrade(status, page);
            }
            AnswerFault::WrongLength => wrong_length = true,
            AnswerFault::Lost => lost = true,
            AnswerFault::Replaced(status) => replaced = Some(status),
            AnswerFault::Delay(by) => tokio::time::sleep(by).await,
            AnswerFault::Hang => world.faults.until_lifted(&hit).await,
            AnswerFault::Hold => held.push(hit),
        }
    }
    let mut response = match (&mut request, &call) {
        (Some(request), _) => sockets::open(&world, request),
        (None, Some(call)) => routes::route(&world, call).await,
        (None, None) => not_found(),
    };
    for hit in held {
        world.faults.until_lifted(&hit).await;
    }
    world.thawed().await;
    unanswered.answered(response.status().as_u16());
    if lost {
        return server::no_response();
    }
    if let Some(status) = replaced {
        return refuse(status, None, true);
    }
    if wrong_length {
        let (sender, body) = server::channel();
        world.spawn(async move {
            sender.send(&b"{"[..]).await;
            sender.cut().await;
        });
        *response.body_mut() = body;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("1000"));
    }
    response
}

/// Returns the response of a refused upgrade.
fn no_upgrade(status: StatusCode, page: &'static str) -> Response {
    let mut response = http::Response::new(server::full(page));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    } else if !page.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    }
    server::and_close(response)
}

fn refuse(status: u16, retry_after: Option<u64>, html: bool) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = if html {
        let reason = status.canonical_reason().unwrap_or("Error");
        let page =
            format!("<html><head><title>{status}</title></head><body>{reason}</body></html>");
        let mut response = http::Response::new(server::full(page));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
        response
    } else {
        detail(status, status.canonical_reason().unwrap_or("Error"))
    };
    if let Some(seconds) = retry_after {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
