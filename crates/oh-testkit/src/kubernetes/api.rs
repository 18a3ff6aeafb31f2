//! The routes of the fake API server.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    http::{self as server, Answering, Handler, Request, Response},
    kubernetes::{
        controller, forward, logs,
        refusal::Refusal,
        schema,
        store::{Key, Part, merge},
        watching::{self, Watch},
        world::{AGENTS, EXTENSIONS, TOKEN, World},
    },
};

/// The handler of all requests.
#[derive(Clone)]
pub(crate) struct Api(pub(crate) Arc<World>);

impl Handler for Api {
    fn answer(&self, request: Request) -> Answering {
        let world = Arc::clone(&self.0);
        Box::pin(async move {
            if world.state().is_down {
                return server::no_response();
            }
            let answer = route(&world, request).await;
            let mut answer = answer.unwrap_or_else(|refusal| refusal.response());
            if let Ok(date) = HeaderValue::try_from(world.clock.date()) {
                answer.headers_mut().insert(header::DATE, date);
            }
            answer
        })
    }
}

/// The object or objects that a request names.
struct Target {
    api_version: String,
    namespace: String,
    plural: String,
    name: Option<String>,
    subresource: Option<String>,
}

impl Target {
    /// Reads a path such as `/apis/GROUP/VERSION/namespaces/NAME/PLURAL/NAME/status`.
    fn read(path: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/').map(str::to_owned);
        let api_version = match parts.next()?.as_str() {
            "api" => parts.next()?,
            "apis" => format!("{}/{}", parts.next()?, parts.next()?),
            _ => return None,
        };
        if parts.next()? != "namespaces" {
            return None;
        }
        let (namespace, plural) = (parts.next()?, parts.next()?);
        let (name, subresource) = (parts.next(), parts.next());
        parts.next().is_none().then_some(Self {
            api_version,
            namespace,
            plural,
            name,
            subresource,
        })
    }

    /// Returns the kind of the objects, if the cluster serves it.
    fn kind(&self, world: &World) -> Option<&'static str> {
        let served = |group: &str| {
            let version = world.version.as_ref()?;
            (self.api_version == format!("{group}/{version}")).then_some(())
        };
        match self.plural.as_str() {
            "pods" => (self.api_version == "v1").then_some("Pod"),
            "sandboxclaims" => served(EXTENSIONS).map(|()| "SandboxClaim"),
            "sandboxes" => served(AGENTS).map(|()| "Sandbox"),
            _ => None,
        }
    }

    fn key(&self, name: &str) -> Key {
        Key::new(&self.plural, &self.namespace, name)
    }
}

