//! The file from which the server reads its keys, as the archive that the engine unpacks.

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::{Error, ErrorKind, Result};

/// Directory of the file. Every image has it.
pub(crate) const BASE: &str = "/etc";
const DIRECTORY: &str = "openhands-rs";
const FILE: &str = "openhands-rs/server.json";

/// Path of the file in the container.
pub(crate) const PATH: &str = "/etc/openhands-rs/server.json";

/// Returns an archive with the file. The server's user is not known, so everyone in the container
/// can read the file.
pub(crate) fn archive(keys: &[SecretString], secret_key: &SecretString) -> Result<Bytes> {
    let keys: Vec<&str> = keys.iter().map(ExposeSecret::expose_secret).collect();
    let config = json!({
        "session_api_keys": keys,
        "secret_key": secret_key.expose_secret(),
    });
    pack(config.to_string().as_bytes()).map_err(|error| {
        Error::new(ErrorKind::Engine, "cannot pack the server's configuration").with_source(error)
    })
}

fn pack(config: &[u8]) -> std::io::Result<Bytes> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut directory = tar::Header::new_gnu();
    directory.set_entry_type(tar::EntryType::Directory);
    directory.set_mode(0o755);
    directory.set_size(0);
    archive.append_data(&mut directory, DIRECTORY, std::io::empty())?;
    let mut file = tar::Header::new_gnu();
    file.set_mode(0o444);
    file.set_size(config.len() as u64);
    archive.append_data(&mut file, FILE, config)?;
    Ok(archive.into_inner()?.into())
}
