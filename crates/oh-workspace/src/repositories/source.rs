//! The repository to clone: a URL, or an owner and a name at a provider. Contains no I/O.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::{Error, Result};

/// A hosting provider of repositories, with its convention for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GitProvider {
    /// github.com.
    Github,
    /// gitlab.com.
    Gitlab,
    /// bitbucket.org.
    Bitbucket,
    /// dev.azure.com and visualstudio.com.
    AzureDevops,
}

impl GitProvider {
    fn of_host(host: &str) -> Option<Self> {
        match host {
            "github.com" => Some(Self::Github),
            "gitlab.com" => Some(Self::Gitlab),
            "bitbucket.org" => Some(Self::Bitbucket),
            "dev.azure.com" => Some(Self::AzureDevops),
            _ if host.ends_with(".visualstudio.com") => Some(Self::AzureDevops),
            _ => None,
        }
    }

    fn host(self) -> &'static str {
        match self {
            Self::Github => "github.com",
            Self::Gitlab => "gitlab.com",
            Self::Bitbucket => "bitbucket.org",
            Self::AzureDevops => "dev.azure.com",
        }
    }

    /// Returns the user name for a token.
    fn user(self) -> &'static str {
        match self {
            Self::Github => "x-access-token",
            Self::Bitbucket => "x-token-auth",
            Self::Gitlab | Self::AzureDevops => "oauth2",
        }
    }
}

/// A repository to clone.
///
/// ```
/// use oh_workspace::{GitProvider, Repository};
///
/// let one = Repository::new("https://gitlab.com/group/project").git_ref("v1.2");
/// let other = Repository::at(GitProvider::Github, "owner/name").token("secret");
/// # let _ = (one, other);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Repository {
    place: Place,
    git_ref: Option<String>,
    token: Option<SecretString>,
}

#[derive(Clone)]
enum Place {
    Url(String, Option<GitProvider>),
    Short(GitProvider, String),
}

/// A validated repository: every part is safe in a command line.
#[derive(Debug)]
pub(super) struct Checked {
    /// The URL without credentials.
    pub(super) url: String,
    pub(super) git_ref: Option<String>,
    pub(super) credential: Option<Credential>,
    pub(super) name: String,
}

/// The answer to git's credential request.
#[derive(Debug)]
pub(super) struct Credential {
    /// The scheme, host and port that the credential is for.
    pub(super) origin: String,
    pub(super) user: String,
    pub(super) token: SecretString,
}

impl Repository {
    /// Creates a repository from a URL: `https://`, `ssh://`, `user@host:path` or `file://`.
    pub fn new(url: impl Into<String>) -> Self {
        Self::with(Place::Url(url.into(), None))
    }

    /// Creates a repository from a provider and a name in the form `owner/name`.
    pub fn at(provider: GitProvider, name: impl Into<String>) -> Self {
        Self::with(Place::Short(provider, name.into()))
    }

    fn with(place: Place) -> Self {
        Self {
            place,
            git_ref: None,
            token: None,
        }
    }

    /// Sets the branch, tag or commit to check out. Default: the repository's default branch.
    /// Clones are shallow, except for commits.
    pub fn git_ref(mut self, git_ref: impl Into<String>) -> Self {
        self.git_ref = Some(git_ref.into());
        self
    }

