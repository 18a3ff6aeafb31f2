//! Plugins and marketplaces.

use super::{
    fields::{Field, Fields},
    model::model,
};
use crate::redact;

model! {
    /// A plugin to load (`PluginSource` on the server): a bundle of skills, MCP servers (Model
    /// Context Protocol) and hooks.
    pub struct Plugin;
    by_hand: ["source", "ref", "repo_path"];
}

impl Plugin {
    /// Creates a plugin from `github:owner/repo`, the URL of a git repository, or a path on the
    /// server.
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("Plugin").with("source", Field::address(source)),
        }
    }

    /// Sets the branch, tag or commit of the git repository (`ref`).
    pub fn reference(mut self, reference: impl Into<String>) -> Self {
        self.fields.put("ref", reference.into());
        self
    }

    /// Sets the plugin's directory in the repository, as a relative path.
    pub fn repo_path(mut self, path: impl Into<String>) -> Self {
        self.fields.put("repo_path", below(path.into()));
        self
    }

    /// Returns a public URL for the plugin, without credentials. Returns `None` for a path on the
    /// server.
    pub fn source_url(&self) -> Option<String> {
        let source = self.fields.text("source")?;
        let Some(repository) = source.strip_prefix("github:") else {
            return public_url(source);
        };
        let mut url = format!("https://github.com/{repository}");
        let (reference, path) = (self.fields.text("ref"), self.fields.text("repo_path"));
        if reference.is_some() || path.is_some() {
            url.push_str("/tree/");
            url.push_str(reference.unwrap_or("main"));
        }
        if let Some(path) = path {
            url.push('/');
            url.push_str(path);
        }
        Some(url)
    }
}

/// Returns a URL without user, password, query and fragment, each of which may be secret. The user
/// in `git@host:owner/repo` is not secret and is kept.
fn public_url(source: &str) -> Option<String> {
    if source.starts_with("git@") {
        return source.split(['?', '#']).next().map(str::to_owned);
    }
    let bare = redact::public_url(source)?;
    let known = ["https://", "http://", "git://", "ssh://"];
    let known = known.iter().any(|scheme| bare.starts_with(scheme));
    known.then(|| bare.trim_end_matches('/').to_owned())
}

model! {
    /// A marketplace whose plugins and skills a conversation can use.
    pub struct Marketplace;
    by_hand: ["name", "source", "ref", "repo_path", "auto_load"];
}

impl Marketplace {
    /// Creates a marketplace with this name from `github:owner/repo`, the URL of a git repository,
    /// or a path on the server.
    pub fn new(name: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            fields: Fields::of("Marketplace")
                .with("name", name.into())
                .with("source", Field::address(source)),
        }
    }

    /// Sets the branch, tag or commit of the git repository (`ref`).
    pub fn reference(mut self, reference: impl Into<String>) -> Self {
        self.fields.put("ref", reference.into());
        self
    }

    /// Sets the marketplace's directory in the repository, as a relative path.
    pub fn repo_path(mut self, path: impl Into<String>) -> Self {
        self.fields.put("repo_path", below(path.into()));
        self
    }

    /// Loads all plugins and skills at the start. Server default: none are loaded.
    pub fn load_all(mut self) -> Self {
        self.fields.put("auto_load", Field::plain(true));
        self
    }

    /// Loads the plugins and skills with these names at the start.
    pub fn load(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names: Field = names.into_iter().map(Into::<String>::into).collect();
        self.fields.put("auto_load", names);
        self
    }
}

/// Checks that a path stays within its repository, as the server requires.
fn below(path: String) -> Field {
    if path.is_empty() || path.starts_with('/') || path.contains('\\') {
        return Field::refused("must be a relative path that uses `/`");
    }
    if path.split('/').any(|part| part == "..") {
        return Field::refused("must not contain `..`: it must stay within the repository");
    }
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_must_stay_within_their_repository() {
        for path in ["", "/a", "a/../b", "..", "a\\b"] {
            assert!(Plugin::new("s").repo_path(path).check().is_err(), "{path}");
            assert!(
                Marketplace::new("n", "s").repo_path(path).check().is_err(),
                "{path}"
            );
        }
        Plugin::new("s").repo_path("a/b..c").check().unwrap();
    }

    #[test]
    fn a_source_has_a_url_that_can_be_shown() {
        let github = || Plugin::new("github:owner/repo");
        for (plugin, url) in [
            (github(), Some("https://github.com/owner/repo")),
            (
                github().reference("v1.0"),
                Some("https://github.com/owner/repo/tree/v1.0"),
            ),
            (
                github().repo_path("a/b"),
                Some("https://github.com/owner/repo/tree/main/a/b"),
            ),
            (
                github().reference("v1.0").repo_path("a"),
                Some("https://github.com/owner/repo/tree/v1.0/a"),
            ),
            (
                Plugin::new("https://host/owner/repo"),
                Some("https://host/owner/repo"),
            ),
            (
                Plugin::new("https://x:canary@host/owner/repo?t=canary#canary"),
                Some("https://host/owner/repo"),
            ),
            (
                Plugin::new("https://canary@host:8443"),
                Some("https://host:8443"),
            ),
            (
                Plugin::new("https://x:can?a#r@y@host/owner"),
                Some("https://host/owner"),
            ),
            (Plugin::new("https://x:canary"), None),
            (
                Plugin::new("git@host:owner/repo"),
                Some("git@host:owner/repo"),
            ),
            (Plugin::new("/local/path"), None),
            (Plugin::new("./path@v1"), None),
            (Plugin::new("file:///local/path"), None),
        ] {
            assert_eq!(plugin.source_url().as_deref(), url, "{plugin:?}");
        }
    }

    #[test]
    fn a_token_in_a_source_is_not_shown() {
        let plugin = Plugin::new("https://x:canary@host/owner/repo");
        assert_eq!(
            format!("{plugin:?}"),
            r#"Plugin { source: "https://<redacted>@host/owner/repo" }"#
        );
    }
}
