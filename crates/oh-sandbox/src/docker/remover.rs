//! The keeper of a container: a process that removes it after this process has ended.

use std::{path::PathBuf, time::Duration};

use oh_process::internal::Keeper;
use serde_json::json;

use crate::{Engine, Error, ErrorKind, Result, docker::discover::Address};

/// Time limit for a connection of the keeper by ssh.
const SSH: Duration = Duration::from_secs(30);
const SCRIPT: &str = include_str!("remove.py");

/// Removes a container that has this id or name. The keeper does nothing until a container is
/// expected.
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

    /// Removes the container from now on. Call this before the engine is asked to create the
    /// container.
    pub(crate) async fn expect(&self) -> Result<()> {
        self.send(&self.script(true)).await
    }

    /// Registers that the container exists and has this id.
    pub(crate) async fn created(&mut self, id: &str) -> Result<()> {
        self.name = id.to_owned();
        self.send(&self.script(false)).await
    }

    /// Removes nothing from now on.
    pub(crate) async fn release(&self) -> Result<()> {
        self.send("def end(orphaned):\n    pass\n").await
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

    fn script(&self, pending: bool) -> String {
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
        let pending = if pending { "True" } else { "False" };
        let grace = self.grace.as_secs_f64().ceil();
        format!(
            "ADDRESS = {address}\nNAME = {}\nPENDING = {pending}\nGRACE = {grace}\n{SCRIPT}",
            json!(self.name)
        )
    }

    async fn send(&self, script: &str) -> Result<()> {
        let Some(keeper) = &self.keeper else {
            return Ok(());
        };
        keeper.at_end(script).await.map_err(|error| {
            let message = "cannot register the container with the keeper process";
            Error::new(ErrorKind::Spawn, message).with_source(error)
        })
    }
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
