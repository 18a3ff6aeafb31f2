//! The parts that all fake control planes have in common: a port, recorded requests, and faults.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderValue, StatusCode, header};

use crate::{
    Fault, Result,
    fake::wire::reply::{Call, detail},
    fault::{AnswerFault, Asked, Faults},
    http::{self as server, Answering, Handler, Listening, Request, Response},
    seen::{Requests, Seen},
};

/// The routes of a control plane.
pub(crate) trait Routes: Send + Sync + 'static {
    fn route(&self, call: &Call) -> Response;
}

/// A control plane that listens.
pub(crate) struct Plane<R> {
    shared: Arc<Shared<R>>,
    listening: Listening,
}

struct Shared<R> {
    routes: R,
    faults: Faults,
    seen: Requests,
}

impl<R: Routes> Plane<R> {
    pub(crate) async fn start(routes: R) -> Result<Self> {
        let shared = Arc::new(Shared {
            routes,
            faults: Faults::new(0),
            seen: Requests::default(),
        });
        let listening = Listening::start(Serving(Arc::clone(&shared))).await?;
        Ok(Self { shared, listening })
    }

    pub(crate) fn routes(&self) -> &R {
        &self.shared.routes
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    pub(crate) fn inject(&self, fault: Fault) {
        self.shared.faults.add(fault);
    }

    pub(crate) fn heal(&self) {
        self.shared.faults.clear();
    }

    pub(crate) fn requests_to(&self, method: &str, route: &str) -> Vec<Seen> {
        self.shared.seen.such(method, route)
    }
}

struct Serving<R>(Arc<Shared<R>>);

impl<R> Clone for Serving<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: Routes> Handler for Serving<R> {
    fn answer(&self, request: Request) -> Answering {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.answer(request).await })
    }
}

impl<R: Routes> Shared<R> {
    async fn answer(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let body = server::read_body(body).await;
        let call = Call { head, body };
        let (method, path) = (call.head.method.clone(), call.path().to_owned());
        let seen = Seen::new(method.clone(), &path, call.head.uri.query()).body(&call.body);
        let unanswered = self.seen.add(seen);
        let asked = Asked {
            method: Some(method.as_str()),
            path: &path,
            upgrade: false,
        };
        let (mut lost, mut held) = (false, Vec::new());
        for hit in self.faults.of_request(asked) {
            match hit.what {
                AnswerFault::Status {
                    status,
                    retry_after,
                    html,
                } => {
                    unanswered.answered(status);
                    return refuse(status, retry_after, html);
                }
                AnswerFault::Delay(by) => tokio::time::sleep(by).await,
                AnswerFault::Hang => self.faults.until_lifted(&hit).await,
                AnswerFault::Hold => held.push(hit),
                _ => lost = true,
            }
        }
        let response = self.routes.route(&call);
        for hit in held {
            self.faults.until_lifted(&hit).await;
        }
        unanswered.answered(response.status().as_u16());
        match lost {
            true => server::no_response(),
            false => response,
        }
    }
}

fn refuse(status: u16, retry_after: Option<u64>, html: bool) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = match html {
        true => {
            let mut page = http::Response::new(server::full("<html>Please log in</html>"));
            *page.status_mut() = status;
            let html = HeaderValue::from_static("text/html");
            page.headers_mut().insert(header::CONTENT_TYPE, html);
            page
        }
        false => detail(status, "injected fault"),
    };
    if let Some(seconds) = retry_after {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
