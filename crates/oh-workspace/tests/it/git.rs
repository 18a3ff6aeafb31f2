//! Cases in which the server's git endpoints are not exact: commands ask this machine's git
//! instead.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use oh_protocol::{ConversationId, calls::git::GitChange};
use oh_workspace::{ErrorKind, Git};
use serde_json::{Value, json};

use crate::shell::Shell;

const CHANGES: &str = "/api/git/changes";

fn git(at: &Path, line: &str) -> String {
    let identity = "export GIT_AUTHOR_NAME=Ada GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=Ada \
                    GIT_COMMITTER_EMAIL=a@b GIT_CONFIG_GLOBAL=/dev/null; ";
    let output = Command::new("sh")
        .args(["-ec", &format!("{identity}{line}")])
        .current_dir(at)
        .output()
        .unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Creates a server whose own list fails as the real one's does.
fn refusing() -> (Shell, Git) {
    let server = Shell::new("dash");
    let refusal = json!({"detail": "Unexpected git diff output format: M\tto do.txt"});
    server.answer(CHANGES, 400, &refusal);
    let git = server.workspace().git();
    (server, git)
}

fn shown(changes: &[GitChange]) -> Vec<String> {
    let lines = changes.iter();
    lines
        .map(|one| format!("{} {}", one.status, one.path))
        .collect()
}

const ODD: [&str; 12] = [
    "to do.txt",
    "dü/zwei wörter.txt",
    "日本 語",
    "back\\slash",
    "say \"it\"",
    "\"quoted\"",
    "tab\tname",
    "line\nbreak",
    " lead",
    "trail ",
    "it's",
    "-dash",
];

#[tokio::test]
async fn changes_are_listed_with_any_file_names() {
    let (server, asked) = refusing();
    let work = server.work();
    git(&work, "git init -q -b main");
    fs::create_dir(work.join("dü")).unwrap();
    for name in ODD {
        fs::write(work.join(name), "one\n").unwrap();
    }
    for name in ["old name", "gone too", "plain.rs"] {
        fs::write(work.join(name), format!("{name}\n").repeat(20)).unwrap();
    }
    git(&work, "git add -A && git commit -qm one");
    for name in ODD {
        fs::write(work.join(name), "two\n").unwrap();
    }
    fs::create_dir(work.join("neu e")).unwrap();
    fs::write(work.join("neu e/ö\t\"x"), "new\n").unwrap();
    git(
        &work,
        "git mv 'old name' 'new name' && git rm -q 'gone too' && ln -sf x plain.rs",
    );

    let mut expected: Vec<_> = ODD.map(|name| format!("UPDATED {name}")).into();
    expected.extend(
        [
            "ADDED neu e/ö\t\"x",
            "ADDED new name",
            "DELETED gone too",
            "DELETED old name",
            "UPDATED plain.rs",
        ]
        .map(str::to_owned),
    );
    expected.sort_by(|one, other| {
        one.split_once(' ')
            .map(|(_, path)| path)
            .cmp(&other.split_once(' ').map(|(_, path)| path))
    });
    assert_eq!(
        shown(&asked.changes_against("HEAD").await.unwrap()),
        expected
    );
    assert_eq!(shown(&asked.changes().await.unwrap()), expected);
    // A list with garbled names is replaced too.
    let garbled = json!([{"status": "UPDATED", "path": "\"tab/tname\""}]);
    server.answer(CHANGES, 200, &garbled);
    assert_eq!(
        shown(&asked.changes_against("HEAD").await.unwrap()),
        expected
    );

    git(&work, "git add -A && git commit -qm two");
    let sha = git(&work, "git rev-parse HEAD");
    let route = format!("/api/git/commits/{sha}/changes");
    server.answer(
        &route,
        400,
        &json!({"detail": "Unexpected git diff output format"}),
    );
    assert_eq!(shown(&asked.commit_changes(&sha).await.unwrap()), expected);
    // The first commit has no parent.
    let first = git(&work, "git rev-parse HEAD^");
    let route = format!("/api/git/commits/{first}/changes");
    server.answer(
        &route,
        400,
        &json!({"detail": "Unexpected git diff output format"}),
    );
    assert_eq!(
        asked.commit_changes(&first).await.unwrap().len(),
        ODD.len() + 3
    );
    // In a subdirectory, files below it are listed, with relative paths.
    fs::write(work.join("dü/zwei wörter.txt"), "three\n").unwrap();
    fs::write(work.join("plain.rs"), "three\n").unwrap();
    server.answer(CHANGES, 400, &json!({"detail": "Unexpected"}));
    let below = server.workspace().directory("dü").unwrap().git();
    let below = below.changes_against("HEAD").await.unwrap();
    assert_eq!(shown(&below), ["UPDATED zwei wörter.txt"]);
}

#[tokio::test]
async fn nested_repositories_are_listed_with_their_own_changes() {
    for outer in [true, false] {
        let (server, asked) = refusing();
        let work = server.work();
        if outer {
            git(
                &work,
                "git init -q -b main && git commit -q --allow-empty -m x && echo x >'a b'",
            );
        }
        git(
            &work,
            "mkdir 'su b' plain && cd 'su b' && git init -q -b main && git commit -q --allow-empty -m x && echo x >'c d'",
        );
        let mut expected = vec!["ADDED su b/c d"];
        if outer {
            expected.insert(0, "ADDED a b");
        }
        assert_eq!(
            shown(&asked.changes_against("HEAD").await.unwrap()),
            expected
        );
    }
}

#[tokio::test]
async fn committed_work_is_listed_against_its_base() {
    let (server, asked) = refusing();
    let work = server.work();
    // Without a remote: the branch started at main.
    git(
        &work,
        "git init -q -b main && echo 1 >'a b' && git add -A && git commit -qm 1 && git checkout -qb side && echo 2 >'c d' && git add -A && git commit -qm 2",
    );
    assert_eq!(shown(&asked.changes().await.unwrap()), ["ADDED c d"]);
    // With a remote: changes since its branch of the same name or, if there are none, since main.
    git(
        &work,
        "git clone -q --bare . ../tmp/origin.git && git remote add origin ../tmp/origin.git && git fetch -q && git remote set-head origin main && echo 3 >'e f' && git add -A && git commit -qm 3",
    );
    assert_eq!(shown(&asked.changes().await.unwrap()), ["ADDED e f"]);
    git(&work, "git push -q origin side");
    assert_eq!(
        shown(&asked.changes().await.unwrap()),
        ["ADDED c d", "ADDED e f"]
    );
    // Without any commit.
    let (server, asked) = refusing();
    git(
        &server.work(),
        "git init -q -b main && echo 1 >'a b' && echo 2 >b && git add b",
    );
    assert_eq!(
        shown(&asked.changes().await.unwrap()),
        ["ADDED a b", "ADDED b"]
    );
    assert_eq!(
        shown(&asked.changes_against("HEAD").await.unwrap()),
        ["ADDED a b", "ADDED b"]
    );
    let unknown = asked.changes_against("no-such").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::UnknownRef);
}

