//! The request to start a command, marked so that the bash socket's events for the command can be
//! distinguished from those of all other commands.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
};

use oh_protocol::calls::bash::BashEvent;

/// A command line with its directory and its timeout.
pub(super) struct Order {
    pub(super) line: String,
    pub(super) cwd: String,
    pub(super) seconds: u32,
}

/// Number of digits in a mark; together they encode 32 random bits.
const DIGITS: u32 = 16;

/// Returns the same directory in a spelling that no other command uses: `/w` becomes `/w//./.` and
/// so on. The request to start a command has no client-chosen id, and its response, which contains
/// the id, can be lost. The command line stays as the caller wrote it.
pub(super) fn marked(directory: &str) -> String {
    let mut bits = RandomState::new().build_hasher().finish();
    let mut marked = directory.to_owned();
    if marked.ends_with(['/', '\\']) {
        marked.push('.');
    }
    for _ in 0..DIGITS {
        for _ in 0..=bits % 4 {
            marked.push('/');
        }
        marked.push('.');
        bits /= 4;
    }
    marked
}

/// Returns the directory without its mark, if any.
pub(super) fn unmarked(directory: &str) -> &str {
    let mut rest = directory;
    for _ in 0..DIGITS {
        let Some(group) = rest.strip_suffix('.') else {
            return directory;
        };
        rest = group.trim_end_matches('/');
        if !(1..=4).contains(&(group.len() - rest.len())) {
            return directory;
        }
    }
    match rest.strip_suffix('.') {
        Some(root) if root.ends_with(['/', '\\']) => root,
        _ => rest,
    }
}

/// Replaces a command's marked directory by the one the caller gave.
pub(super) fn unmark(event: &mut BashEvent) {
    if let BashEvent::Command(command) = event
        && let Some(cwd) = &mut command.cwd
    {
        cwd.truncate(unmarked(cwd).len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_directory_is_the_same_directory_with_a_unique_spelling() {
        for directory in ["/", "/w", "/w/x y", "/w/", r"C:\", r"C:\w", "D:/w"] {
            let one = marked(directory);
            assert_ne!(one, marked(directory));
            assert_eq!(unmarked(&one), directory);
            assert!(one.len() < directory.len() + 90);
        }
        for plain in ["/", "/w", "/w/.", "/w/./.", ".", ""] {
            assert_eq!(unmarked(plain), plain);
        }
        let here = std::env::current_dir().unwrap_or_default();
        let marked = marked(&here.to_string_lossy());
        assert_eq!(
            std::fs::canonicalize(marked).ok(),
            std::fs::canonicalize(here).ok()
        );
    }
}
