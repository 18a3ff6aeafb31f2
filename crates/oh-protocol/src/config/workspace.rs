//! The worktree and the container of a conversation.

use super::{
    fields::{Field, Fields},
    model::model,
};

model! {
    /// A separate git worktree for a conversation (`worktree_options`).
    pub struct Worktree;
    by_hand: ["base", "ref", "branch_prefix"];
}

impl Worktree {
    /// Starts from the repository's default branch.
    pub fn of_default_branch() -> Self {
        Self::of("default_branch")
    }

    /// Starts from the commit that is checked out in the workspace.
    pub fn of_head() -> Self {
        Self::of("head")
    }

    /// Starts from this branch, tag or commit.
    pub fn of_ref(reference: impl Into<String>) -> Self {
        let reference = reference.into();
        let mut worktree = Self::of("ref");
        let reference = match is_git_name(&reference) {
            true => reference.into(),
            false => Field::refused("must be a branch, tag or commit"),
        };
        worktree.fields.put("ref", reference);
        worktree
    }

    /// Sets the prefix of the branch name, which is followed by the conversation id. Server
    /// default: `openhands/`.
    pub fn branch_prefix(mut self, prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        let prefix = match prefix.is_empty() || is_git_name(&prefix) {
            true => prefix.into(),
            false => Field::refused(
                "must consist of letters, digits and `._/-`, and begin with a letter or digit",
            ),
        };
        self.fields.put("branch_prefix", prefix);
        self
    }

    fn of(base: &'static str) -> Self {
        Self {
            fields: Fields::of("Worktree").with("base", Field::plain(base)),
        }
    }
}

/// Returns whether the server accepts a git name. Names that git could parse as an option are
/// rejected.
fn is_git_name(name: &str) -> bool {
    let rest = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(rest)
}

model! {
    /// The resources of a conversation's container, on servers that run conversations in
    /// containers.
    pub struct Container;
    by_hand: ["memory"];

    /// Sets the number of CPUs, at least 0.01. Server default: the server's own limit.
    value cpus: f64 where cpus >= 0.01 => "must be at least 0.01";
    /// Sets whether the container has a browser, if its image has one. Server default: true.
    value browser: bool;
}

impl Container {
    /// Uses the server's default limits.
    pub fn new() -> Self {
        Self {
            fields: Fields::of("Container"),
        }
    }

    /// Sets the amount of memory, in Docker's notation: `512m`, `4g`. Server default: the server's
    /// own limit.
    pub fn memory(mut self, memory: impl Into<String>) -> Self {
        let memory = memory.into();
        let memory = match is_memory(&memory) {
            true => memory.into(),
            false => Field::refused("must be a number and a unit, such as `512m` or `4g`"),
        };
        self.fields.put("memory", memory);
        self
    }
}

impl Default for Container {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns whether a text is an amount of memory: digits with an optional fraction, an optional
/// space, and an optional unit (one of `kmgtp`, `i`, `b`), in either case.
fn is_memory(memory: &str) -> bool {
    let unit = memory.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = &memory[..memory.len() - unit.len()];
    let mut unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    for (end, of) in [(true, "b"), (true, "i"), (false, "kmgtp")] {
        if unit.ends_with(|c| of.contains(c)) && (end || unit.len() == 1) {
            unit.pop();
        }
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    unit.is_empty() && digits(whole) && digits(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_git_could_read_as_options_are_rejected() {
        for name in ["-f", "", "a b", ".a", "a;b"] {
            assert!(Worktree::of_ref(name).check().is_err(), "{name}");
        }
        Worktree::of_ref("v1.0/a-b_c")
            .branch_prefix("")
            .check()
            .unwrap();
        assert!(Worktree::of_head().branch_prefix("-x").check().is_err());
    }

    #[test]
    fn memory_has_the_form_of_docker() {
        for good in ["512m", "4g", "1.5 GiB", "100", "100b", "2Ti", "7 k"] {
            Container::new().memory(good).check().unwrap();
        }
        for bad in ["", "m", "4x", "1.", ".5g", "1.2.3g", "4  g", "4gg", "-1g"] {
            assert!(Container::new().memory(bad).check().is_err(), "{bad}");
        }
    }
}
