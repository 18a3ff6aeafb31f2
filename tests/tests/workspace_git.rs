//! Git on the real server. One server serves all scenarios: starting it is what takes long.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    future::IntoFuture,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use openhands::{
    LocalServer, Workspace, WorkspaceExt,
    protocol::calls::git::{ChangeStatus, SearchRepositories},
    workspace::{ErrorKind, Repository},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const TOKEN: &str = "canary/of+the-token";

#[tokio::test]
async fn git_on_the_real_server() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let workspace = server.workspace(server.workspace_dir());
    let local = tempfile::tempdir().unwrap();
    changes_are_read(&workspace).await;
    where_there_is_no_repository(&workspace, &local).await;
    repositories_are_cloned(&workspace, &local).await;
    pitfall_25_a_token_is_nowhere_to_be_found(&server, &workspace, &home).await;
    server.shutdown(Duration::from_secs(30)).await.unwrap();
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
    // The file is gone; the commit still knows it.
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
        ErrorKind::Git,
        ErrorKind::Git,
        ErrorKind::InvalidInput,
        ErrorKind::InvalidInput,
        ErrorKind::InvalidInput,
        ErrorKind::InvalidInput,
    ];
    assert_eq!(kinds, expected);
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::Git);

    let found = workspace
        .search_repositories(SearchRepositories::new("bitbucket"))
        .await;
    assert!(found.is_err(), "{found:?}");
}

async fn where_there_is_no_repository(workspace: &Workspace, local: &TempDir) {
    let nowhere = workspace.directory(local.path().to_str().unwrap()).unwrap();
    let git = nowhere.git();
    assert!(!git.is_repository().await.unwrap());
    assert!(git.changes().await.unwrap().is_empty());
    assert!(git.commits(5).await.unwrap().commits.is_empty());
    fs::write(local.path().join("file"), "x").unwrap();
    let diff = git.diff("file").await.unwrap();
    assert_eq!((diff.original, diff.modified), (None, None));
    let missing = workspace
        .directory("missing")
        .unwrap()
        .git()
        .is_repository()
        .await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotStarted);
}

/// Makes a repository with two commits on `main`, a tag and a branch; gives the first commit.
async fn origin(workspace: &Workspace, path: &Path) -> String {
    let path = path.display().to_string().replace('\'', r"'\''");
    let line = format!(
        "{IDENTITY} git init -q -b main '{path}' && cd '{path}' && echo 1 > f && git add f && \
         git commit -qm one && git tag v1 && git branch side && echo 2 > f && git commit -qam two && \
         git rev-parse v1"
    );
    run(workspace, &line).await
}

async fn repositories_are_cloned(workspace: &Workspace, local: &TempDir) {
    let path = local.path().join("it's a repo");
    let sha = origin(workspace, &path).await;
    let url = format!("file://{}", path.display());
    let done = workspace
        .clone_repositories([
            Repository::new(&url),
            Repository::new(&url).git_ref("v1"),
            Repository::new(&url),
            Repository::new(&url).git_ref(&sha),
            Repository::new(&url).git_ref("side"),
            Repository::new(&url).git_ref("no-such-branch"),
            Repository::new(&url).git_ref("abcdef1234567"),
            Repository::new("file:///no/such/place"),
            Repository::new("junk"),
        ])
        .into_directory("clones/deep")
        .await
        .unwrap();
    let mut content = Vec::new();
    for one in &done.cloned {
        let text = workspace
            .download(format!("{}/f", one.path))
            .text()
            .await
            .unwrap();
        content.push((one.git_ref.as_deref(), text));
    }
    let text = |text: &str| text.to_owned();
    let expected = [
        (None, text("2\n")),
        (Some("v1"), text("1\n")),
        (Some(&*sha), text("1\n")),
        (Some("side"), text("1\n")),
    ];
    assert_eq!(content, expected, "{:?}", done.failed);
    let kinds: Vec<_> = done.failed.iter().map(|one| one.error.kind()).collect();
    let git = ErrorKind::Git;
    assert_eq!(kinds, [ErrorKind::InvalidInput, git, git, git]);
    assert!(
        done.failed[1].error.to_string().contains("no-such-branch"),
        "{:?}",
        done.failed[1]
    );
    assert!(done.context().contains(&done.cloned[1].path) && done.context().contains("`v1`"));

    // What failed left nothing behind, and what is there is left alone.
    let there = run(workspace, "ls clones/deep | wc -l").await;
    assert_eq!(there, "4");
    let again = workspace
        .clone_repositories([Repository::new(&url)])
        .into_directory("clones/deep");
    let again = again.await.unwrap();
    assert_eq!(again.failed[0].error.kind(), ErrorKind::InvalidPath);
    assert_eq!(run(workspace, "ls clones/deep | wc -l").await, "4");
    let none = workspace
        .clone_repositories(Vec::<Repository>::new())
        .await
        .unwrap();
    assert!(none.context().is_empty());
}

