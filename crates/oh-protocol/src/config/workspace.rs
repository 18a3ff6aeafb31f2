//! Where a conversation works, and in what it runs.

use super::{
    fields::{Field, Fields},
    model::model,
};

model! {
    /// A git worktree of its own for a conversation (`worktree_options`).
    pub struct Worktree;
    by_hand: ["base", "ref", "branch_prefix"];
}

impl Worktree {
    /// From the repository's default branch.
    pub fn of_default_branch() -> Self {
        Self::of("default_branch")
    }

    /// From what is checked out in the workspace.
    pub fn of_head() -> Self {
        Self::of("head")
    }

    /// From this branch, tag or commit.
    pub fn of_ref(reference: impl Into<String>) -> Self {
        let reference = reference.into();
        let mut worktree = Self::of("ref");
        let reference = match is_git_name(&reference) {
            true => reference.into(),
            false => Field::refused("it is a branch, tag or commit"),
        };
        worktree.fields.put("ref", reference);
        worktree
    }

    /// How the name of its branch begins; the conversation's id ends it. Server's default:
    /// `openhands/`.
    pub fn branch_prefix(mut self, prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        let prefix = match prefix.is_empty() || is_git_name(&prefix) {
            true => prefix.into(),
            false => Field::refused("it has letters, digits and `._/-`, a letter or digit first"),
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

/// What the server takes for a name in git: never one that git could read as an option.
fn is_git_name(name: &str) -> bool {
    let rest = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(rest)
}

model! {
    /// What a conversation's container may use, on servers that run conversations in containers.
    pub struct Container;
    by_hand: ["memory"];

    /// How many CPUs it may use, at least 0.01. Server's default: its own limit.
    value cpus: f64 where cpus >= 0.01 => "it is at least 0.01";
    /// Whether it has a browser, if its image has. Server's default: yes.
    value browser: bool;
}

impl Container {
    /// The server's own limits.
    pub fn new() -> Self {
        Self {
            fields: Fields::of("Container"),
        }
    }

    /// How much memory it may use, as Docker takes it: `512m`, `4g`. Server's default: its own
    /// limit.
    pub fn memory(mut self, memory: impl Into<String>) -> Self {
        let memory = memory.into();
        let memory = match is_memory(&memory) {
            true => memory.into(),
            false => Field::refused("it is a number and a unit, such as `512m` or `4g`"),
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

/// Digits, perhaps a fraction, a blank, one of `kmgtp`, an `i` and a `b`, in either case.
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
    fn names_that_git_could_read_as_options_are_refused() {
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
    fn memory_is_what_docker_takes() {
        for good in ["512m", "4g", "1.5 GiB", "100", "100b", "2Ti", "7 k"] {
            Container::new().memory(good).check().unwrap();
        }
        for bad in ["", "m", "4x", "1.", ".5g", "1.2.3g", "4  g", "4gg", "-1g"] {
            assert!(Container::new().memory(bad).check().is_err(), "{bad}");
        }
    }
}
