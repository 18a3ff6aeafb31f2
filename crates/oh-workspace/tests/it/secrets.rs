//! Tests that a command's secrets leave nothing on the server's disk after any failure.

use std::{future::IntoFuture, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use oh_workspace::{ErrorKind, Result, Workspace};
use tokio::time::timeout;

use crate::shell::{Plan, Shell, holds};

const SHELLS: [&str; 2] = ["dash", "bash --posix"];
const LONG: Duration = Duration::from_secs(60);

fn command(workspace: &Workspace, line: &str) -> impl Future<Output = Result<String>> {
    let run = workspace.execute(line).secret_env("TOKEN", "canary");
    let run = run.into_future();
    async move { run.await.map(|output| output.stdout().to_owned()) }
}

/// Waits until background cleanup has emptied the server's temporary directory.
async fn emptied(server: &Shell) {
    let waiting = async {
        while !server.left().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let emptied = timeout(LONG, waiting).await;
    assert!(emptied.is_ok(), "left: {:?}", server.left());
}

#[tokio::test]
async fn secrets_reach_the_command_exactly_and_leave_no_file() {
    // Every kind of character that a shell could misinterpret.
    let odd: String = (1..0x300)
        .chain([0x2028, 0x1f600, 0xfffd])
        .filter_map(char::from_u32)
        .collect();
    for shell in SHELLS {
        let server = Shell::new(shell);
        let workspace = server.workspace();
        let run = workspace
            .execute("ls \"$TMPDIR\"; printf '%s|%s|%s' \"$TOKEN\" \"$ODD\" \"$PLAIN\" >seen")
            .env("PLAIN", "plain")
            .secret_env("TOKEN", "canary\n\n")
            .secret_env("ODD", &*odd);
        let output = run.await.unwrap();
        assert_eq!(
            (output.exit_code(), output.stdout(), output.stderr()),
            (Some(0), "", "")
        );
        let seen = std::fs::read(server.work().join("seen")).unwrap();
        assert_eq!(
            seen,
            format!("canary\n\n|{odd}|plain").as_bytes(),
            "{shell}"
        );
        assert_eq!(server.left(), <[PathBuf; 0]>::default());
        for (path, body) in server.log() {
            assert!(
                path.ends_with("/upload") || !body.contains("canary"),
                "{path} {body}"
            );
        }
    }
}

#[tokio::test]
async fn an_invalid_variable_is_rejected_before_sending() {
    let server = Shell::new("dash");
    let workspace = server.workspace();
    let just = 131_072 - "TOKEN=".len() - 1;
    let run = workspace.execute("printf %s \"$TOKEN\" | wc -c");
    let output = run.secret_env("TOKEN", "x".repeat(just)).await.unwrap();
    assert_eq!(output.stdout().trim(), just.to_string());
    let sent = server.log().len();
    let long = "x".repeat(just + 1);
    let run = workspace.execute("true").secret_env("TOKEN", &*long);
    let error = run.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("TOKEN"), "{error}");
    let error = workspace
        .execute("true")
        .env("PLAIN", &*long)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    // Together the variables exceed the limit as well.
    let mut run = workspace.execute("true");
    for number in 0..10 {
        run = run.secret_env(format!("TOKEN_{number}"), "x".repeat(120_000));
    }
    let error = run.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(server.log().len(), sent);
}

#[tokio::test]
async fn an_invalid_or_killed_command_line_leaves_no_file() {
    for shell in SHELLS {
        for line in [
            "if",
            "echo 'open",
            ")",
            "kill -9 $$",
            "kill $$",
            "exec false",
            "exit 96",
        ] {
            let server = Shell::new(shell);
            let workspace = server.workspace();
            let _ = command(&workspace, line).await;
            assert!(
                server.left().is_empty(),
                "{shell}: {line}: {:?}",
                server.left()
            );
        }
    }
}

#[tokio::test]
async fn a_command_that_never_starts_leaves_no_file() {
    for (case, expected) in [
        (Plan::Refuse, ErrorKind::Connect),
        (Plan::Status(500), ErrorKind::Server),
        (Plan::LoseAnswer, ErrorKind::Interrupted),
    ] {
        let server = Shell::new("dash");
        server.plan(move |path, _| match path.ends_with("/start_bash_command") {
            true => case,
            false => Plan::Serve,
        });
        let workspace = server.workspace();
        let error = command(&workspace, "sleep 1").await.unwrap_err();
        assert_eq!(error.kind(), expected, "{error:?}");
        assert!(server.left().is_empty(), "{case:?}: {:?}", server.left());
    }
    // The system rejects a line of this length.
    let server = Shell::new("dash");
    let workspace = server.workspace();
    let line = format!(": {}", "x".repeat(200_000));
    let error = command(&workspace, &line).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotStarted, "{error:?}");
    assert!(server.left().is_empty(), "{:?}", server.left());
}

