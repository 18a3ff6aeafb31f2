//! The keeper of a container: a process that creates it, and removes it after this process has
//! ended.

use std::{path::PathBuf, time::Duration};

use bollard::models::ContainerCreateBody;
use oh_process::internal::Keeper;
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::{Engine, Error, ErrorKind, Result, docker::discover::Address};

/// Time limit for a connection of the keeper by ssh.
const SSH: Duration = Duration::from_secs(30);
const SCRIPT: &str = include_str!("remove.py");

/// Creates a container with this name and removes it. The keeper does nothing before that.
#[derive(Debug, Clone)]
pub(crate) struct Remover {
    /// Not set if the caller wants none.
    keeper: Option<Keeper>,
    address: Address,
    /// The directory of the engine's forwarded ports, which is removed too.
    place: Option<PathBuf>,
    name: String,
    grace: Duration,
}

/// The result of a request to create a container.
#[derive(Debug)]
pub(crate) enum Created {
    /// The container exists, with this id.
    As(String),
    /// The engine has refused it.
    Refused(bollard::errors::Error),
    /// The connection failed for this reason. The engine may have created the container.
    Lost(String),
}

impl Remover {
    /// Starts a keeper, with the first interpreter of this machine that can run it.
    pub(crate) async fn start(
        wanted: bool,
        engine: &Engine,
        name: String,
        grace: Duration,
    ) -> Result<Self> {
        let keeper = match wanted {
            true => Some(start_keeper(", or call `without_keeper`").await?),
            false => None,
        };
        let place = match &engine.forwards {
            Some(forwards) => Some(forwards.place()?.to_owned()),
            None => None,
        };
        Ok(Self {
            keeper,
            address: engine.address.clone(),
            place,
            name,
            grace,
        })
    }

    /// Creates the container, and removes it from now on. Returns the response of the engine, or
    /// `None` if there is no keeper. The keeper sends the request: it gets the response even if
    /// this process ends first, so it knows whether there is a container. Not cancel-safe.
    pub(crate) async fn create(
        &self,
        platform: Option<&str>,
        body: &ContainerCreateBody,
    ) -> Result<Option<Created>> {
        if self.keeper.is_none() {
            return Ok(None);
        }
        let script = self.script() + &creation(&self.name, platform, body);
        self.send(&script).await.map(|said| Some(created(&said)))
    }

    /// Removes nothing from now on.
    pub(crate) async fn release(&self) -> Result<()> {
        self.send("def end(orphaned):\n    pass\n").await.map(drop)
    }

    /// Removes the container and waits until it is gone. Returns false if there is no keeper that
    /// can do it. Requires no runtime.
    pub(crate) fn remove_blocking(&self) -> bool {
        match &self.keeper {
            Some(keeper) if keeper.is_alive() => {
                keeper.close_blocking();
                true
            }
            _ => false,
        }
    }

    fn script(&self) -> String {
        // A string of JSON is also one of Python.
        let address = match &self.address {
            Address::Unix(path) => json!(path.to_string_lossy()),
            Address::Tcp(host, port) => json!([host, port]),
            Address::Tls(host, port, directory) => {
                json!({"host": host, "port": port, "certificates": directory.to_string_lossy()})
            }
            Address::Ssh(host) => {
                let agent = std::env::var("SSH_AUTH_SOCK").unwrap_or_default();
                let arguments = host.to_engine(SSH);
                let place = self.place.as_ref().map(|path| path.to_string_lossy());
                json!({"ssh": arguments, "agent": agent, "place": place.unwrap_or_default()})
            }
        };
        let grace = self.grace.as_secs_f64().ceil();
        format!(
            "ADDRESS = {address}\nNAME = {}\nGRACE = {grace}\n{SCRIPT}",
            json!(self.name)
        )
    }

    async fn send(&self, script: &str) -> Result<String> {
        let Some(keeper) = &self.keeper else {
            return Ok(String::new());
        };
        keeper.at_end(script).await.map_err(|error| {
            let message = "the process that removes the container when this program ends has ended";
            Error::new(ErrorKind::Spawn, message).with_source(error)
        })
    }
}

/// Returns the line that lets the script create a container.
fn creation(name: &str, platform: Option<&str>, body: &ContainerCreateBody) -> String {
    let mut query = form_urlencoded::Serializer::new("/containers/create?".to_owned());
    query.append_pair("name", name);
    if let Some(platform) = platform {
        query.append_pair("platform", platform);
    }
    // A string of JSON is also one of Python.
    let (path, body) = (json!(query.finish()), json!(json!(body).to_string()));
    format!("said = create({path}, {body})\n")
}

/// Reads what the script says about a creation.
fn created(said: &str) -> Created {
    let mut said: Value = serde_json::from_str(said).unwrap_or_default();
    let mut text = |pointer| match said.pointer_mut(pointer).map(Value::take) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    if let Some(id) = text("/response/Id") {
        return Created::As(id);
    }
    if let Some(lost) = text("/lost") {
        return Created::Lost(lost);
    }
    let message = text("/response/message").unwrap_or_default();
    let status = said["status"]
        .as_u64()
        .and_then(|status| status.try_into().ok());
    Created::Refused(bollard::errors::Error::DockerResponseServerError {
        status_code: status.unwrap_or_default(),
        message,
    })
}

/// Starts a keeper with the first interpreter of this machine that can run it. `otherwise` is what
/// else the caller can do.
pub(crate) async fn start_keeper(otherwise: &str) -> Result<Keeper> {
    let on_path = ["python3", "python"].iter();
    let on_path = on_path.flat_map(|name| which::which_all(name).into_iter().flatten());
    let usual = ["/usr/bin/python3", "/usr/local/bin/python3"];
    let mut reason = None;
    for python in on_path.chain(usual.iter().map(PathBuf::from)) {
        if !python.exists() {
            continue;
        }
        match Keeper::start(&python).await {
            Ok(keeper) => return Ok(keeper),
            Err(error) => reason = Some(error),
        }
    }
    let message = format!(
        "cannot start the process that removes the container when this program ends: it needs \
         Python 3.9 or newer; install Python{otherwise}"
    );
    let error = Error::new(ErrorKind::Spawn, message);
    Err(match reason {
        Some(reason) => error.with_source(reason),
        None => error,
    })
}
