//! The sandboxes of an account of OpenHands Cloud.

use std::{fmt, time::Duration};

use http::Method;
use secrecy::SecretString;
use serde_json::Value;

use crate::{
    Error, ErrorKind, Request, Result,
    hosted::{
        cloud::api::{Cloud, query},
        plane::{Ask, is_missing},
        settings::check_id,
    },
};

const SANDBOXES: &str = "/api/v1/sandboxes";

/// A sandbox of OpenHands Cloud, as its API reports it.
#[derive(Clone)]
#[non_exhaustive]
pub struct CloudSandbox {
    /// The id, with which the sandbox is found again.
    pub id: String,
    /// The id of the specification that the sandbox was started with. Empty if it is not reported.
    pub spec: String,
    /// The status.
    pub status: CloudStatus,
    /// The URLs of the services in the sandbox. Empty unless the sandbox works.
    pub exposed_urls: Vec<ExposedUrl>,
    /// The time of the start, in ISO 8601. Empty if it is not reported.
    pub created_at: String,
    /// The reason of the status, if the service gives one.
    pub reason: Option<String>,
    pub(crate) key: Option<SecretString>,
}

/// The status of a [`CloudSandbox`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloudStatus {
    /// The sandbox is starting, or is being resumed.
    Starting,
    /// The sandbox works.
    Running,
    /// The sandbox is paused. Its disk is kept.
    Paused,
    /// The sandbox has failed.
    Error,
    /// The sandbox does not exist any more.
    Missing,
    /// A status that this crate does not have.
    Other(String),
}

/// The URL of a service in a sandbox.
///
/// The URL may contain a token, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExposedUrl {
    /// The name, such as [`ExposedUrl::VSCODE`].
    pub name: String,
    /// The URL.
    pub url: String,
    /// The port in the sandbox, if it is reported.
    pub port: Option<u16>,
}

impl ExposedUrl {
    /// The name of the agent server.
    pub const AGENT_SERVER: &'static str = "AGENT_SERVER";
    /// The name of VS Code.
    pub const VSCODE: &'static str = "VSCODE";
    /// The name of the first port for programs of the agent, such as a web server.
    pub const WORKER_1: &'static str = "WORKER_1";
    /// The name of the second port for programs of the agent.
    pub const WORKER_2: &'static str = "WORKER_2";
}