    /// Sets the access token, for `https://` URLs. The token is sent to the URL's own host only.
    pub fn token(mut self, token: impl Into<SecretString>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sets the provider software of the URL's host, when the host name does not imply it.
    pub fn provider(mut self, provider: GitProvider) -> Self {
        if let Place::Url(_, hosted) = &mut self.place {
            *hosted = Some(provider);
        }
        self
    }

    /// Returns the name of the repository for results. Credentials in the URL are removed.
    pub(super) fn shown(&self) -> String {
        match &self.place {
            Place::Short(_, name) => name.clone(),
            Place::Url(text, _) => match Url::parse(text) {
                Ok(mut url) if url.has_host() => {
                    let _ = url.set_username("");
                    let _ = url.set_password(None);
                    url.set_query(None);
                    url.into()
                }
                // Not a URL: text before the `@` may be a secret, unless it is `git`.
                _ => match text.rsplit_once('@') {
                    Some((user, rest)) if user != "git" => format!("…@{rest}"),
                    _ => text.clone(),
                },
            },
        }
    }

    pub(super) fn check(&self) -> Result<Checked> {
        let git_ref = self.git_ref.clone();
        if let Some(git_ref) = &git_ref
            && (git_ref.is_empty()
                || git_ref.starts_with('-')
                || git_ref.contains(|c: char| c.is_control() || c.is_whitespace()))
        {
            return Err(Error::invalid(
                "invalid git ref: must not be empty, contain whitespace or begin with `-`",
            ));
        }
        let (url, provider) = match &self.place {
            Place::Url(text, provider) => (web_or_other(text)?, *provider),
            Place::Short(provider, name) => (Address::Web(short(*provider, name)?), None),
        };
        let credential = match (&self.token, &url) {
            (None, _) => None,
            (Some(token), Address::Web(url)) => Some(credential(url, provider, token)?),
            (Some(_), Address::Other(_)) => {
                return Err(Error::invalid(
                    "a token can be used only with an https:// URL",
                ));
            }
        };
        let url = url.into_text();
        Ok(Checked {
            name: directory_name(&url),
            url,
            git_ref,
            credential,
        })
    }
}

enum Address {
    Web(Url),
    Other(String),
}

impl Address {
    fn into_text(self) -> String {
        match self {
            Self::Web(url) => url.into(),
            Self::Other(text) => text,
        }
    }
}

fn short(provider: GitProvider, name: &str) -> Result<Url> {
    if provider == GitProvider::AzureDevops {
        let context = "an Azure DevOps repository must be given as a URL, such as \
                       https://dev.azure.com/organization/project/_git/name";
        return Err(Error::invalid(context));
    }
    let word = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && !part.starts_with(['-', '.']) && part.chars().all(plain)
    };
    let parts: Vec<_> = name.split('/').collect();
    // Groups can be nested.
    if parts.len() < 2 || !parts.iter().all(|part| word(part)) {
        return Err(Error::invalid(
            "invalid repository name: must be owner/name",
        ));
    }
    let name = name.strip_suffix(".git").unwrap_or(name);
    Url::parse(&format!("https://{}/{name}.git", provider.host()))
        .map_err(|error| Error::invalid("invalid repository name").with_source(error))
}

fn web_or_other(text: &str) -> Result<Address> {
    // The text may contain credentials, so the error does not repeat it.
    let junk = || {
        Error::invalid(
            "invalid repository URL: must be https://, ssh://, user@host:path or file://",
        )
    };
    // Git takes the path of a local repository literally.
    let local = text.starts_with("file://");
    if text.contains(|c: char| c.is_control() || (c.is_whitespace() && !local)) {
        return Err(junk());
    }
    if !text.contains("://")
        && let Some((user, rest)) = text.split_once('@')
    {
        let word = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !part.is_empty() && !part.starts_with('-') && part.chars().all(plain)
        };
        let good = rest
            .split_once(':')
            .is_some_and(|(host, path)| word(user) && word(host) && !path.is_empty());
        return good
            .then(|| Address::Other(text.to_owned()))
            .ok_or_else(junk);
    }
    let url = Url::parse(text).map_err(|_| junk())?;
    match url.scheme() {
        "ssh" if url.password().is_none() => Ok(Address::Other(url.into())),
        _ if local => Ok(Address::Other(text.to_owned())),
        "https" | "http" => {
            // Azure DevOps shows URLs whose user is the organization, which is not a credential.
            let named = GitProvider::of_host(url.host_str().unwrap_or_default())
                == Some(GitProvider::AzureDevops);
            if url.password().is_some() || !(url.username().is_empty() || named) {
                let context = "the repository URL must not contain credentials: use a token \
                               instead";
                return Err(Error::invalid(context));
            }
            if url.scheme() == "http" && !loopback(&url) {
                return Err(Error::invalid(
                    "the repository URL must use https://, not http://",
                ));
            }
            Ok(Address::Web(url))
        }
        _ => Err(junk()),
    }
}

fn loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn credential(
    url: &Url,
    provider: Option<GitProvider>,
    token: &SecretString,
) -> Result<Credential> {
    let text = token.expose_secret();
    if text.is_empty() || text.chars().all(|c| c == '*') {
        return Err(Error::invalid(
            "the token must not be empty or masked (`****`)",
        ));
    }
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(Error::invalid(
            "the token must not contain whitespace or control characters",
        ));
    }
    let host = url.host_str().unwrap_or_default();
    let provider = provider.or_else(|| GitProvider::of_host(host));
    let user = match url.username() {
        "" => provider.map_or("x-access-token", GitProvider::user),
        named => named,
    };
    Ok(Credential {
        origin: url.origin().ascii_serialization(),
        user: user.to_owned(),
        token: token.clone(),
    })
}

/// Returns the name of the directory for a repository.
fn directory_name(url: &str) -> String {
    // The URL may also point to a `.git` directory.
    let url = url.trim_end_matches('/');
    let url = url.strip_suffix("/.git").unwrap_or(url);
    let url = url.strip_suffix(".git").unwrap_or(url);
    let last = url.rsplit(['/', '\\', ':']).next().unwrap_or_default();
    let plain = |c: char| match c {
        '<' | '>' | '"' | '|' | '?' | '*' | '%' => '_',
        c if c.is_control() => '_',
        c => c,
    };
    let name: String = last.chars().map(plain).collect();
    let name = name.trim_matches(['.', ' ', '-']);
    if name.is_empty() { "repo" } else { name }.to_owned()
}

