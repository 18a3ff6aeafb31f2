//! A git repository of the fake server, as a test describes it.

use std::collections::BTreeMap;

use bytes::Bytes;

/// A repository on the fake server, defined by what git would report about it.
///
/// ```
/// use oh_testkit::fake::Repository;
///
/// let repository = Repository::new()
///     .commit("4f2c91d0a1", "Say hello", "Ada", [("ADDED", "hello.txt")])
///     .updated("hello.txt", "hello\n", "hello, world\n")
///     .added("bye.txt", "bye\n");
/// # let _ = repository;
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Repository {
    pub(crate) changes: Vec<(&'static str, String)>,
    pub(crate) diffs: BTreeMap<String, (Option<String>, Option<String>)>,
    pub(crate) commits: Vec<Commit>,
    pub(crate) patch: Bytes,
}

#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) sha: String,
    pub(crate) subject: String,
    pub(crate) author: String,
    pub(crate) changes: Vec<(String, String)>,
}

impl Repository {
    /// Creates a repository without commits or changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file that was changed since the newest commit.
    pub fn updated(
        self,
        path: impl Into<String>,
        before: impl Into<String>,
        after: impl Into<String>,
    ) -> Self {
        self.change(
            "UPDATED",
            path.into(),
            Some(before.into()),
            Some(after.into()),
        )
    }

    /// Adds a new file.
    pub fn added(self, path: impl Into<String>, content: impl Into<String>) -> Self {
        self.change("ADDED", path.into(), None, Some(content.into()))
    }

    /// Adds a file that was deleted.
    pub fn deleted(self, path: impl Into<String>, before: impl Into<String>) -> Self {
        self.change("DELETED", path.into(), Some(before.into()), None)
    }

    fn change(
        mut self,
        status: &'static str,
        path: String,
        before: Option<String>,
        after: Option<String>,
    ) -> Self {
        self.changes.push((status, path.clone()));
        self.diffs.insert(path, (before, after));
        self
    }

    /// Adds a commit on top of the others. `changes` contains the status (`MOVED`, `ADDED`,
    /// `DELETED` or `UPDATED`) and path of each file.
    pub fn commit<'a>(
        mut self,
        sha: impl Into<String>,
        subject: impl Into<String>,
        author: impl Into<String>,
        changes: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let changes = changes.into_iter();
        self.commits.push(Commit {
            sha: sha.into(),
            subject: subject.into(),
            author: author.into(),
            changes: changes
                .map(|(status, path)| (status.into(), path.into()))
                .collect(),
        });
        self
    }

    /// Sets the patch returned by a `git-delta` archive. Default: empty.
    pub fn patch(mut self, patch: impl Into<Bytes>) -> Self {
        self.patch = patch.into();
        self
    }

    pub(crate) fn head(&self) -> Option<&str> {
        self.commits.last().map(|commit| commit.sha.as_str())
    }
}
