//! Lists of changes made with a command, for cases where the server's list is not exact. The server
//! splits git's output at every space, so one name with a space makes it reject the whole list. It
//! also replaces backslashes by slashes.

use oh_protocol::calls::git::GitChange;
use oh_transport::WorkspaceHandle;
use serde_json::json;

use super::{
    probe::{LOOK, refused},
    quoted::unquoted,
};
use crate::{Error, ErrorKind, Result, Workspace, command::excerpt, helper::helper, shell::quoted};

/// The changes to list.
pub(super) enum Which<'a> {
    /// The changes since the ref that the server compares with by default.
    Default,
    /// The changes since this ref.
    Since(&'a str),
    /// The changes of this commit.
    Commit(&'a str),
}

/// Shell helpers. `core.quotePath` makes git escape everything but plain ASCII, so the output is
/// exact.
const TOOLS: &str = r#"
g() { git --no-pager -c core.quotePath=true "$@"; }
sha() { git rev-parse -q --verify "$1^{commit}" 2>/dev/null; }
empty() { git hash-object -t tree /dev/null; }
"#;

/// Finds the ref that the server compares with by default, so that committed work stays visible.
const DEFAULT: &str = r#"
base() {
  head=$(sha HEAD)
  branch=$(git symbolic-ref -q --short HEAD)
  if [ -n "$branch" ] && up=$(sha "origin/$branch"); then
    if [ "$up" != "$head" ] || [ -n "$(git status --porcelain --untracked-files=no)" ]; then
      echo "$up"; return
    fi
  fi
  main=$(git rev-parse --abbrev-ref origin/HEAD 2>/dev/null) || main=
  main=${main#origin/}
  if [ -z "$main" ] && git config remote.origin.url >/dev/null; then
    main=$(git remote show origin 2>/dev/null | sed -n 's/.*HEAD branch: //p' | head -n 1)
  fi
  if [ -n "$main" ] && [ "$main" != '(unknown)' ]; then
    git merge-base HEAD "origin/$main" 2>/dev/null && return
    sha "origin/$main" && return
  else
    for one in main master; do
      tip=$(sha "$one") || continue
      [ "$one" != "$branch" ] && [ "$(git merge-base HEAD "$one" 2>/dev/null)" = "$tip" ] &&
        { echo "$tip"; return; }
      break
    done
  fi
  [ -n "$head" ] && echo "$head" || empty
}
"#;

/// Lists a repository: its directory in hexadecimal, its changed files, and its untracked files.
const LIST: &str = r#"
list() {
  from=$(base) || return 6
  printf 'repo %s\n' "$(printf %s "$1" | od -An -v -tx1 | tr -d ' \n')"
  g diff --name-status --no-ext-diff --relative "$from" -- || return 5
  g ls-files --others --exclude-standard | sed 's/^/?	/'
}
unknown=
look .
case $? in
  0) list ''; code=$?; [ $code = 0 ] || exit $code; found=yes ;;
  2) refuse ;;
  *) found= ;;