/// Serves files to whoever says the password, as a plain web server; tells what it was asked.
async fn web(root: PathBuf, password: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => break,
                }
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            log.lock().unwrap().push(request.clone());
            let path = request
                .split([' ', '?'])
                .nth(1)
                .unwrap_or("/")
                .trim_start_matches('/');
            let body = fs::read(root.join(path));
            let (status, body) = match (request.contains(password), body) {
                (false, _) => (
                    "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"",
                    Vec::new(),
                ),
                (true, Ok(body)) => ("200 OK", body),
                (true, Err(_)) => ("404 Not Found", Vec::new()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
        }
    });
    (address, asked)
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, found),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}

async fn pitfall_25_a_token_is_nowhere_to_be_found(
    server: &LocalServer,
    workspace: &Workspace,
    home: &TempDir,
) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("private.git");
    let sha = origin(workspace, &path).await;
    run(
        workspace,
        &format!("git -C '{}' update-server-info", path.display()),
    )
    .await;
    // base64 of `x-access-token:TOKEN`, as git sends it.
    let basic = "Basic eC1hY2Nlc3MtdG9rZW46Y2FuYXJ5L29mK3RoZS10b2tlbg==";
    let (address, asked) = web(root.path().to_owned(), basic).await;
    let url = format!("http://{address}/private.git/.git");
    let hidden = || {
        run(
            workspace,
            "ls -d ${TMPDIR:-/tmp}/oh-clone.* 2>/dev/null | wc -l",
        )
    };
    let before = hidden().await;

    // Plain web servers give whole histories only, as a commit wants.
    let repository = Repository::new(&url).git_ref(&sha);
    let denied = workspace
        .clone_repositories([repository.clone()])
        .await
        .unwrap();
    assert_eq!(denied.failed[0].error.kind(), ErrorKind::Git);
    let done = workspace
        .clone_repositories([repository.clone().token(TOKEN)])
        .await
        .unwrap();
    assert_eq!(
        done.cloned.len(),
        1,
        "{:?} {:?}",
        done.failed,
        asked.lock().unwrap()
    );
    assert!(
        asked
            .lock()
            .unwrap()
            .iter()
            .any(|request| request.contains(basic))
    );
    let wrong = Repository::new(&url).git_ref(&sha).token("canary-wrong");
    let wrong = workspace
        .clone_repositories([wrong])
        .into_directory("wrong")
        .await
        .unwrap();
    assert_eq!(wrong.failed[0].error.kind(), ErrorKind::Git);
    // Dropped while it waits for a server that does not answer.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}/x", silent.local_addr().unwrap());
    let dropped = workspace.clone_repositories([Repository::new(silent).token(TOKEN)]);
    let dropped = tokio::time::timeout(Duration::from_millis(1500), dropped.into_future());
    assert!(dropped.await.is_err());

    for _ in 0..100 {
        if hidden().await == before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(hidden().await, before, "a hiding place was left");
    let mut found = Vec::new();
    for directory in [server.state_dir(), server.workspace_dir(), home.path()] {
        files(directory, &mut found);
    }
    assert!(found.len() > 30, "{}", found.len());
    for path in found {
        let bytes = fs::read(&path).unwrap_or_default();
        assert!(
            !bytes.windows(6).any(|part| part == b"canary"),
            "{}",
            path.display()
        );
    }
    let told = format!(
        "{:?} {:?} {:?}",
        server.log_tail(),
        denied.failed,
        wrong.failed
    );
    assert!(!told.contains("canary"));
}
