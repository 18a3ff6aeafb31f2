//! Downloads with an unusual target, or with a file that changes on the server.

use std::{fs, io, os::unix::fs::symlink, process::Command};

use oh_testkit::Mock;
use oh_workspace::{ErrorKind, Workspace};
use serde_json::json;

use crate::shell::Shell;

const DOWNLOAD: &str = "/api/file/download?path=%2Fw%2Ff";

fn workspace(mock: &Mock) -> Workspace {
    Workspace::new(&mock.client(), "/w")
}

fn answers(mock: &Mock, body: impl Into<bytes::Bytes>) {
    mock.expect("GET", DOWNLOAD).answer_bytes(200, body);
}

/// A file is put in place by renaming, which would replace a device or a pipe.
#[tokio::test]
async fn a_device_or_a_pipe_is_not_replaced_by_a_file() {
    let local = tempfile::tempdir().unwrap();
    let pipe = local.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let link = local.path().join("link to null");
    symlink("/dev/null", &link).unwrap();
    let mock = Mock::new();
    for target in [
        pipe.clone(),
        link.clone(),
        "/dev/null".into(),
        local.path().to_owned(),
    ] {
        answers(&mock, "content");
        let error = workspace(&mock)
            .download("f")
            .to_path(&target)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{target:?}: {error:?}");
    }
    assert!(!fs::symlink_metadata("/dev/null").unwrap().is_file());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(!fs::symlink_metadata(&pipe).unwrap().is_file());
    assert_eq!(fs::read_dir(local.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn a_symbolic_link_is_kept_and_its_target_is_replaced() {
    let local = tempfile::tempdir().unwrap();
    let (file, link) = (local.path().join("deep/file"), local.path().join("link"));
    fs::create_dir(file.parent().unwrap()).unwrap();
    fs::write(&file, "old").unwrap();
    symlink("deep/file", &link).unwrap();
    let mock = Mock::new();
    answers(&mock, "new");
    workspace(&mock).download("f").to_path(&link).await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_dir(local.path()).unwrap().count(), 2);
    assert_eq!(fs::read_dir(local.path().join("deep")).unwrap().count(), 1);
}

/// Runs itself again in a process that may not write more than one MiB to a file.
#[tokio::test]
async fn a_full_target_keeps_its_old_contents() {
    if let Some(target) = std::env::var_os("OH_TEST_TARGET") {
        let mock = Mock::new();
        answers(&mock, vec![1; 8 << 20]);
        let error = workspace(&mock)
            .download("f")
            .to_path(target)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
        let source = std::error::Error::source(&error).unwrap();
        let source = source.downcast_ref::<io::Error>().unwrap();
        assert_eq!(source.kind(), io::ErrorKind::FileTooLarge);
        return;
    }
    let local = tempfile::tempdir().unwrap();
    let target = local.path().join("target");
    fs::write(&target, "old").unwrap();
    let mut child = Command::new("sh");
    child.args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\""]);
    child.arg(std::env::current_exe().unwrap());
    child.args(["--exact", "files::a_full_target_keeps_its_old_contents"]);
    let output = child.env("OH_TEST_TARGET", &target).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{output:?}"
    );
    assert_eq!(fs::read_to_string(&target).unwrap(), "old");
    assert_eq!(fs::read_dir(local.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_panic_in_the_middle_leaves_nothing() {
    let local = tempfile::tempdir().unwrap();
    let target = local.path().join("target");
    fs::write(&target, "old").unwrap();
    let mock = Mock::new();
    answers(&mock, vec![1; 300_000]);
    let (workspace, place) = (workspace(&mock), target.clone());
    let download = tokio::spawn(async move {
        let download = workspace
            .download("f")
            .progress(|_| panic!("by the caller"));
        download.to_path(place).await
    });
    assert!(download.await.unwrap_err().is_panic());
    assert_eq!(fs::read_to_string(&target).unwrap(), "old");
    assert_eq!(fs::read_dir(local.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_writer_that_panics_is_an_error() {
    struct Panics;
    impl io::Write for Panics {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("by the caller")
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mock = Mock::new();
    answers(&mock, "content");
    let written = workspace(&mock).download("f").to_writer(Panics).await;
    assert_eq!(written.err().unwrap().kind(), ErrorKind::Io);
}

/// A file rewritten in place can have the same length as before: only its ETag differs.
#[tokio::test]
async fn a_file_rewritten_during_a_read_is_reported() {
    for (status, tag, kind) in [
        (206, "\"a\"", None),
        // A server without range support returns the whole file again.
        (200, "\"a\"", None),
        (200, "\"b\"", Some(ErrorKind::Changed)),
        (404, "", Some(ErrorKind::Changed)),
        (403, "", Some(ErrorKind::Forbidden)),
    ] {
        let mock = Mock::new();
        mock.expect("GET", DOWNLOAD)
            .answer_bytes(200, vec![1; 100_000])
            .header("etag", "\"a\"");
        let again = mock
            .expect("GET", DOWNLOAD)
            .answer(status, json!({"detail": "no"}));
        if !tag.is_empty() {
            again.header("etag", tag);
        }
        let got = workspace(&mock).download("f").bytes().await;
        assert_eq!(got.err().map(|error| error.kind()), kind, "{status} {tag}");
        mock.verify().unwrap();
    }
    // A file that the server reads in one block is requested only once.
    let mock = Mock::new();
    mock.expect("GET", DOWNLOAD)
        .answer_bytes(200, vec![1; 65_536])
        .header("etag", "\"a\"");
    workspace(&mock).download("f").bytes().await.unwrap();
    mock.verify().unwrap();
}

#[tokio::test]
async fn an_older_server_creates_directories_and_names_missing_endpoints() {
    // This server has no endpoint for directories, archives or commits.
    let server = Shell::new("dash");
    let workspace = server.workspace();
    workspace.create_directory("a b/c").await.unwrap();
    workspace.create_directory("a b/c").await.unwrap();
    assert!(server.work().join("a b/c").is_dir());
    fs::write(server.work().join("file"), "").unwrap();
    for path in ["file", "file/under"] {
        let error = workspace.create_directory(path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidPath, "{error}");
    }
    let error = workspace.git().commits(1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let error = workspace.home().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}