impl From<&str> for Repository {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl From<String> for Repository {
    fn from(url: String) -> Self {
        Self::new(url)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("url", &self.shown())
            .field("git_ref", &self.git_ref)
            .field("token", &self.token.as_ref().map(|_| "set"))
            .finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn repositories_can_be_named_in_several_ways() {
        for (url, expected, name) in [
            (
                "https://github.com/owner/repo",
                "https://github.com/owner/repo",
                "repo",
            ),
            (
                "https://github.com/o/my.repo-x.git",
                "https://github.com/o/my.repo-x.git",
                "my.repo-x",
            ),
            (
                "https://gitlab.com/a/b/c/",
                "https://gitlab.com/a/b/c/",
                "c",
            ),
            (
                "git@github.com:owner/repo.git",
                "git@github.com:owner/repo.git",
                "repo",
            ),
            ("gitea@h.example:a/b.git", "gitea@h.example:a/b.git", "b"),
            (
                "ssh://git@host:22/a/b.git",
                "ssh://git@host:22/a/b.git",
                "b",
            ),
            ("file:///srv/some.git", "file:///srv/some.git", "some"),
            (
                "https://org@dev.azure.com/org/p/_git/r",
                "https://org@dev.azure.com/org/p/_git/r",
                "r",
            ),
            (
                "http://127.0.0.1:8080/x.git",
                "http://127.0.0.1:8080/x.git",
                "x",
            ),
        ] {
            let checked = Repository::new(url).check().unwrap();
            assert_eq!(
                (checked.url.as_str(), checked.name.as_str()),
                (expected, name)
            );
        }
        let short = Repository::at(GitProvider::Gitlab, "group/sub/name")
            .check()
            .unwrap();
        assert_eq!(short.url, "https://gitlab.com/group/sub/name.git");
        let short = Repository::at(GitProvider::Github, "o/n.git")
            .check()
            .unwrap();
        assert_eq!(short.url, "https://github.com/o/n.git");
    }

    #[test]
    fn invalid_sources_are_rejected_without_being_shown() {
        for url in [
            "",
            "owner/repo",
            "ftp://host/x",
            "--upload-pack=touch /tmp/x",
            "-x",
            "ext::sh -c id",
            "https://user:canary@github.com/o/r",
            "https://canary@github.com/o/r",
            "https://user:canary@bad host/o/r",
            "ssh://git:canary@host/x",
            "http://github.com/o/r",
            "https://github.com/o/r\nx",
            "git@-oProxyCommand=x:y",
            "-oProxyCommand=x@host:y",
            "a b@host:x",
            "user:canary@host:x",
            "git@host",
        ] {
            let error = Repository::new(url).check().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput, "{url}");
            assert!(
                !format!("{error} {error:?}").contains("canary"),
                "{error:?}"
            );
            let shown = Repository::new(url).shown();
            assert!(!shown.contains("canary"), "{shown}");
        }
        for name in ["", "repo", "a//b", "-a/b", "a/..", "a/b c", "a/b;c"] {
            assert!(
                Repository::at(GitProvider::Github, name).check().is_err(),
                "{name}"
            );
        }
        assert!(
            Repository::at(GitProvider::AzureDevops, "a/b")
                .check()
                .is_err()
        );
        for git_ref in ["", "-b", "a b", "a\0"] {
            let repository = Repository::new("https://github.com/o/r").git_ref(git_ref);
            assert!(repository.check().is_err(), "{git_ref:?}");
        }
    }

    #[test]
    fn pitfall_25_a_token_is_sent_only_to_its_host() {
        let given = |repository: Repository| {
            let checked = repository.token("to/ken").check().unwrap();
            assert!(!checked.url.contains("ken"));
            let credential = checked.credential.unwrap();
            assert_eq!(credential.token.expose_secret(), "to/ken");
            format!("{} {}", credential.user, credential.origin)
        };
        let github = given(Repository::new("https://github.com/o/r"));
        assert_eq!(github, "x-access-token https://github.com");
        let own = Repository::new("https://git.example.com:8443/o/r?x=1");
        let own = given(own.provider(GitProvider::Gitlab));
        assert_eq!(own, "oauth2 https://git.example.com:8443");
        let azure = given(Repository::new("https://org@dev.azure.com/org/p/_git/r"));
        assert_eq!(azure, "org https://dev.azure.com");
        for (url, token) in [
            ("git@github.com:o/r", "token"),
            ("file:///x", "token"),
            ("https://github.com/o/r", ""),
            ("https://github.com/o/r", "**********"),
            ("https://github.com/o/r", "a\nb"),
        ] {
            let error = Repository::new(url).token(token).check().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput, "{url}");
        }
        let shown = format!(
            "{:?}",
            Repository::new("https://u:canary@h/x").token("canary")
        );
        assert!(!shown.contains("canary"), "{shown}");
    }
}
