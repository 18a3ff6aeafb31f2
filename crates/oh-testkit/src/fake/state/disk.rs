//! An in-memory file system. Contains no I/O.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use bytes::Bytes;

use crate::fake::state::lock::lock;

/// The home directory of the fake server's user.
pub(crate) const HOME: &str = "/home/fake";

/// A directory or file.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Directory,
    File {
        content: Bytes,
        /// The number of the write. Different contents of a path always have different versions.
        version: u64,
    },
}

/// Why a path cannot be written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Relative,
    /// The path of the file is a directory.
    IsDirectory,
    /// A parent in the path is a file.
    NotDirectory,
}

#[derive(Default)]
pub(crate) struct Disk(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// Nodes by absolute path without a trailing slash. The root is the empty string.
    nodes: BTreeMap<String, Node>,
    writes: u64,
}

impl Disk {
    pub(crate) fn get(&self, path: &str) -> Option<Node> {
        let path = normal(path)?;
        match path.as_str() {
            "" => Some(Node::Directory),
            path => self.lock().nodes.get(path).cloned(),
        }
    }

    /// Returns the content of a file.
    pub(crate) fn read(&self, path: &str) -> Option<Bytes> {
        match self.get(path)? {
            Node::File { content, .. } => Some(content),
            Node::Directory => None,
        }
    }

    /// Writes a file and creates its parent directories.
    pub(crate) fn write(&self, path: &str, content: Bytes) -> Result<(), Refusal> {
        let path = normal(path).ok_or(Refusal::Relative)?;
        let (parent, _) = path.rsplit_once('/').ok_or(Refusal::IsDirectory)?;
        let mut inner = self.lock();
        inner.make_directory(parent)?;
        if matches!(inner.nodes.get(&path), Some(Node::Directory)) {
            return Err(Refusal::IsDirectory);
        }
        inner.writes += 1;
        let version = inner.writes;
        inner.nodes.insert(path, Node::File { content, version });
        Ok(())
    }

    /// Creates a directory and its parents.
    pub(crate) fn make_directory(&self, path: &str) -> Result<(), Refusal> {
        let path = normal(path).ok_or(Refusal::Relative)?;
        self.lock().make_directory(&path)
    }

    /// Returns the direct children of a directory, ordered by name.
    pub(crate) fn list(&self, path: &str) -> Vec<(String, Node)> {
        let Some(path) = normal(path) else {
            return Vec::new();
        };
        let nodes = self.below(&path);
        nodes.filter(|(name, _)| !name.contains('/')).collect()
    }

    /// Returns everything below a directory with relative paths, parents first.
    pub(crate) fn walk(&self, path: &str) -> Vec<(String, Node)> {
        normal(path).map_or_else(Vec::new, |path| self.below(&path).collect())
    }

    fn below(&self, path: &str) -> std::vec::IntoIter<(String, Node)> {
        let prefix = format!("{path}/");
        let inner = self.lock();
        let nodes = inner.nodes.range(prefix.clone()..);
        let below = nodes.take_while(|(path, _)| path.starts_with(&prefix));
        let below = below.map(|(path, node)| (path[prefix.len()..].to_owned(), node.clone()));
        below.collect::<Vec<_>>().into_iter()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }
}

impl Inner {
    fn make_directory(&mut self, path: &str) -> Result<(), Refusal> {
        for (at, _) in path.match_indices('/').skip(1).chain([(path.len(), "")]) {
            match self.nodes.get(&path[..at]) {
                Some(Node::File { .. }) => return Err(Refusal::NotDirectory),
                Some(Node::Directory) => {}
                None if at == 0 => {}
                None => {
                    self.nodes.insert(path[..at].to_owned(), Node::Directory);
                }
            }
        }
        Ok(())
    }
}

/// Normalizes an absolute path: removes `.`, `..` and duplicate or trailing slashes. The root
/// becomes empty. Returns `None` for a relative path.
pub(crate) fn normal(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return None;
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Some(parts.iter().map(|part| format!("/{part}")).collect())
}

/// Returns whether a path is a directory or is inside it.
pub(crate) fn is_within(path: &str, directory: &str) -> bool {
    let (Some(path), Some(directory)) = (normal(path), normal(directory)) else {
        return false;
    };
    path.strip_prefix(&directory)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised() {
        assert_eq!(normal("/a/./b//../c/").as_deref(), Some("/a/c"));
        assert_eq!(normal("/../..").as_deref(), Some(""));
        assert_eq!(normal("a/b"), None);
        assert!(is_within("/a/b", "/a") && is_within("/a", "/a/") && is_within("/x", "/"));
        assert!(!is_within("/ab", "/a") && !is_within("/a/../b", "/a"));
    }

    #[test]
    fn a_file_creates_its_directories_and_is_not_a_directory() {
        let disk = Disk::default();
        disk.write("/a/b/c", Bytes::from_static(b"1")).unwrap();
        assert!(matches!(disk.get("/a/b"), Some(Node::Directory)));
        assert_eq!(disk.read("/a/b/c").as_deref(), Some(&b"1"[..]));
        assert_eq!(disk.write("/a/b", Bytes::new()), Err(Refusal::IsDirectory));
        assert_eq!(disk.make_directory("/a/b/c/d"), Err(Refusal::NotDirectory));
        assert_eq!(disk.write("x", Bytes::new()), Err(Refusal::Relative));
        assert_eq!(disk.write("/", Bytes::new()), Err(Refusal::IsDirectory));
        let names =
            |nodes: Vec<(String, Node)>| nodes.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(names(disk.list("/a")), ["b"]);
        assert_eq!(names(disk.walk("/")), ["a", "a/b", "a/b/c"]);
    }
}