fn program(server: &Shell, name: &str, text: &str) {
    let programs = server.work().join("../tmp/bin");
    fs::create_dir_all(&programs).unwrap();
    fs::write(programs.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(programs.join(name), mode).unwrap();
    server.programs(&programs);
}

/// Makes the repository look to git like another user's.
fn of_another_user(server: &Shell) {
    let git = String::from_utf8(
        Command::new("sh")
            .args(["-c", "command -v git"])
            .output()
            .unwrap()
            .stdout,
    )
    .unwrap();
    let text = format!(
        "GIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {} \"$@\"",
        git.trim()
    );
    program(server, "git", &text);
}

#[tokio::test]
async fn a_repository_that_git_rejects_is_not_missing() {
    for nested in [false, true] {
        let server = Shell::new("dash");
        let work = server.work();
        let at = if nested {
            work.join("sub")
        } else {
            work.clone()
        };
        fs::create_dir_all(&at).unwrap();
        git(
            &at,
            "git init -q && echo x >x && git add -A && git commit -qm x",
        );
        of_another_user(&server);
        // The server returns an empty list.
        let nothing = json!([]);
        server.answer(CHANGES, 200, &nothing);
        server.answer("/api/git/commits/abcdef/changes", 200, &nothing);
        server.answer(
            "/api/git/commits",
            200,
            &json!({"commits": [], "has_more": false}),
        );
        server.answer(
            "/api/git/diff",
            200,
            &json!({"original": null, "modified": null}),
        );
        server.answer(
            "/api/file/archive",
            400,
            &json!({"detail": "Not a git repository: /x"}),
        );
        let asked = server.workspace().git();
        let file = if nested { "sub/x" } else { "x" };
        let errors = [
            asked.changes().await.unwrap_err(),
            asked.changes_against("HEAD").await.unwrap_err(),
            asked.commits(5).await.unwrap_err(),
            asked.commit_changes("abcdef").await.unwrap_err(),
            asked.diff(file).await.unwrap_err(),
            asked.patch().bytes().await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Git, "nested {nested}: {error:?}");
            assert!(error.to_string().contains("dubious ownership"), "{error}");
        }
        let look = server.workspace().directory(at.to_str().unwrap()).unwrap();
        let error = look.git().is_repository().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Git, "{error:?}");
        assert!(error.to_string().contains("dubious ownership"), "{error}");
        // The same if the server's list fails for another reason.
        server.answer(CHANGES, 400, &json!({"detail": "Unexpected"}));
        let error = asked.changes().await.unwrap_err();
        assert!(error.to_string().contains("dubious ownership"), "{error}");
    }
}

