//! Repositories cloned on the server, whose tokens leave no traces.

use std::{
    fs,
    future::IntoFuture,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use openhands::{
    LocalServer, Workspace, WorkspaceHandle,
    workspace::{ErrorKind, Repository},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{IDENTITY, run};

/// A duration longer than any operation takes on a busy machine.
const LONG: Duration = Duration::from_secs(120);
const TOKEN: &str = "canary/of+the-token";

/// Creates a repository with two commits on `main`, a tag and a branch. Returns the first commit.
async fn origin(workspace: &Workspace, path: &Path) -> String {
    let path = path.display().to_string().replace('\'', r"'\''");
    let line = format!(
        "{IDENTITY} git init -q -b main '{path}' && cd '{path}' && echo 1 > f && git add f && \
         git commit -qm one && git tag v1 && git branch side && echo 2 > f && git commit -qam two && \
         git rev-parse v1"
    );
    run(workspace, &line).await
}

pub(super) async fn repositories_are_cloned(workspace: &Workspace, local: &TempDir) {
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

    // A failed clone leaves nothing behind, and existing directories are unchanged.
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

/// Serves files to clients with the password, as a plain web server, once `watched` is true. Returns
/// the address and the received requests.
async fn web(
    root: PathBuf,
    password: &'static str,
    watched: Arc<AtomicBool>,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
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
            // Git has to be seen at work.
            while request.contains(password) && !watched.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
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

pub(super) async fn pitfall_25_a_token_is_nowhere_to_be_found(
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
    // Waits until git has been observed.
    let watched = Arc::new(AtomicBool::new(false));
    let (address, asked) = web(root.path().to_owned(), basic, watched.clone()).await;
    let url = format!("http://{address}/private.git/.git");
    let hidden = || {
        run(
            workspace,
            "ls -d ${TMPDIR:-/tmp}/oh-hiding.* 2>/dev/null | wc -l",
        )
    };
    let before = hidden().await;

    // Plain web servers only serve whole histories, which a commit id requires.
    let repository = Repository::new(&url).git_ref(&sha);
    let denied = workspace
        .clone_repositories([repository.clone()])
        .await
        .unwrap();
    assert_eq!(denied.failed[0].error.kind(), ErrorKind::Git);
    // Checks all command lines of the machine while git works.
    let cloning = workspace.clone_repositories([repository.clone().token(TOKEN)]);
    let (mut looked, mut fetching) = (0, 0);
    let watching = async {
        loop {
            for entry in fs::read_dir("/proc").unwrap().flatten() {
                let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                // The part of the token that is the same in a URL.
                assert!(!line.windows(9).any(|part| part == b"the-token"));
                looked += 1;
                fetching += u32::from(line.windows(11).any(|part| part == b"remote-http"));
            }
            watched.store(fetching > 0, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let done = tokio::select! {
        done = cloning.into_future() => done.unwrap(),
        () = watching => unreachable!("it has no end"),
    };
    assert!(looked > 0 && fetching > 0, "git was not seen at work");
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
    let config = fs::read_to_string(format!("{}/.git/config", done.cloned[0].path)).unwrap();
    assert!(
        config.contains(&url) && !config.contains("credential"),
        "{config}"
    );
    let mut history = Box::pin(workspace.history().stream());
    let mut clones = 0;
    while let Some(event) = super::next(&mut history).await {
        let event = serde_json::to_string(&event.unwrap()).unwrap();
        assert!(!event.contains("canary"), "{event}");
        clones += usize::from(event.contains("git -c credential.helper= "));
    }
    assert!(clones >= 2, "{clones}");
    // Dropped while waiting for a server that does not answer.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}/x", silent.local_addr().unwrap());
    let dropped = workspace.clone_repositories([Repository::new(silent).token(TOKEN)]);
    let dropped = tokio::time::timeout(Duration::from_millis(1500), dropped.into_future());
    assert!(dropped.await.is_err());

    let removed = async {
        while hidden().await != before {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let removed = tokio::time::timeout(LONG, removed).await;
    removed.expect("a hiding place was left");
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
    let reported = format!(
        "{:?} {:?} {:?}",
        server.log_tail(),
        denied.failed,
        wrong.failed
    );
    assert!(!reported.contains("canary"));
}

/// Checks that neither a partial repository nor a process is left.
pub(super) async fn a_clone_that_is_dropped_or_late_leaves_nothing(workspace: &Workspace) {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/silent.git", silent.local_addr().unwrap());
    let clone = |limit: u64| {
        workspace
            .clone_repositories([
                Repository::new(&url),
                Repository::new(&url).git_ref("abcdef1"),
            ])
            .into_directory("late")
            .timeout(Duration::from_millis(limit))
    };
    let dropped = tokio::time::timeout(Duration::from_millis(700), clone(60_000).into_future());
    assert!(dropped.await.is_err());
    nothing_is_left(workspace).await;
    let late = clone(700).await.unwrap();
    let kinds: Vec<_> = late.failed.iter().map(|one| one.error.kind()).collect();
    assert_eq!(kinds, [ErrorKind::Timeout, ErrorKind::Timeout]);
    nothing_is_left(workspace).await;
}

/// Waits until git has cleaned up.
async fn nothing_is_left(workspace: &Workspace) {
    let left = "ls -A late 2>/dev/null; pgrep -f '[s]ilent.git'; true";
    let removed = async {
        while !run(workspace, left).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let removed = tokio::time::timeout(LONG, removed).await;
    removed.unwrap_or_else(|_| panic!("something is left in {}", workspace.working_dir()));
}
