//! The token of a login, and the place where it is kept.

use std::{
    env,
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use crate::{Error, ErrorKind, Result};

/// The token of a login at OpenHands Cloud, which is used as an API key.
#[derive(Clone)]
pub struct CloudToken {
    token: SecretString,
    expires: Option<SystemTime>,
}

impl CloudToken {
    /// Reads the response of the service.
    pub(crate) fn of(body: &Value) -> Option<Self> {
        let token = body["access_token"].as_str();
        let valid = body["expires_in"].as_u64().map(Duration::from_secs);
        Some(Self {
            token: token.filter(|token| !token.is_empty())?.into(),
            expires: valid.and_then(|valid| SystemTime::now().checked_add(valid)),
        })
    }

    /// Returns the token.
    pub fn access_token(&self) -> &SecretString {
        &self.token
    }

    /// Returns the time from which the service rejects the token, if it has reported one.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expires
    }

    /// Returns whether the token has expired by this machine's clock.
    pub fn is_expired(&self) -> bool {
        self.expires.is_some_and(|at| at <= SystemTime::now())
    }
}

impl From<CloudToken> for SecretString {
    fn from(token: CloudToken) -> Self {
        token.token
    }
}

impl fmt::Debug for CloudToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudToken")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A directory with the tokens of logins, one file for each service.
///
/// Only this user can read the directory (mode 0700) and its files (mode 0600). A file is replaced
/// as a whole, so a crash leaves the old token or the new one. The methods block for the time of
/// an access to the disk.
///
/// ```no_run
/// # fn open() -> oh_sandbox::Result<()> {
/// use oh_sandbox::{Cloud, CloudServer, TokenStore};
///
/// let token = TokenStore::open()?.load(Cloud::URL)?;
/// if let Some(token) = token.filter(|token| !token.is_expired()) {
///     let _builder = CloudServer::builder(token);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct TokenStore {
    directory: PathBuf,
}

impl TokenStore {
    /// Uses the directory of this user: `$XDG_CONFIG_HOME/oh/tokens`, by default
    /// `~/.config/oh/tokens`; on macOS `~/Library/Application Support/oh/tokens`, and on Windows
    /// `%APPDATA%\oh\tokens`. Creates nothing.
    ///
    /// # Errors
    ///
    /// Returns an error of kind [`InvalidInput`](ErrorKind::InvalidInput) if the variables do not
    /// name an absolute directory.
    pub fn open() -> Result<Self> {
        match configuration(&|name| env::var_os(name)) {
            Some(directory) => Ok(Self::at(directory.join("oh").join("tokens"))),
            None => {
                let message = "there is no directory for tokens: set HOME to an absolute path, or \
                               name a directory with `TokenStore::at`";
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
        }
    }

    /// Uses another directory. Creates nothing.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the token for a service, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the URL is not valid, [`Io`](ErrorKind::Io) if
    /// the file cannot be read, and [`Decode`](ErrorKind::Decode) if it is damaged.
    pub fn load(&self, url: &str) -> Result<Option<CloudToken>> {
        let path = self.file(url)?;
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("cannot read", &path, error)),
        };
        let stored: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let mut token = CloudToken::of(&stored).ok_or_else(|| {
            let path = path.display();
            let message = format!("the file {path} has no token; remove it, and log in again");
            Error::new(ErrorKind::Decode, message)
        })?;
        let expires = stored["expires_at"].as_u64().map(Duration::from_secs);
        token.expires = expires.and_then(|at| UNIX_EPOCH.checked_add(at));
        Ok(Some(token))
    }

    /// Stores the token for a service, in the place of an older one.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the URL is not valid, and
    /// [`Io`](ErrorKind::Io) if the directory or the file cannot be written.
    pub fn save(&self, url: &str, token: &CloudToken) -> Result<()> {
        let path = self.file(url)?;
        let wrong = |error| failed("cannot write", &path, error);
        private_directory(&self.directory).map_err(wrong)?;
        let expires = token
            .expires
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let stored = json!({
            "access_token": token.token.expose_secret(),
            "expires_at": expires.map(|at| at.as_secs()),
        });
        // Created with mode 0600.
        let file = tempfile::NamedTempFile::new_in(&self.directory).map_err(wrong)?;
        serde_json::to_writer(file.as_file(), &stored)
            .map_err(|error| wrong(io::Error::other(error)))?;
        file.as_file().sync_all().map_err(wrong)?;
        let persisted = file.persist(&path);
        persisted.map_err(|error| wrong(error.error)).map(drop)
    }

    /// Removes the token for a service (logout), and returns whether there was one. The service is
    /// not informed: revoke the token on its web page if others may have it.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the URL is not valid, and
    /// [`Io`](ErrorKind::Io) if the file cannot be removed.
    pub fn remove(&self, url: &str) -> Result<bool> {
        let path = self.file(url)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("cannot remove", &path, error)),
        }
    }

    /// Returns the file of a service, named after its scheme, host and port.
    fn file(&self, url: &str) -> Result<PathBuf> {
        let parsed = Url::parse(url).ok();
        let parsed = parsed.filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(host) = parsed.as_ref().and_then(Url::host_str) else {
            let message = "the URL of the service must start with http:// or https://";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        };
        let scheme = parsed.as_ref().map_or("https", Url::scheme);
        let port = parsed.as_ref().and_then(Url::port);
        let port = port.map_or_else(String::new, |port| format!("-{port}"));
        let plain = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
        let name = format!("{scheme}-{host}{port}.json");
        let name: String = name
            .chars()
            .map(|char| if plain(char) { char } else { '_' })
            .collect();
        Ok(self.directory.join(name))
    }
}

