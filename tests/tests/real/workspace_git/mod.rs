//! Git on the real server. All scenarios share one server, because starting it takes long.

mod clones;
mod provider;

use std::{fs, future::poll_fn, pin::Pin, time::Duration};

use futures_core::Stream;
use openhands::{
    Workspace, WorkspaceExt, protocol::calls::git::ChangeStatus, workspace::ErrorKind,
};
use tempfile::TempDir;

#[tokio::test]
async fn git_works_on_the_real_server() {
    let home = openhands_tests::home();
    let provider = provider::start(&home).await;
    let server = provider.used_by(openhands_tests::server(&home));
    let server = server.start().await.unwrap();
    let workspace = server.workspace(server.workspace_dir());
    let local = tempfile::tempdir().unwrap();
    changes_are_read(&workspace).await;
    names_with_any_characters_are_read(&workspace).await;
    a_patch_holds_all_that_changed(&workspace).await;
    where_there_is_no_repository(&workspace, &local).await;
    provider::repositories_are_searched(&server, &workspace).await;
    clones::repositories_are_cloned(&workspace, &local).await;
    clones::pitfall_25_a_token_is_nowhere_to_be_found(&server, &workspace, &home).await;
    clones::a_clone_that_is_dropped_or_late_leaves_nothing(&workspace).await;
    server.shutdown(Duration::from_secs(30)).await.unwrap();
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await
}

async fn run(workspace: &Workspace, line: &str) -> String {
    let output = workspace.execute(line).await.unwrap();
    assert!(output.success(), "{output:?}");
    output.stdout().trim_end().to_owned()
}

const IDENTITY: &str = "export GIT_AUTHOR_NAME=Ada GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=Ada \
                        GIT_COMMITTER_EMAIL=a@b; ";

async fn changes_are_read(workspace: &Workspace) {
    let line = "mkdir repo && cd repo && git init -q -b main && echo one > kept && \
                echo gone > gone.txt && echo old > moved && git add . && git commit -qm 'First one' \
                && git mv moved renamed && git rm -q gone.txt && git commit -qm Second && \
                echo two > kept && echo new > added";
    run(workspace, &format!("{IDENTITY}{line}")).await;
    let workspace = workspace.directory("repo").unwrap();
    let git = workspace.git();
    assert!(git.is_repository().await.unwrap());

    let mut changes = git.changes_against("HEAD").await.unwrap();
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    let changes: Vec<_> = changes
        .iter()
        .map(|one| (one.status.clone(), one.path.as_str()))
        .collect();
    assert_eq!(
        changes,
        [
            (ChangeStatus::Added, "added"),
            (ChangeStatus::Updated, "kept"),
        ]
    );
    assert!(!git.changes().await.unwrap().is_empty());

    let diff = git.diff_against("kept", "HEAD").await.unwrap();
    assert_eq!(
        (diff.original.as_deref(), diff.modified.as_deref()),
        (Some("one"), Some("two"))
    );

    let page = git.commits(1).await.unwrap();
    assert!(page.has_more && page.commits[0].subject == "Second");
    let page = git.commits(50).await.unwrap();
    assert!(!page.has_more && page.commits.len() == 2);
    assert_eq!(
        (
            page.commits[1].subject.as_str(),
            page.commits[1].author.as_str()
        ),
        ("First one", "Ada")
    );
    let second = &page.commits[0].sha;
    let changes = git.commit_changes(second).await.unwrap();
    assert!(
        changes
            .iter()
            .any(|one| one.path == "gone.txt" && one.status == ChangeStatus::Deleted)
    );
    assert!(
        changes.iter().any(|one| one.path == "renamed"),
        "{changes:?}"
    );
    // The file was deleted, but the commit still contains it.
    let diff = git.diff_of_commit("gone.txt", second).await.unwrap();
    assert_eq!(
        (
            diff.original.as_deref(),
            diff.modified.unwrap_or_default().as_str()
        ),
        (Some("gone"), "")
    );

    let unknown = git.changes_against("no-such-ref").await;
    let kinds = [
        git.commit_changes("abcdef1").await.unwrap_err().kind(),
        git.diff_of_commit("kept", "abcdef1")
            .await
            .unwrap_err()
            .kind(),
        git.commit_changes("HEAD").await.unwrap_err().kind(),
        git.changes_against("--output=/x").await.unwrap_err().kind(),
        git.diff("").await.unwrap_err().kind(),
        git.commits(0).await.unwrap_err().kind(),
    ];
    let expected = [
        ErrorKind::UnknownRef,
        ErrorKind::UnknownRef,
        ErrorKind::InvalidInput,
        ErrorKind::InvalidInput,
        ErrorKind::InvalidInput,
        ErrorKind::InvalidInput,
    ];
    assert_eq!(kinds, expected);
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::UnknownRef);
    let unknown = git.diff_against("kept", "no-such-ref").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::UnknownRef, "{unknown:?}");
    let missing = git.diff_against("no-such-file", "HEAD").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Git, "{missing:?}");
    // No changes are not an error.
    let clean = "cd $(mktemp -d) && git init -q . && git commit -q --allow-empty -m x && pwd";
    let clean = run(&workspace, &format!("{IDENTITY}{clean}")).await;
    let clean = workspace.directory(clean).unwrap().git();
    assert!(clean.changes().await.unwrap().is_empty());
    assert!(clean.changes_against("HEAD").await.unwrap().is_empty());
    assert!(clean.is_repository().await.unwrap());
}