async fn route(world: &Arc<World>, request: Request) -> Result<Response, Refusal> {
    let path = request.uri().path().to_owned();
    authorized(&request)?;
    if path == "/apis" {
        world.received("list", "groups")?;
        return Ok(server::json(StatusCode::OK, &groups(world)));
    }
    if path == "/version" {
        world.received("get", "version")?;
        let version = json!({"major": "1", "minor": "34", "gitVersion": "v1.34.0"});
        return Ok(server::json(StatusCode::OK, &version));
    }
    let target = Target::read(&path);
    let known = target.and_then(|target| Some((target.kind(world)?, target)));
    let Some((kind, target)) = known else {
        let mut response = http::Response::new(server::full("404 page not found\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    };
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let is_watch = query
        .get("watch")
        .is_some_and(|watch| watch == "true" || watch == "1");
    let method = request.method().clone();
    let verb = match (&method, &target.name) {
        (_, Some(_)) if target.subresource.as_deref() == Some("portforward") => "portforward",
        (&Method::GET, Some(_)) if target.subresource.as_deref() == Some("log") => "log",
        (&Method::GET, None) if is_watch => "watch",
        (&Method::GET, None) => "list",
        (&Method::GET, Some(_)) => "get",
        (&Method::POST, None) => "create",
        (&Method::PATCH, Some(_)) => "patch",
        (&Method::PUT, Some(_)) => "update",
        (&Method::DELETE, Some(_)) => "delete",
        _ => return Err(Refusal::new(405, "MethodNotAllowed", "method not allowed")),
    };
    world.received(verb, &target.plural)?;
    let name = target.name.as_deref().unwrap_or_default();
    match verb {
        "portforward" => port_forward(world, request, &target, &query),
        "log" => logs::logs(world, target.key(name), &query),
        "watch" => watch(world, &target, kind, &query),
        "list" => Ok(server::json(
            StatusCode::OK,
            &list(world, &target, kind, &query)?,
        )),
        "get" => Ok(server::json(
            StatusCode::OK,
            &world.store.get(&target.key(name))?,
        )),
        "create" => create(world, &target, body(request).await?),
        "delete" => {
            let deleted = world.store.delete(&target.key(name))?;
            if target.plural == "sandboxclaims" {
                controller::end_sandbox(world, &target.key(name));
            }
            Ok(server::json(StatusCode::OK, &deleted))
        }
        _ => change(world, &target, request, name).await,
    }
}

fn authorized(request: &Request) -> Result<(), Refusal> {
    let token = request.headers().get(header::AUTHORIZATION);
    match token.is_some_and(|token| token == format!("Bearer {TOKEN}").as_str()) {
        true => Ok(()),
        false => Err(Refusal::new(401, "Unauthorized", "Unauthorized")),
    }
}

fn groups(world: &World) -> Value {
    let group = |name: &str, version: &String| {
        let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
        json!({"name": name, "versions": [version], "preferredVersion": version})
    };
    let served = world.version.iter();
    let groups: Vec<_> = served
        .flat_map(|version| [group(EXTENSIONS, version), group(AGENTS, version)])
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

async fn body(request: Request) -> Result<Value, Refusal> {
    let bytes = server::read_body(request.into_body()).await;
    let invalid = |_| Refusal::new(400, "BadRequest", "the body is not valid JSON");
    serde_json::from_slice(&bytes).map_err(invalid)
}

/// Returns the name in a field selector.
fn selected(query: &BTreeMap<String, String>) -> Result<Option<String>, Refusal> {
    match query.get("fieldSelector").map(String::as_str) {
        None | Some("") => Ok(None),
        Some(selector) => match selector.split_once('=') {
            Some(("metadata.name", name)) => Ok(Some(name.trim_start_matches('=').to_owned())),
            _ => {
                let message = format!("field label not supported: {selector}");
                Err(Refusal::new(400, "BadRequest", message))
            }
        },
    }
}

fn list(
    world: &World,
    target: &Target,
    kind: &str,
    query: &BTreeMap<String, String>,
) -> Result<Value, Refusal> {
    let only = selected(query)?;
    let (mut items, version) = world.store.list(&target.plural, &target.namespace);
    items.retain(|item| {
        only.as_ref()
            .is_none_or(|name| item["metadata"]["name"] == name.as_str())
    });
    Ok(json!({
        "apiVersion": target.api_version, "kind": format!("{kind}List"),
        "metadata": {"resourceVersion": version.to_string()}, "items": items,
    }))
}

fn watch(
    world: &Arc<World>,
    target: &Target,
    kind: &'static str,
    query: &BTreeMap<String, String>,
) -> Result<Response, Refusal> {
    let get = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let seconds = get("timeoutSeconds").parse().unwrap_or(1800);
    let watch = Watch {
        plural: target.plural.clone(),
        namespace: target.namespace.clone(),
        name: selected(query)?,
        api_version: target.api_version.clone(),
        kind,
        version: watching::start(get("resourceVersion"))?,
        bookmarks: get("allowWatchBookmarks") == "true",
        timeout: Duration::from_secs(seconds),
    };
    Ok(watching::watch(world, watch))
}

fn create(world: &Arc<World>, target: &Target, object: Value) -> Result<Response, Refusal> {
    if target.namespace != world.namespace {
        let message = format!("namespaces {:?} not found", target.namespace);
        return Err(Refusal::new(404, "NotFound", message));
    }
    if target.plural != "sandboxclaims" {
        return Err(Refusal::of_code(
            403,
            "only claims can be created".to_owned(),
        ));
    }
    schema::check_claim(&object)?;
    let Some(name) = object["metadata"]["name"].as_str().map(str::to_owned) else {
        return Err(Refusal::of_code(
            422,
            "metadata.name: Required value".to_owned(),
        ));
    };
    let key = target.key(&name);
    let mut object = object;
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    object["metadata"]["creationTimestamp"] = json!(super::clock::text(world.clock.now()));
    let created = world.store.create(key.clone(), object)?;
    // A shutdown time in the past ends the claim at once.
    controller::expire(world);
    world.spawn(controller::bind(Arc::clone(world), key));
    Ok(server::json(StatusCode::CREATED, &created))
}

async fn change(
    world: &Arc<World>,
    target: &Target,
    request: Request,
    name: &str,
) -> Result<Response, Refusal> {
    let part = match target.subresource.as_deref() {
        None => Part::Main,
        Some("status") => Part::Status,
        Some(other) => return Err(Refusal::of_code(404, format!("no subresource {other}"))),
    };
    let is_patch = request.method() == Method::PATCH;
    let kind = request.headers().get(header::CONTENT_TYPE);
    if is_patch && kind.is_none_or(|kind| kind != "application/merge-patch+json") {
        let message = "the fake cluster supports only merge patches";
        return Err(Refusal::new(415, "UnsupportedMediaType", message));
    }
    let sent = body(request).await?;
    let key = target.key(name);
    let mut checked = world.store.get(&key)?;
    match is_patch {
        true => merge(&mut checked, sent.clone()),
        false => checked = sent.clone(),
    }
    match target.plural.as_str() {
        "sandboxclaims" => schema::check_claim(&checked)?,
        "sandboxes" => schema::check_sandbox(&checked)?,
        _ => {}
    }
    let changed = world.store.update(&key, part, |object| match is_patch {
        true => merge(object, sent),
        false => *object = sent,
    })?;
    if target.plural == "sandboxes" && part == Part::Main {
        world.spawn(controller::operate(Arc::clone(world), key));
    }
    Ok(server::json(StatusCode::OK, &changed))
}

fn port_forward(
    world: &World,
    mut request: Request,
    target: &Target,
    query: &BTreeMap<String, String>,
) -> Result<Response, Refusal> {
    let name = target.name.as_deref().unwrap_or_default();
    let address = {
        let state = world.state();
        state.running.get(&target.key(name)).map(|pod| pod.address)
    };
    let Some(address) = address else {
        return Err(Refusal::of_code(404, format!("pods {name:?} not found")));
    };
    let port = query.get("ports").and_then(|port| port.parse().ok());
    let missing = || Refusal::new(400, "BadRequest", "query parameter \"ports\" is required");
    forward::forward(world, &mut request, port.ok_or_else(missing)?, address)
}