/// Returns the directory of this user's configuration.
fn configuration(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| {
        let path = variable(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    if cfg!(windows) {
        return set("APPDATA");
    }
    if cfg!(target_os = "macos") {
        return Some(set("HOME")?.join("Library").join("Application Support"));
    }
    set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))
}

/// Creates a directory that only this user can read.
fn private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        builder.mode(0o700);
        builder.create(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
    }
    #[cfg(not(unix))]
    builder.create(path)
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    let message = format!("{doing} the token file {}", path.display());
    Error::new(ErrorKind::Io, message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "https://app.example.com";

    fn token() -> CloudToken {
        CloudToken::of(&json!({"access_token": "canary", "expires_in": 3600})).unwrap()
    }

    #[test]
    fn a_token_is_stored_for_one_service_only_and_removed() {
        let place = tempfile::tempdir().unwrap();
        let store = TokenStore::at(place.path().join("a").join("tokens"));
        let (one, other) = ("https://app.example.com/", "https://app.example.com:8443");
        assert!(store.load(one).unwrap().is_none());
        store.save(one, &token()).unwrap();
        store.save(one, &token()).unwrap();
        let loaded = store.load("https://app.example.com").unwrap().unwrap();
        assert_eq!(loaded.access_token().expose_secret(), "canary");
        assert!(!loaded.is_expired() && loaded.expires_at().is_some());
        assert!(!format!("{loaded:?} {store:?}").contains("canary"));
        assert!(store.load(other).unwrap().is_none());
        assert_eq!(fs::read_dir(store.directory()).unwrap().count(), 1);
        assert!(store.remove(one).unwrap());
        assert!(!store.remove(one).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn only_this_user_can_read_a_token() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let store = TokenStore::at(place.path().join("tokens"));
        fs::create_dir(store.directory()).unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(store.directory(), open).unwrap();
        store.save(SERVICE, &token()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(store.directory()), 0o700);
        assert_eq!(mode(&store.file(SERVICE).unwrap()), 0o600);
    }

    #[test]
    fn a_damaged_file_and_an_invalid_url_are_typed() {
        let place = tempfile::tempdir().unwrap();
        let store = TokenStore::at(place.path());
        let path = store.file(SERVICE).unwrap();
        fs::write(&path, "{\"access_token\":").unwrap();
        let error = store.load(SERVICE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
        for url in ["app.example.com", "file:///etc/passwd", ""] {
            let error = store.load(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }

    #[cfg(all(unix, not(target_os = "macos")))]
    #[test]
    fn the_directory_follows_the_xdg_rules() {
        let of = |config: &'static str, home: &'static str| {
            configuration(&|name| {
                let value = match name {
                    "XDG_CONFIG_HOME" => config,
                    "HOME" => home,
                    _ => "",
                };
                (!value.is_empty()).then(|| value.into())
            })
        };
        assert_eq!(of("/c", "/h"), Some("/c".into()));
        assert_eq!(of("relative", "/h"), Some("/h/.config".into()));
        assert_eq!(of("", ""), None);
    }
}
