//! The file from which the server reads its keys, as the archive that the engine unpacks.

use bytes::Bytes;
use oh_process::internal;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::{Error, ErrorKind, Result};

/// Directory of the file. Every image has it.
pub(crate) const BASE: &str = "/etc";
const DIRECTORY: &str = "openhands-rs";
const FILE: &str = "openhands-rs/server.json";

/// Path of the file in the container.
pub(crate) const PATH: &str = "/etc/openhands-rs/server.json";

/// Path of the program that forks servers, in the container of a template.
pub(crate) const BROKER: &str = "/etc/openhands-rs/broker.py";

/// Returns an archive with the file. The server's user is not known, so everyone in the container
/// can read the file.
pub(crate) fn archive(keys: &[SecretString], secret_key: &SecretString) -> Result<Bytes> {
    pack(&[(FILE.to_owned(), text(keys, secret_key))])
}

/// Returns an archive with the program that forks servers, and its parts.
pub(crate) fn scripts() -> Result<Bytes> {
    let broker = ("broker.py", include_str!("template/broker.py").to_owned());
    let parts = internal::template_scripts().into_iter();
    let files = parts.chain([broker]);
    let files = files.map(|(name, text)| (format!("{DIRECTORY}/{name}"), text));
    pack(&files.collect::<Vec<_>>())
}

/// Returns the text of the file.
pub(crate) fn text(keys: &[SecretString], secret_key: &SecretString) -> String {
    let keys: Vec<&str> = keys.iter().map(ExposeSecret::expose_secret).collect();
    let config = json!({
        "session_api_keys": keys,
        "secret_key": secret_key.expose_secret(),
    });
    config.to_string()
}

/// Packs files that everyone can read and only root can write.
fn pack(files: &[(String, String)]) -> Result<Bytes> {
    packed(files).map_err(|error| {
        Error::new(ErrorKind::Engine, "cannot pack the server's configuration").with_source(error)
    })
}

fn packed(files: &[(String, String)]) -> std::io::Result<Bytes> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut directory = tar::Header::new_gnu();
    directory.set_entry_type(tar::EntryType::Directory);
    directory.set_mode(0o755);
    directory.set_size(0);
    archive.append_data(&mut directory, DIRECTORY, std::io::empty())?;
    for (name, text) in files {
        let mut file = tar::Header::new_gnu();
        file.set_mode(0o444);
        file.set_size(text.len() as u64);
        archive.append_data(&mut file, name, text.as_bytes())?;
    }
    Ok(archive.into_inner()?.into())
}
