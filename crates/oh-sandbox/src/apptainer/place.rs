//! The private directory with the server's configuration.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use oh_process::internal::{Keeper, random_key};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::{Error, ErrorKind, Result, apptainer::command::FILE};

/// A directory that the keeper removes. Only this user can read it.
#[derive(Debug)]
pub(crate) struct Place(PathBuf);

impl Place {
    /// Creates the directory and the configuration in it.
    pub(crate) fn new(
        keeper: &Keeper,
        keys: &[SecretString],
        secret_key: &SecretString,
    ) -> Result<Self> {
        let name: String = random_key().expose_secret().chars().take(16).collect();
        let path = std::env::temp_dir().join(format!("oh-apptainer-{name}"));
        let place = Self(path);
        let make = || {
            keeper.remove_at_end(&place.0)?;
            let mut builder = DirBuilder::new();
            let mut options = OpenOptions::new();
            #[cfg(unix)]
            {
                use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
                builder.mode(0o700);
                options.mode(0o600);
            }
            builder.create(&place.0)?;
            let file = options
                .write(true)
                .create_new(true)
                .open(place.0.join(FILE))?;
            write(file, keys, secret_key)
        };
        make().map_err(|error| place.failed(error))?;
        Ok(place)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Replaces the keys, once the server has read them.
    pub(crate) fn wipe(&self) -> Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(self.0.join(FILE));
        let written = file.and_then(|file| write(file, &[random_key()], &random_key()));
        written.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> Error {
        let message = format!("cannot write the configuration in {}", self.0.display());
        Error::new(ErrorKind::Spawn, message).with_source(error)
    }
}

fn write(mut file: File, keys: &[SecretString], secret_key: &SecretString) -> io::Result<()> {
    let keys: Vec<&str> = keys.iter().map(ExposeSecret::expose_secret).collect();
    let config = json!({
        "session_api_keys": keys,
        "secret_key": secret_key.expose_secret(),
    });
    file.write_all(config.to_string().as_bytes())
}
