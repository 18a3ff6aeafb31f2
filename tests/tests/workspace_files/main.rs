//! Files on the real server. All scenarios share one server, because starting it takes long.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod places;
mod transfers;

use std::{
    fs,
    future::poll_fn,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_core::Stream;
use openhands::{Workspace, WorkspaceExt, WorkspaceHandle, workspace::ErrorKind};
use tempfile::TempDir;

const MIB: usize = 1024 * 1024;

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await
}

/// Returns bytes that depend on their position.
fn content(size: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(size + 8);
    while content.len() < size {
        content.extend_from_slice(&(content.len() as u64).to_le_bytes());
    }
    content.truncate(size);
    content
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn files_work_on_the_real_server() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let workspace = server.workspace(server.workspace_dir());
    let local = tempfile::tempdir().unwrap();
    every_way_there_and_back_keeps_every_byte(&workspace, &local).await;
    bad_paths_are_distinguished(&workspace, &local).await;
    a_full_disk_is_reported(&workspace).await;
    transfers::a_file_that_changes_meanwhile_is_not_copied(&workspace, &local).await;
    transfers::a_source_that_panics_is_not_taken_for_its_end(&workspace).await;
    transfers::a_file_that_changes_on_the_server_meanwhile_is_reported(&server, &local).await;
    transfers::pitfall_20_memory_is_bounded_for_any_size(&server, &workspace).await;
    transfers::pitfall_20_transfers_survive_their_connection(&server, &local).await;
    transfers::pitfall_20_nothing_half_written_is_left(&server, &local).await;
    transfers::a_transfer_that_stands_still_ends(&server).await;
    places::unusual_names_there_and_back(&workspace, &local).await;
    places::directories_are_made_and_listed(&workspace).await;
    places::archives_hold_what_was_asked_for(&workspace, &local).await;
    places::a_conversation_has_files_of_its_own(&workspace, &local).await;
    server.shutdown(Duration::from_secs(30)).await.unwrap();
}

async fn every_way_there_and_back_keeps_every_byte(workspace: &Workspace, local: &TempDir) {
    for size in [0, 1, 262_143, 262_144, 262_145, 3 * MIB + 7] {
        let content = content(size);
        let name = format!("new/größe {size} & more.bin");
        let sent = workspace
            .upload(&name)
            .from_bytes(content.clone())
            .await
            .unwrap();
        assert_eq!(sent, size as u64);
        assert!(
            workspace.download(&name).bytes().await.unwrap() == content,
            "{size}"
        );

        let (from, to) = (local.path().join("from"), local.path().join("deep/down/to"));
        fs::write(&from, &content).unwrap();
        workspace.upload("by path").from_path(&from).await.unwrap();
        let got = workspace.download("by path").to_path(&to).await.unwrap();
        assert_eq!(got.size(), size as u64);
        assert!(fs::read(&to).unwrap() == content, "{size}");
        assert_eq!(names(to.parent().unwrap()), ["to"]);

        let reader = std::io::Cursor::new(content.clone());
        workspace
            .upload("by reader")
            .from_reader(reader)
            .await
            .unwrap();
        let got = workspace
            .download("by reader")
            .to_writer(Vec::new())
            .await
            .unwrap();
        assert!(got == content, "{size}");

        let chunks: Vec<_> = content
            .chunks(70_000)
            .map(|chunk| Ok(chunk.to_vec().into()))
            .collect();
        let stream = Chunks(chunks.into_iter());
        workspace
            .upload("by stream")
            .from_stream(stream)
            .await
            .unwrap();
        let mut stream = workspace.download("by stream").stream().await.unwrap();
        assert_eq!(stream.length(), Some(size as u64));
        let mut got = Vec::new();
        while let Some(chunk) = next(&mut stream).await {
            got.extend_from_slice(&chunk.unwrap());
        }
        assert!(got == content, "{size}");
    }

    // Replaced by a shorter file, by text, and by generated content.
    workspace.write("text", "long ago: äöü").await.unwrap();
    workspace.write("text", "now: ✓").await.unwrap();
    assert_eq!(workspace.download("text").text().await.unwrap(), "now: ✓");
    workspace.write("text", vec![b'a', 0xff]).await.unwrap();
    let error = workspace.download("text").text().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotText);
    let version = fs::read_to_string("/proc/version").unwrap();
    workspace
        .upload("made up")
        .from_path("/proc/version")
        .await
        .unwrap();
    assert_eq!(workspace.download("made up").text().await.unwrap(), version);

    // The progress grows up to the full size, in both directions.
    let reported = Arc::new(Mutex::new(Vec::new()));
    let (up, down) = (Arc::clone(&reported), Arc::clone(&reported));
    let size = 2 * MIB as u64;
    let upload = workspace
        .upload("p")
        .progress(move |at| up.lock().unwrap().push(at));
    upload.from_bytes(content(2 * MIB)).await.unwrap();
    let download = workspace
        .download("p")
        .progress(move |at| down.lock().unwrap().push(at));
    assert_eq!(download.bytes().await.unwrap().len(), 2 * MIB);
    let reported = reported.lock().unwrap();
    assert!(reported.len() > 4 && reported.iter().all(|at| at.total == Some(size)));
    assert_eq!(reported.iter().filter(|at| at.done == size).count(), 2);
}

