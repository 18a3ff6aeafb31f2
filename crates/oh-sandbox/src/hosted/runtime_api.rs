//! The operations of the Runtime API.

use std::time::Duration;

use http::Method;
use oh_transport::Network;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    Result,
    hosted::{
        plane::{Access, Ask, Plane, is_missing},
        settings::Settings,
    },
};

/// A client of the Runtime API.
#[derive(Clone)]
pub(crate) struct RuntimeApi {
    pub(crate) plane: Plane,
    /// Time limit of a request that starts or resumes a runtime.
    slow: Duration,
}

/// A runtime, as the Runtime API reports it.
pub(crate) struct Runtime {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) key: SecretString,
    pub(crate) status: String,
    /// In lower case. Empty if it is not reported.
    pub(crate) pod_status: String,
    /// The last lines of the server's log.
    pub(crate) logs: Vec<String>,
    /// Reasons of restarts and events of the pod.
    pub(crate) reasons: Option<String>,
}

impl RuntimeApi {
    pub(crate) fn new(settings: &Settings, network: &Network) -> Result<Self> {
        let access = Access {
            name: "the Runtime API",
            url: &settings.url,
            header: "X-API-Key",
            scheme: "",
            key: Some(&settings.key),
            headers: &[],
            timeout: settings.times.request,
            // A start that is rejected is reported, and a request for the state is sent again by
            // the loop that sent it.
            patience: Duration::ZERO,
        };
        Ok(Self {
            plane: Plane::new(&access, network)?,
            slow: settings.times.start,
        })
    }

    /// Returns the runtime of a session, or `None` if the session is unknown.
    pub(crate) async fn session(&self, session_id: &str) -> Result<Option<Runtime>> {
        let doing = "cannot get the state of the runtime";
        let ask = Ask::get("/sessions/{session_id}", format!("/sessions/{session_id}"));
        match self.plane.ask(doing, ask).await {
            Ok(answer) => self.runtime(doing, &answer).map(Some),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the id of a session's runtime, even if the rest of the response is malformed.
    pub(crate) async fn find(&self, session_id: &str) -> Result<Option<String>> {
        let doing = "cannot find the runtime";
        let ask = Ask::get("/sessions/{session_id}", format!("/sessions/{session_id}"));
        match self.plane.ask(doing, ask).await {
            Ok(answer) => self.id(doing, &answer).map(Some),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn start(&self, body: Value) -> Result<Runtime> {
        let doing = "cannot start a runtime";
        let ask = Ask::create("/start", "/start").body(body).within(self.slow);
        let answer = self.plane.ask(doing, ask).await?;
        self.runtime(doing, &answer)
    }

    pub(crate) async fn resume(&self, runtime_id: &str) -> Result<()> {
        let doing = "cannot resume the runtime";
        let ask = self.by_id("/resume", runtime_id).within(self.slow);
        self.plane.ask(doing, ask).await.map(drop)
    }

    pub(crate) async fn pause(&self, runtime_id: &str) -> Result<()> {
        let ask = self.by_id("/pause", runtime_id);
        self.plane
            .ask("cannot pause the runtime", ask)
            .await
            .map(drop)
    }

    /// Stops a runtime. A runtime that does not exist counts as stopped.
    pub(crate) async fn stop(&self, runtime_id: &str) -> Result<()> {
        let ask = self.by_id("/stop", runtime_id);
        match self.plane.ask("cannot stop the runtime", ask).await {
            Err(error) if !is_missing(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn by_id(&self, route: &'static str, runtime_id: &str) -> Ask {
        let body = json!({ "runtime_id": runtime_id });
        Ask::change(Method::POST, route, route).body(body)
    }

    fn id(&self, doing: &str, answer: &Value) -> Result<String> {
        let mut ids = ["runtime_id", "id"]
            .iter()
            .filter_map(|name| answer[*name].as_str());
        let id = ids.find(|id| !id.is_empty());
        id.map(str::to_owned)
            .ok_or_else(|| self.plane.malformed(doing, "runtime_id"))
    }

    fn runtime(&self, doing: &str, answer: &Value) -> Result<Runtime> {
        let text = |name: &str| answer[name].as_str().filter(|text| !text.is_empty());
        let needed = |name: &str| text(name).ok_or_else(|| self.plane.malformed(doing, name));
        let logs = text("pod_logs").unwrap_or_default().lines();
        let logs = logs.map(|line| self.plane.printable(line)).collect();
        let reasons = ["restart_reasons", "container_statuses", "events"];
        let reasons = reasons.iter().filter_map(|name| match &answer[*name] {
            Value::Array(items) if !items.is_empty() => Some(answer[*name].to_string()),
            _ => None,
        });
        let reasons = reasons.collect::<Vec<_>>().join("; ");
        Ok(Runtime {
            id: self.id(doing, answer)?,
            url: needed("url")?.to_owned(),
            // A server without a key would accept requests of everyone.
            key: needed("session_api_key")?.into(),
            status: text("status").unwrap_or_default().to_lowercase(),
            pod_status: text("pod_status").unwrap_or_default().to_lowercase(),
            logs,
            reasons: (!reasons.is_empty()).then(|| self.plane.printable(&reasons)),
        })
    }
}
