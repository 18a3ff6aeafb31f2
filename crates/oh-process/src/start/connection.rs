//! The file by which other programs reach a server.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use oh_transport::Client;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result, start::probe::direct, supervise::keeper::Keeper};

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct Content {
    url: String,
    session_api_key: String,
}

/// Lets the keeper remove the file when the server is gone.
pub(crate) fn remove_at_end(keeper: &Keeper, path: &Path) -> io::Result<()> {
    // The keeper works in another directory.
    let path = std::path::absolute(path)?;
    keeper.remove_at_end(&unfinished(&path))?;
    keeper.remove_at_end(&path)
}

/// Writes the file. Other programs see the whole file, or none.
pub(crate) fn write(path: &Path, url: &str, key: &SecretString) -> Result<()> {
    let content = Content {
        url: url.to_owned(),
        session_api_key: key.expose_secret().to_owned(),
    };
    let write = || {
        let unfinished = unfinished(path);
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&unfinished)?;
        file.write_all(&serde_json::to_vec(&content)?)?;
        fs::rename(&unfinished, path)
    };
    write().map_err(|error| {
        let message = format!("cannot write the connection file {}", path.display());
        Error::directory(message, error)
    })
}

/// Returns a client for the server that has written the file.
pub(crate) fn read(path: &Path) -> Result<Client> {
    let shown = path.display();
    let json = fs::read(path).map_err(|error| {
        Error::directory(format!("cannot read the connection file {shown}"), error)
    })?;
    // The cause would show a part of the content.
    let content: Content = serde_json::from_slice(&json).map_err(|_| {
        let message = format!("{shown} is not a connection file");
        Error::new(ErrorKind::InvalidInput, message)
    })?;
    let client = || {
        let network = direct()?;
        Client::builder(content.url)
            .session_api_key(content.session_api_key)
            .http_transport(network.clone())
            .socket_transport(network)
            .build()
    };
    client().map_err(|error| {
        let message = format!("{shown} does not contain a valid URL and key");
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_is_private_and_can_be_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("server.json");
        for key in ["canary-1", "canary-2"] {
            write(&path, "http://127.0.0.1:1", &key.into()).unwrap();
            assert_eq!(
                read(&path).unwrap().base_url().as_str(),
                "http://127.0.0.1:1/"
            );
            assert!(fs::read_to_string(&path).unwrap().contains(key));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_not_valid_is_reported_without_its_content() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("server.json");
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::Io);
        for content in [
            "",
            r#"{"session_api_key": "canary"}"#,
            r#"{"url": 1, "session_api_key": "canary"}"#,
            r#"{"url": "not a URL", "session_api_key": "canary"}"#,
            r#"{"url": "http://127.0.0.1:1", "session_api_key": "canary\n"}"#,
        ] {
            fs::write(&path, content).unwrap();
            let error = read(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{content}");
            assert!(
                !format!("{error} {error:?}").contains("canary"),
                "{error:?}"
            );
        }
    }
}
