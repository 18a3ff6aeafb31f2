//! Line diffs with context.

use std::time::Duration;

use similar::{ChangeTag, TextDiff};

/// The unchanged lines before and after a change.
const CONTEXT: usize = 3;

/// After this time, the rest of a diff is approximated: a large file never blocks the output.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A line of a diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// The position of the following lines, such as `@@ -1,4 +1,5 @@`.
    Hunk(String),
    Context(String),
    Added(String),
    Removed(String),
}

impl Line {
    /// Returns the line with its sign, as in a patch.
    pub(crate) fn signed(&self) -> String {
        match self {
            Self::Hunk(text) => text.clone(),
            Self::Context(text) => format!(" {text}"),
            Self::Added(text) => format!("+{text}"),
            Self::Removed(text) => format!("-{text}"),
        }
    }
}

/// Returns the changed lines with three lines of context.
pub(crate) fn lines(old: &str, new: &str) -> Vec<Line> {
    let diff = TextDiff::configure().timeout(TIMEOUT).diff_lines(old, new);
    let mut lines = Vec::new();
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        lines.push(Line::Hunk(hunk.header().to_string().trim_end().to_owned()));
        for change in hunk.iter_changes() {
            let text = change.value().trim_end_matches('\n').to_owned();
            lines.push(match change.tag() {
                ChangeTag::Equal => Line::Context(text),
                ChangeTag::Insert => Line::Added(text),
                ChangeTag::Delete => Line::Removed(text),
            });
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(old: &str, new: &str) -> Vec<String> {
        lines(old, new).iter().map(Line::signed).collect()
    }

    #[test]
    fn a_diff_has_the_changed_lines_with_context() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n";
        let shown = [
            "@@ -2,7 +2,7 @@",
            " 2",
            " 3",
            " 4",
            "-5",
            "+five",
            " 6",
            " 7",
            " 8",
        ];
        assert_eq!(signed(old, new), shown);
        assert!(signed(old, old).is_empty());
    }

    #[test]
    fn a_new_file_has_only_added_lines() {
        assert_eq!(signed("", "a\nb"), ["@@ -0,0 +1,2 @@", "+a", "+b"]);
    }
}
