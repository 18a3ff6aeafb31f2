//! The contexts of the `docker` command: named engines in its configuration.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{Error, ErrorKind, Result};

fn json(path: &Path) -> Option<Value> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

/// Returns the name of the current context. `config` is the directory of the configuration.
pub(crate) fn current(config: &Path) -> Option<String> {
    let file = json(&config.join("config.json"))?;
    file["currentContext"].as_str().map(str::to_owned)
}

/// Returns the address of a context, and the directory of its certificates if it has any.
pub(crate) fn read(config: &Path, name: &str) -> Result<(String, Option<PathBuf>)> {
    let contexts = config.join("contexts");
    let meta = contexts.join("meta").join(hash(name)).join("meta.json");
    let found = json(&meta).unwrap_or_default();
    let endpoint = &found["Endpoints"]["docker"];
    let Some(host) = endpoint["Host"].as_str() else {
        let message = format!(
            "the Docker context {name} has no address; choose another with `docker context use`, \
             or set DOCKER_HOST"
        );
        return Err(Error::new(ErrorKind::NoEngine, message));
    };
    let certificates = contexts.join("tls").join(hash(name)).join("docker");
    let certificates = certificates.is_dir().then_some(certificates);
    if host.starts_with("tcp://") && endpoint["SkipTLSVerify"] == true {
        let why = format!("the Docker context {name} has `skip-tls-verify`");
        return Err(unverified(&why));
    }
    Ok((host.to_owned(), certificates))
}

/// Returns the name of the directory of a context.
pub(crate) fn hash(name: &str) -> String {
    let hash = Sha256::digest(name.as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Creates the error of TLS that does not verify the engine.
pub(crate) fn unverified(why: &str) -> Error {
    let message = format!(
        "{why}: the engine would not be verified, and could be anybody; set DOCKER_TLS_VERIFY, or \
         put the engine's CA into the context"
    );
    Error::new(ErrorKind::Unsupported, message)
}