impl Cloud {
    /// Returns all sandboxes of the account, also the paused ones.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    pub fn sandboxes(&self) -> Request<Vec<CloudSandbox>> {
        let cloud = self.clone();
        Request::new(async move {
            let doing = "cannot list the sandboxes";
            let route = "/api/v1/sandboxes/search";
            let items = cloud.all_pages(doing, route).await?;
            items.iter().map(|item| cloud.info(doing, item)).collect()
        })
    }

    /// Returns a sandbox, or `None` if the service does not have it.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    pub fn sandbox(&self, id: impl Into<String>) -> Request<Option<CloudSandbox>> {
        let (cloud, id) = (self.clone(), id.into());
        Request::new(async move {
            check_id("sandbox id", &id)?;
            let doing = "cannot get the state of the sandbox";
            let ask = Ask::get(SANDBOXES, format!("{SANDBOXES}?id={id}"));
            let answer = cloud.ask(doing, ask).await?;
            let Some(found) = answer.as_array() else {
                return Err(cloud.plane().malformed(doing, "list of sandboxes"));
            };
            match found.first() {
                None | Some(Value::Null) => Ok(None),
                Some(item) => cloud.info(doing, item).map(Some),
            }
        })
    }

    /// Pauses a sandbox. Its processes end, and its disk is kept.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if the service does not have the sandbox, and otherwise as
    /// for [`call`](Self::call).
    pub fn pause_sandbox(&self, id: impl Into<String>) -> Request<()> {
        let route = "/api/v1/sandboxes/{sandbox_id}/pause";
        self.change_sandbox("cannot pause the sandbox", route, id.into(), "/pause", None)
    }

    /// Resumes a paused sandbox. Does not wait until it works.
    ///
    /// # Errors
    ///
    /// As for [`pause_sandbox`](Self::pause_sandbox).
    pub fn resume_sandbox(&self, id: impl Into<String>) -> Request<()> {
        let route = "/api/v1/sandboxes/{sandbox_id}/resume";
        let doing = "cannot resume the sandbox";
        self.change_sandbox(doing, route, id.into(), "/resume", None)
    }

    /// Deletes a sandbox and its disk. A sandbox that does not exist counts as deleted.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    pub fn delete_sandbox(&self, id: impl Into<String>) -> Request<()> {
        let (cloud, id) = (self.clone(), id.into());
        Request::new(async move {
            check_id("sandbox id", &id)?;
            let route = "/api/v1/sandboxes/{sandbox_id}";
            // The service reads the id in the query.
            let target = format!("{SANDBOXES}/{id}?sandbox_id={id}");
            let ask = Ask::change(Method::DELETE, route, target);
            match cloud.ask("cannot delete the sandbox", ask).await {
                Err(error) if !is_missing(&error) => Err(error),
                _ => Ok(()),
            }
        })
    }

    /// Resumes a sandbox within a time limit for the response.
    pub(crate) fn resume_within(&self, id: String, limit: Duration) -> Request<()> {
        let route = "/api/v1/sandboxes/{sandbox_id}/resume";
        let doing = "cannot resume the sandbox";
        self.change_sandbox(doing, route, id, "/resume", Some(limit))
    }

    /// Starts a sandbox, and returns its id.
    pub(crate) async fn start_sandbox(
        &self,
        spec: Option<&str>,
        limit: Duration,
    ) -> Result<String> {
        let doing = "cannot start a sandbox";
        let mut target = SANDBOXES.to_owned();
        if let Some(spec) = spec {
            target = format!("{target}?{}", query([("sandbox_spec_id", spec)]));
        }
        let ask = Ask::create(SANDBOXES, target).within(limit);
        let answer = self.ask(doing, ask).await?;
        self.info(doing, &answer).map(|sandbox| sandbox.id)
    }

    fn change_sandbox(
        &self,
        doing: &'static str,
        route: &'static str,
        id: String,
        action: &'static str,
        limit: Option<Duration>,
    ) -> Request<()> {
        let cloud = self.clone();
        Request::new(async move {
            check_id("sandbox id", &id)?;
            let target = format!("{SANDBOXES}/{id}{action}");
            let mut ask = Ask::change(Method::POST, route, target);
            if let Some(limit) = limit {
                ask = ask.within(limit);
            }
            match cloud.ask(doing, ask).await {
                Err(error) if is_missing(&error) => {
                    let message = format!(
                        "{doing}: OpenHands Cloud does not have the sandbox {id} any more; start \
                         another one"
                    );
                    Err(Error::new(ErrorKind::NotFound, message).with_source(error))
                }
                asked => asked.map(drop),
            }
        })
    }

    /// Returns the items of all pages.
    pub(crate) async fn all_pages(&self, doing: &str, route: &'static str) -> Result<Vec<Value>> {
        let (mut items, mut page) = (Vec::new(), None::<String>);
        loop {
            let after = page.as_deref().map(|page| ("page_id", page));
            let pairs = [("limit", "100")].into_iter().chain(after);
            let ask = Ask::get(route, format!("{route}?{}", query(pairs)));
            let mut answer = self.ask(doing, ask).await?;
            match answer["items"].take() {
                Value::Array(found) => items.extend(found),
                _ => return Err(self.plane().malformed(doing, "items")),
            }
            let next = answer["next_page_id"].as_str().map(str::to_owned);
            // A service that repeats a page would never end.
            if next.is_none() || next == page {
                return Ok(items);
            }
            page = next;
        }
    }

    fn info(&self, doing: &str, item: &Value) -> Result<CloudSandbox> {
        let text = |name: &str| item[name].as_str().filter(|text| !text.is_empty());
        let Some(id) = text("id") else {
            return Err(self.plane().malformed(doing, "id"));
        };
        let urls = item["exposed_urls"].as_array().into_iter().flatten();
        let urls = urls.filter_map(|url| {
            Some(ExposedUrl {
                name: url["name"].as_str()?.to_owned(),
                url: url["url"].as_str()?.to_owned(),
                port: url["port"].as_u64().and_then(|port| port.try_into().ok()),
            })
        });
        let reasons = ["status_reason", "detail", "error", "message"];
        let reason = reasons.iter().find_map(|name| text(name));
        Ok(CloudSandbox {
            id: id.to_owned(),
            spec: text("sandbox_spec_id").unwrap_or_default().to_owned(),
            status: CloudStatus::of(text("status").unwrap_or_default()),
            exposed_urls: urls.collect(),
            created_at: text("created_at").unwrap_or_default().to_owned(),
            reason: reason.map(|reason| self.plane().printable(reason)),
            key: text("session_api_key").map(Into::into),
        })
    }
}

impl CloudStatus {
    fn of(text: &str) -> Self {
        match text {
            "STARTING" => Self::Starting,
            "RUNNING" => Self::Running,
            "PAUSED" => Self::Paused,
            "ERROR" => Self::Error,
            "MISSING" => Self::Missing,
            other => Self::Other(oh_protocol::printable(other).into_owned()),
        }
    }
}

impl fmt::Display for CloudStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Error => "ERROR",
            Self::Missing => "MISSING",
            Self::Other(other) => other,
        })
    }
}

impl fmt::Debug for CloudSandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudSandbox")
            .field("id", &self.id)
            .field("spec", &self.spec)
            .field("status", &self.status)
            .field("exposed_urls", &self.exposed_urls)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ExposedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExposedUrl")
            .field("name", &self.name)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}