async fn where_there_is_no_repository(workspace: &Workspace, local: &TempDir) {
    let nowhere = workspace.directory(local.path().to_str().unwrap()).unwrap();
    let git = nowhere.git();
    assert!(!git.is_repository().await.unwrap());
    fs::write(local.path().join("file"), "x").unwrap();
    let errors = [
        git.changes().await.unwrap_err(),
        git.changes_against("HEAD").await.unwrap_err(),
        git.commits(5).await.unwrap_err(),
        git.commit_changes("abcdef1").await.unwrap_err(),
        git.diff("file").await.unwrap_err(),
        git.diff_against("file", "HEAD").await.unwrap_err(),
        git.diff_of_commit("file", "abcdef1").await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NotARepository, "{error:?}");
        assert_eq!(error.path(), local.path().to_str());
    }
    // A nested repository counts, as it does for the server.
    let line = "mkdir sub && cd sub && git init -q . && git commit -q --allow-empty -m x";
    run(&nowhere, &format!("{IDENTITY}{line}")).await;
    assert!(git.changes().await.unwrap().is_empty());
    assert_eq!(git.commits(5).await.unwrap().commits.len(), 0);
    let empty = tempfile::tempdir().unwrap();
    let none = workspace.directory(empty.path().to_str().unwrap()).unwrap();
    let error = none.git().patch().text().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotARepository, "{error:?}");

    let missing = workspace.directory("missing").unwrap().git();
    let kind = missing.is_repository().await.unwrap_err().kind();
    assert_eq!(kind, ErrorKind::NotFound);
    let kind = missing.changes().await.unwrap_err().kind();
    assert_eq!(kind, ErrorKind::NotFound);
}