#[tokio::test]
async fn an_upload_that_fails_leaves_no_directory() {
    for case in [Plan::Refuse, Plan::Status(500), Plan::LoseAnswer] {
        let server = Shell::new("dash");
        server.plan(move |path, _| match path.ends_with("/upload") {
            true => case,
            false => Plan::Serve,
        });
        let workspace = server.workspace();
        let error = command(&workspace, "true").await.unwrap_err();
        assert!(!format!("{error:?}").contains("canary"));
        assert!(server.left().is_empty(), "{case:?}: {:?}", server.left());
    }
}

#[tokio::test]
async fn a_command_that_cannot_remove_its_secrets_does_not_run() {
    for shell in SHELLS {
        for removable in [true, false] {
            let server = Shell::new(shell);
            // The command's own `rm` fails; the client's works in one case, and fails in the other.
            server.plan(move |path, body| {
                let removing = path.ends_with("/execute_bash_command") && body.contains("\"rm -rf");
                match removing && !removable {
                    true => Plan::Status(500),
                    false => Plan::Serve,
                }
            });
            let programs = server.work().join("bin");
            std::fs::create_dir(&programs).unwrap();
            let rm = programs.join("rm");
            std::fs::write(&rm, "#!/bin/sh\nexit 1\n").unwrap();
            std::fs::set_permissions(&rm, PermissionsExt::from_mode(0o755)).unwrap();
            server.programs(&programs);
            let workspace = server.workspace();
            let error = command(&workspace, "touch ran").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotStarted, "{error:?}");
            assert!(error.command_id().is_some());
            let path = error.path().unwrap().to_owned();
            assert_eq!(server.left().is_empty(), removable);
            assert_eq!(
                error.to_string().contains("could not be removed"),
                !removable
            );
            assert!(!server.work().join("ran").exists());
            assert!(removable || server.left() == [PathBuf::from(path)]);
            // The background process on the server removes the directory.
            server.kill(&format!("{:032x}", 1), "TERM");
            emptied(&server).await;
        }
    }
}

#[tokio::test]
async fn secrets_left_by_a_killed_command_are_removed_or_reported() {
    for removable in [true, false] {
        let server = Shell::new("dash");
        server.plan(move |path, body| {
            let removing = path.ends_with("/execute_bash_command") && body.contains("\"rm -rf");
            match removing && !removable {
                true => Plan::Status(500),
                false => Plan::Serve,
            }
        });
        let workspace = server.workspace();
        let result = command(&workspace, "kill -9 $$").await;
        match removable {
            true => assert!(result.is_ok(), "{result:?}"),
            false => {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NotRemoved, "{error:?}");
                assert!(error.command_id().is_some() && error.path().is_some());
            }
        }
    }
}

#[tokio::test]
async fn a_command_dropped_at_any_point_leaves_no_file() {
    for polls in 0..12 {
        let server = Shell::new("dash");
        let workspace = server.workspace();
        let mut running = Box::pin(command(&workspace, "sleep 300"));
        for _ in 0..polls {
            let _ = timeout(Duration::from_millis(3), &mut running).await;
        }
        drop(running);
        // A request in progress at the drop may create the directory only now.
        let settled = async {
            let mut before = 0;
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let now = server.log().len();
                if now == before {
                    return;
                }
                before = now;
            }
        };
        timeout(LONG, settled).await.unwrap();
        emptied(&server).await;
        assert!(!holds(&server.tmp(), "canary"));
    }
}

/// No client is left to remove the directory: it was killed, or lost its network permanently.
#[tokio::test]
async fn an_unclaimed_directory_removes_itself() {
    let server = Shell::new("dash");
    // From the upload on, all requests are lost.
    let gone = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let cut = std::sync::Arc::clone(&gone);
    server.plan(move |path, _| {
        use std::sync::atomic::Ordering;
        let upload = path.ends_with("/upload");
        match cut.fetch_or(upload, Ordering::Relaxed) {
            true => Plan::Refuse,
            false => Plan::Serve,
        }
    });
    let workspace = server.workspace();
    let error = command(&workspace, "true").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
    let path = error.path().unwrap().to_owned();
    assert!(
        error.to_string().contains("could not be removed"),
        "{error}"
    );
    assert!(holds(&server.tmp(), "canary"));
    assert_eq!(server.left(), [PathBuf::from(path)]);
    // A signal replaces the wait of five minutes.
    server.kill(&format!("{:032x}", 1), "TERM");
    emptied(&server).await;
}
