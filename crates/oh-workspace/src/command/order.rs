//! What the server is asked to run, marked so that the bash socket's news of it can be told from
//! the news of every other command.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
};

/// A command line with its directory and its time limit.
pub(super) struct Order {
    pub(super) line: String,
    pub(super) cwd: String,
    pub(super) seconds: u32,
}

/// Digits of a mark: 32 random bits.
const DIGITS: u32 = 16;

/// The same directory by a name that no other command has: `/w` becomes `/w//./.` and so on. The
/// start of a command takes no id from the client, and its answer, which has the id, can be lost.
/// The line stays as the caller wrote it.
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

/// The directory without its mark, if it has one.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_directory_is_the_same_and_like_no_other() {
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
