//! Finds the reason for an empty result: no repository, no git, or a repository that git refuses.

use crate::{Error, ErrorKind, Result, Workspace, command::excerpt, helper::helper, shell::quoted};

/// Shell functions for the scripts below. `look` asks git about a directory, and returns 0 for a
/// repository, 1 for none, and 2 for a refusal, with the reason in `$why`. Git's messages are
/// matched, so they must be English. `blocked` detects a repository that only root or its owner can
/// see: git reports it as missing.
pub(super) const LOOK: &str = r#"
command -v git >/dev/null || exit 3
export LC_ALL=C GIT_OPTIONAL_LOCKS=0 GIT_TERMINAL_PROMPT=0
look() {
  why=$(git -C "$1" rev-parse --git-dir 2>&1 >/dev/null) && return 0
  case $why in *'not a git repository (or any'*) ;; *) return 2 ;; esac
  if blocked "$1"; then return 2; else return 1; fi
}
blocked() {
  d=$(cd "$1" && pwd -P) || return 0
  while :; do
    g=$d/.git
    if [ -e "$g" ]; then
      [ -r "$g" ] && { [ -f "$g" ] || [ -x "$g" ]; } || { why="$g cannot be read"; return 0; }
      [ ! -e "$g/HEAD" ] || [ -r "$g/HEAD" ] || { why="$g/HEAD cannot be read"; return 0; }
    fi
    [ -n "$d" ] || return 1
    d=${d%/*}
  done
}
refuse() { printf '%s\n' "$why" >&2; exit 5; }
"#;

/// Checks the directory `$at`, or its nearest existing parent.
const BASE: &str = r#"
while [ ! -d "$at" ] && [ "$at" != "${at%/*}" ]; do at=${at%/*}; done
[ -d "$at" ] || at=/
look "$at"
case $? in 0) exit 0 ;; 2) refuse ;; esac
"#;

/// A directory that is not a repository but contains some counts as one, as on the server.
const NESTED: &str = r#"
found=
none=$why
for one in ./*/.git; do
  [ -e "$one" ] || continue
  look "${one%/.git}"
  case $? in 0) found=yes ;; 2) refuse ;; esac
done
[ -z "$found" ] || exit 0
why=$none
"#;

const END: &str = "printf '%s\\n' \"$why\" >&2; exit 4";

/// The result of checking a directory.
pub(super) enum Look {
    Repository,
    /// No repository; contains git's message.
    Nothing(String),
}

/// Checks `at`, an absolute path and, with `nested`, the repositories in the workspace's directory
/// too.
///
/// # Errors
///
/// Returns [`ErrorKind::Git`] with git's message if git refuses, [`ErrorKind::Unsupported`] if the
/// server has no git.
pub(super) async fn look(workspace: &Workspace, at: &str, nested: bool) -> Result<Look> {
    let nested = if nested { NESTED } else { "" };
    let script = format!("at={}\n{LOOK}{BASE}{nested}{END}", quoted(at));
    let helper = helper(workspace).await;
    let output = helper.execute(script).await?;
    let why = || excerpt(output.stderr().trim(), 400);
    match output.exit_code() {
        Some(0) => Ok(Look::Repository),
        Some(4) => Ok(Look::Nothing(why())),
        code => Err(refused(code, &why()).at(at)),
    }
}

/// Creates the error of a script that ended with this code.
pub(super) fn refused(code: Option<i32>, why: &str) -> Error {
    match code {
        Some(3) => Error::new(ErrorKind::Unsupported, "git is not installed on the server"),
        Some(6) => Error::new(ErrorKind::UnknownRef, "unknown git ref or commit"),
        _ => Error::new(ErrorKind::Git, format!("git failed: {why}")),
    }
}