async fn names_with_any_characters_are_read(workspace: &Workspace) {
    let names = ["größe.txt", "say\"it\"", "back\\slash", "日本", "100%#?"];
    let line = "mkdir names && cd names && git init -q . && git commit -q --allow-empty -m x";
    run(workspace, &format!("{IDENTITY}{line}")).await;
    let workspace = workspace.directory("names").unwrap();
    for name in names {
        workspace.write(format!("./{name}"), "one\n").await.unwrap();
    }
    let git = workspace.git();
    let listed = |changes: Vec<openhands::protocol::calls::git::GitChange>| {
        let mut names: Vec<_> = changes.into_iter().map(|one| one.path).collect();
        names.sort();
        names
    };
    let mut expected = names.map(str::to_owned);
    expected.sort();
    // Untracked, then in a commit, then changed.
    assert_eq!(listed(git.changes_against("HEAD").await.unwrap()), expected);
    run(
        &workspace,
        &format!("{IDENTITY}git add . && git commit -qm all"),
    )
    .await;
    let sha = git.commits(1).await.unwrap().commits[0].sha.clone();
    assert_eq!(listed(git.commit_changes(&sha).await.unwrap()), expected);
    for name in names {
        workspace.write(format!("./{name}"), "two\n").await.unwrap();
        let diff = git.diff_against(format!("./{name}"), "HEAD").await.unwrap();
        let found = (diff.original.as_deref(), diff.modified.as_deref());
        assert_eq!(found, (Some("one"), Some("two")), "{name}");
        let diff = git.diff_of_commit(format!("./{name}"), &sha).await.unwrap();
        assert_eq!(diff.modified.as_deref(), Some("one"), "{name}");
    }
    assert_eq!(listed(git.changes_against("HEAD").await.unwrap()), expected);
    // The server rejects these names and all others with them, so the client lists them another
    // way.
    let more = [
        "two words",
        "dü/zwei wörter.txt",
        "tab\tname",
        "line\nbreak",
    ];
    for name in more {
        workspace.write(format!("./{name}"), "x\n").await.unwrap();
    }
    run(&workspace, "git add .").await;
    let mut all: Vec<_> = names.iter().chain(&more).map(ToString::to_string).collect();
    all.sort();
    assert_eq!(listed(git.changes_against("HEAD").await.unwrap()), all);
    run(&workspace, &format!("{IDENTITY}git commit -qm more")).await;
    let sha = git.commits(1).await.unwrap().commits[0].sha.clone();
    assert_eq!(listed(git.commit_changes(&sha).await.unwrap()), all);
    let line = "printf '%s\\n' 3 >>'two words'";
    run(&workspace, line).await;
    assert_eq!(listed(git.changes().await.unwrap()), ["two words"]);
}

/// Transfers a repository's uncommitted work to another clone.
async fn a_patch_holds_all_that_changed(workspace: &Workspace) {
    let line = "mkdir patched && cd patched && git init -q -b main && mkdir target && \
                echo one >'a b' && echo gone >gone && printf '\\0\\1' >binary && echo t >target/t && \
                echo ignored >.gitignore && git add -Af . && git commit -qm one && \
                git clone -q . ../copy && echo two >'a b' && rm gone && printf '\\0\\2' >binary && \
                echo new >'neu ö' && echo x >ignored && echo 2 >target/t && git add target";
    run(workspace, &format!("{IDENTITY}{line}")).await;
    let git = workspace.directory("patched").unwrap().git();
    let patch = git.patch().bytes().await.unwrap();
    assert_eq!(git.patch().text().await.unwrap().as_bytes(), &patch[..]);
    workspace.write("copy.patch", patch.clone()).await.unwrap();
    let same = "cd copy && git apply ../copy.patch && rm -f ignored && \
                diff -r -x .git -x ignored . ../patched && echo same";
    assert_eq!(run(workspace, same).await, "same");
    let local = tempfile::tempdir().unwrap();
    let file = local.path().join("work.patch");
    let done = git.patch().to_path(&file).await.unwrap();
    assert_eq!(fs::read(file).unwrap(), patch);
    assert!(done.archive().base_commit.is_some());
    // No changes, another ref, a missing ref, no repository.
    let clean = "cd patched && git add -A && git commit -qm two";
    run(workspace, &format!("{IDENTITY}{clean}")).await;
    assert_eq!(git.patch().text().await.unwrap(), "");
    let earlier = git.patch().against("HEAD^").text().await.unwrap();
    assert!(
        earlier.contains("+two") && !earlier.contains("+x\n"),
        "{earlier}"
    );
    let unknown = git.patch().against("gone").text().await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::UnknownRef, "{unknown:?}");
    let line =
        "mkdir other && cd other && git init -q -b main && echo 1 >f && chown -R 4242:4242 .";
    run(workspace, line).await;
    let refused = workspace.directory("other").unwrap().git();
    for error in [
        refused.patch().text().await.unwrap_err(),
        refused.is_repository().await.unwrap_err(),
        refused.changes().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Git, "{error:?}");
        assert!(error.to_string().contains("dubious ownership"), "{error}");
    }
    run(workspace, "chown -R 0:0 other").await;
}