esac
none=$why
for one in ./*/.git; do
  [ -e "$one" ] || continue
  one=${one%/.git}
  look "$one"
  case $? in 0) ;; 2) refuse ;; *) continue ;; esac
  (cd "$one" && list "${one#./}"); code=$?
  # One that does not know the ref is passed over, as the server does.
  case $code in 0) found=yes ;; 6) unknown=yes ;; *) exit $code ;; esac
done
why=$none
[ -n "$found" ] || [ -z "$unknown" ] || exit 6
[ -n "$found" ] || { printf '%s\n' "$why" >&2; exit 4; }
"#;

/// Lists the changes in a directory, or those of a commit of its repository.
pub(super) async fn list(workspace: &Workspace, which: Which<'_>) -> Result<Vec<GitChange>> {
    let script = match which {
        Which::Default => format!("{LOOK}{TOOLS}{DEFAULT}{LIST}"),
        Which::Since(git_ref) => {
            let name = quoted(git_ref);
            let base = format!(
                "base() {{ sha {name} || {{ [ {name} = HEAD ] && empty; }} || return 6; }}\n"
            );
            format!("{LOOK}{TOOLS}{base}{LIST}")
        }
        Which::Commit(sha) => {
            let name = quoted(sha);
            format!(
                "{LOOK}{TOOLS}look . || refuse\nto=$(sha {name}) || exit 6\n\
                 from=$(sha \"$to^\") || from=$(empty)\necho repo\n\
                 g diff --name-status --no-ext-diff \"$from\" \"$to\" -- || exit 5\n"
            )
        }
    };
    let helper = helper(workspace).await;
    let output = helper.execute(script).await?;
    let failed = |error: Error| error.at(workspace.working_dir());
    match output.exit_code() {
        Some(0) => read(output.stdout()).ok_or_else(|| {
            let context = "cannot parse git's list of changes";
            failed(Error::new(ErrorKind::Git, context))
        }),
        Some(4) => {
            let why = excerpt(output.stderr().trim(), 400);
            let context = format!("the directory is not in a git repository: {why}");
            Err(failed(Error::new(ErrorKind::NotARepository, context)))
        }
        code => {
            let why = excerpt(output.stderr().trim(), 400);
            Err(failed(refused(code, &why)))
        }
    }
}

/// Parses the scripts' output. Returns `None` for any other text.
fn read(text: &str) -> Option<Vec<GitChange>> {
    let (mut found, mut nested) = (Vec::new(), Vec::new());
    let mut directory = String::new();
    for line in text.lines() {
        if let Some(hex) = line.strip_prefix("repo") {
            directory = from_hex(hex.trim())?;
            if !directory.is_empty() {
                directory.push('/');
                nested.push(directory.clone());
            }
            continue;
        }
        let mut fields = line.split('\t');
        let (code, first, second) = (fields.next()?, fields.next()?, fields.next());
        let path = |field: &str| format!("{directory}{}", unquoted(field));
        let mut add = |status: &str, field: &str| {
            found.push((directory.is_empty(), status.to_owned(), path(field)));
        };
        match (code.chars().next()?, second) {
            // A rename is a deletion and an addition, as in the server's list.
            ('R', Some(second)) => {
                add("DELETED", first);
                add("ADDED", second);
            }
            ('C', Some(second)) => add("ADDED", second),
            ('A' | '?', None) => add("ADDED", first),
            ('D', None) => add("DELETED", first),
            (_, None) => add("UPDATED", first),
            _ => return None,
        }
    }
    // Files in a nested repository are listed by that repository.
    found.retain(|(outer, _, path)| {
        let bare = format!("{path}/");
        !(*outer
            && nested
                .iter()
                .any(|one| path.starts_with(&**one) || bare == *one))
    });
    found.sort_by(|(_, _, one), (_, _, other)| one.cmp(other));
    // An unmerged file is listed twice.
    found.dedup();
    let changes = found.into_iter();
    changes
        .map(|(_, status, path)| {
            serde_json::from_value(json!({ "status": status, "path": path })).ok()
        })
        .collect()
}

fn from_hex(hex: &str) -> Option<String> {
    let mut bytes = Vec::new();
    for at in (0..hex.len()).step_by(2) {
        bytes.push(u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<Vec<String>> {
        let changes = read(text)?.into_iter();
        Some(
            changes
                .map(|one| format!("{} {}", one.status, one.path))
                .collect(),
        )
    }

    #[test]
    fn lists_of_git_are_parsed_exactly() {
        let text = "repo \nM\tto do.txt\nR087\told name\t\"new\\tname\"\nD\t lead\nT\tlink\n\
                    ?\t\"d\\303\\274/a b\"\nA\tsub/file\n?\tsub\nrepo 737562\n\
                    M\t\"\\\"x\\\\y\\\"\"\n";
        let expected = [
            "DELETED  lead",
            "ADDED dü/a b",
            "UPDATED link",
            "ADDED new\tname",
            "DELETED old name",
            r#"UPDATED sub/"x\y""#,
            "UPDATED to do.txt",
        ];
        assert_eq!(
            shown(text).as_deref(),
            Some(&expected.map(str::to_owned)[..])
        );
        assert_eq!(shown("").as_deref(), Some(&[][..]));
        for odd in ["M", "R1\tx\ty\n?", "M\ta\tb", "repo 7"] {
            assert_eq!(shown(odd), None, "{odd}");
        }
    }
}