#[tokio::test]
async fn the_check_for_a_repository_returns_yes_no_or_an_error() {
    let server = Shell::new("dash");
    let work = server.work();
    let asked = server.workspace().git();
    assert!(!asked.is_repository().await.unwrap());
    // A repository in a subdirectory does not make this directory one.
    git(
        &work,
        "mkdir sub bare empty && git init -q sub && git init -q --bare bare && mkdir empty/.git",
    );
    assert!(!asked.is_repository().await.unwrap());
    let at = |path: &str| server.workspace().directory(path).unwrap().git();
    assert!(at("sub").is_repository().await.unwrap());
    assert!(at("sub/.git").is_repository().await.unwrap());
    assert!(at("bare").is_repository().await.unwrap());
    assert!(!at("empty").is_repository().await.unwrap());
    let missing = at("missing").is_repository().await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    // A broken repository is not a missing one.
    fs::create_dir(work.join("broken")).unwrap();
    for text in ["gitdir: /no/such/place\n", "nonsense\n"] {
        fs::write(work.join("broken/.git"), text).unwrap();
        let broken = at("broken").is_repository().await.unwrap_err();
        assert_eq!(broken.kind(), ErrorKind::Git, "{broken:?}");
    }
    // Without git, and with git in another language.
    program(
        &server,
        "git",
        "echo 'fatal: kein Git-Repository' >&2; exit 128",
    );
    let odd = asked.is_repository().await.unwrap_err();
    assert_eq!(odd.kind(), ErrorKind::Git, "{odd:?}");
    let bare = server.work().join("../tmp/no-git");
    fs::create_dir(&bare).unwrap();
    let dash = git(&work, "command -v dash");
    std::os::unix::fs::symlink(dash, bare.join("dash")).unwrap();
    server.path(bare.to_str().unwrap());
    let none = asked.is_repository().await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Unsupported, "{none:?}");
    server.answer(CHANGES, 200, &json!([]));
    let none = asked.changes().await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Unsupported, "{none:?}");
}

#[tokio::test]
async fn helper_commands_are_not_in_the_history_of_a_conversation() {
    for (info, own) in [
        (
            json!({"version": "1.58.2", "conversation_runtime": "local"}),
            false,
        ),
        (json!({"version": "1.58.2"}), false),
        (
            json!({"version": "1.58.2", "conversation_runtime": "docker"}),
            true,
        ),
        (
            json!({"version": "1.58.2", "conversation_runtime": "local",
            "available_conversation_runtimes": ["local", "docker"]}),
            true,
        ),
    ] {
        let server = Shell::new("dash");
        server.answer("/server_info", 200, &info);
        git(&server.work(), "git init -q && echo x >'a b'");
        let id = ConversationId::random();
        let asked = server.workspace().in_conversation(id).git();
        let route = format!("/api/conversations/{id}/git/changes");
        server.answer(&route, 400, &json!({"detail": "Unexpected"}));
        assert!(asked.is_repository().await.unwrap());
        assert_eq!(shown(&asked.changes().await.unwrap()), ["ADDED a b"]);
        server.answer(&route, 200, &Value::Array(Vec::new()));
        assert!(asked.changes().await.unwrap().is_empty());
        let log = server.log().into_iter();
        let started: Vec<_> = log
            .filter(|(path, _)| path.ends_with("_bash_command"))
            .collect();
        assert_eq!(started.len(), 3);
        for (path, _) in started {
            assert_eq!(path.contains("/conversations/"), own, "{info}: {path}");
        }
    }
}

#[tokio::test]
async fn a_failed_patch_is_reported_with_its_reason() {
    let server = Shell::new("dash");
    let asked = server.workspace().git();
    server.answer(
        "/api/file/archive",
        400,
        &json!({"detail": "Not a git repository: /x"}),
    );
    let error = asked.patch().text().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotARepository, "{error:?}");
    let detail = json!({"detail": "base_ref 'gone' could not be resolved"});
    server.answer("/api/file/archive", 400, &detail);
    let error = asked.patch().against("gone").bytes().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownRef, "{error:?}");
    for bad in ["", "-x"] {
        let error = asked.patch().against(bad).bytes().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    }
}