struct Chunks<T>(std::vec::IntoIter<T>);

impl<T: Unpin> Stream for Chunks<T> {
    type Item = T;

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        std::task::Poll::Ready(self.0.next())
    }
}

async fn bad_paths_are_distinguished(workspace: &Workspace, local: &TempDir) {
    workspace.write("file", "x").await.unwrap();
    let target = local.path().join("never");
    for (path, kind) in [
        ("missing", ErrorKind::NotFound),
        (".", ErrorKind::InvalidPath),
        ("file/below", ErrorKind::NotFound),
        ("", ErrorKind::InvalidInput),
        ("a\0", ErrorKind::InvalidInput),
    ] {
        let error = workspace.download(path).to_path(&target).await.unwrap_err();
        assert_eq!(error.kind(), kind, "download of {path:?}: {error:?}");
        assert!(!target.exists());
    }
    for (path, kind) in [
        (".", ErrorKind::InvalidPath),
        ("file/below", ErrorKind::InvalidPath),
        ("", ErrorKind::InvalidInput),
        ("a\0", ErrorKind::InvalidInput),
    ] {
        let error = workspace.write(path, "x").await.unwrap_err();
        assert_eq!(error.kind(), kind, "upload to {path:?}: {error:?}");
    }
    let long = "x".repeat(300);
    let error = workspace.write(&long, "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidPath, "{error:?}");
    // Only the server can report missing permissions.
    let denied = workspace
        .write("/sys/kernel/denied", "x")
        .await
        .unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied, "{denied:?}");
    let error = Workspace::new(workspace.client(), "relative")
        .download("x")
        .bytes()
        .await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);

    // Errors on the local side.
    let missing = workspace
        .upload("x")
        .from_path(local.path().join("missing"))
        .await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::Io);
    let directory = workspace
        .upload("x")
        .from_path(local.path())
        .await
        .unwrap_err();
    assert_eq!(directory.kind(), ErrorKind::Io);
    let directory = workspace
        .download("file")
        .to_path(local.path())
        .await
        .unwrap_err();
    assert_eq!(directory.kind(), ErrorKind::Io);
    fs::write(local.path().join("in the way"), "").unwrap();
    let below = workspace
        .download("file")
        .to_path(local.path().join("in the way/x"))
        .await;
    assert_eq!(below.unwrap_err().kind(), ErrorKind::Io);
}

async fn a_full_disk_is_reported(workspace: &Workspace) {
    let error = workspace.write("/dev/full", "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error:?}");
    workspace.write("some", content(MIB)).await.unwrap();
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let error = workspace
        .download("some")
        .to_writer(full)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error:?}");
}
