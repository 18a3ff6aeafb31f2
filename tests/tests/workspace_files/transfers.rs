//! Failing transfers: no data is lost, no file is left partially written, and memory use stays
//! small.

use std::{
    fs,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use openhands::{
    Client, LocalServer, Workspace, WorkspaceExt, WorkspaceHandle,
    testkit::{Link, Proxy},
    workspace::ErrorKind,
};
use tempfile::TempDir;

use crate::{MIB, content, names, next};

pub(super) async fn a_file_that_changes_meanwhile_is_not_copied(
    workspace: &Workspace,
    local: &TempDir,
) {
    workspace.write("copy", "before").await.unwrap();
    let source = local.path().join("log");
    for (change, grow) in [("grows", true), ("shrinks", false), ("is rewritten", false)] {
        fs::write(&source, content(3 * MIB)).unwrap();
        let path = source.clone();
        let mut changed = false;
        let upload = workspace.upload("copy").progress(move |_| {
            if !std::mem::replace(&mut changed, true) {
                let file = fs::OpenOptions::new().append(grow).write(true).open(&path);
                let mut file = file.unwrap();
                match change {
                    "shrinks" => file.set_len(MIB as u64 * 2).unwrap(),
                    _ => file.write_all(b"other").unwrap(),
                }
            }
        });
        let error = upload.from_path(&source).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Changed, "{change}: {error:?}");
        assert_eq!(workspace.download("copy").text().await.unwrap(), "before");
    }
    // A source that fails.
    struct Fails(u32);
    impl std::io::Read for Fails {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1..5 => Ok(buffer.len()),
                _ => Err(std::io::Error::other("no more")),
            }
        }
    }
    let error = workspace
        .upload("copy")
        .from_reader(Fails(0))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    assert_eq!(workspace.download("copy").text().await.unwrap(), "before");
}

/// Checks that a panic of the source is not treated as its end.
pub(super) async fn a_source_that_panics_is_not_taken_for_its_end(workspace: &Workspace) {
    struct Panics(u32);
    impl std::io::Read for Panics {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            assert!(self.0 < 9, "by the caller");
            Ok(buffer.len())
        }
    }
    let error = workspace
        .upload("copy")
        .from_reader(Panics(0))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    let upload = workspace
        .upload("copy")
        .progress(|at| assert!(at.done < 700_000, "by the caller"));
    let error = upload.from_bytes(content(3 * MIB)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error:?}");
    assert_eq!(workspace.download("copy").text().await.unwrap(), "before");
    // The workspace can still be used.
    workspace.write("copy", "after").await.unwrap();
}

/// Checks a file on the server that is overwritten during the download without a change of its
/// size.
pub(super) async fn a_file_that_changes_on_the_server_meanwhile_is_reported(
    server: &LocalServer,
    local: &TempDir,
) {
    let (there, here) = (
        server.workspace_dir().join("rewritten"),
        local.path().join("rewritten"),
    );
    fs::write(&there, content(40 * MIB)).unwrap();
    fs::write(&here, "old here").unwrap();
    let workspace = server.workspace(server.workspace_dir());
    let (place, mut changed) = (there.clone(), false);
    let download = workspace.download("rewritten").progress(move |_| {
        if !std::mem::replace(&mut changed, true) {
            let mut file = fs::OpenOptions::new().write(true).open(&place).unwrap();
            file.write_all(b"other").unwrap();
        }
    });
    let error = download.to_path(&here).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "{error:?}");
    assert_eq!(fs::read_to_string(&here).unwrap(), "old here");
    let whole = workspace
        .download("rewritten")
        .to_path(&here)
        .await
        .unwrap();
    assert_eq!(whole.size(), 40 * MIB as u64);
    fs::remove_file(&here).unwrap();
}

/// Returns the peak memory growth of this process in MiB since `f` started.
async fn growth(f: impl Future<Output = ()>) -> u64 {
    let status = |field: &str| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    };
    // Resets the high-water mark.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    f.await;
    status("VmHWM:").saturating_sub(before)
}

pub(super) async fn pitfall_20_memory_is_bounded_for_any_size(
    server: &LocalServer,
    workspace: &Workspace,
) {
    let size = 512 << 20;
    let hole = fs::File::create(server.workspace_dir().join("hole")).unwrap();
    hole.set_len(size).unwrap();
    let grown = growth(async {
        let mut stream = workspace.download("hole").stream().await.unwrap();
        let mut got = 0;
        while let Some(chunk) = next(&mut stream).await {
            got += chunk.unwrap().len() as u64;
        }
        assert_eq!(got, size);
    });
    let grown = grown.await;
    assert!(grown <= 16, "{grown} MiB for a download of 512 MiB");

    let size = 48 * MIB as u64;
    let zeros = std::io::Read::take(std::io::repeat(0), size);
    let grown = growth(async {
        let sent = workspace.upload("zeros").from_reader(zeros).await.unwrap();
        assert_eq!(sent, size);
    });
    let grown = grown.await;
    assert!(grown <= 16, "{grown} MiB for an upload of 48 MiB");
}

/// Opens the same workspace through a proxy.
async fn proxied(server: &LocalServer) -> (Proxy, Workspace) {
    let url = server.client().base_url().clone();
    let address = format!("127.0.0.1:{}", url.port().unwrap())
        .parse()
        .unwrap();
    let proxy = Proxy::start(address).await.unwrap();
    let client = Client::builder(proxy.url())
        .session_api_key(server.session_api_key().clone())
        .build()
        .unwrap();
    let workspace = Workspace::new(&client, server.workspace_dir().display().to_string());
    (proxy, workspace)
}

pub(super) async fn pitfall_20_transfers_survive_their_connection(
    server: &LocalServer,
    local: &TempDir,
) {
    let (proxy, workspace) = proxied(server).await;
    let whole = content(5 * MIB);
    fs::write(server.workspace_dir().join("big"), &whole).unwrap();
    // Every connection breaks after a million bytes.
    let links = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&links);
    proxy.links(move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
        Link::new().cut_after(1_000_000)
    });
    let target = local.path().join("survived");
    let got = workspace.download("big").to_path(&target).await.unwrap();
    assert_eq!(got.size(), whole.len() as u64);
    assert!(fs::read(&target).unwrap() == whole);
    assert!(links.load(Ordering::SeqCst) >= 6, "{links:?}");

    // The file was replaced, so neither version is complete: an error.
    proxy.links(|_| Link::new().cut_after(1_000_000));
    let mut stream = workspace.download("big").stream().await.unwrap();
    assert!(next(&mut stream).await.unwrap().is_ok());
    fs::write(server.workspace_dir().join("big"), content(6 * MIB)).unwrap();
    let error = loop {
        match next(&mut stream).await.expect("an error") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Changed, "{error:?}");
}

pub(super) async fn pitfall_20_nothing_half_written_is_left(server: &LocalServer, local: &TempDir) {
    let (proxy, workspace) = proxied(server).await;
    let (there, here) = (
        server.workspace_dir().join("kept"),
        local.path().join("kept/here"),
    );
    fs::create_dir(here.parent().unwrap()).unwrap();
    fs::write(&there, "old there").unwrap();
    fs::write(&here, "old here").unwrap();

    // Cut during an upload: the old file stays.
    for bytes in [0, 100, 3_000, 2_000_000] {
        proxy.links(move |_| Link::new().cut_after_sent(bytes));
        let error = workspace
            .upload("kept")
            .from_bytes(content(4 * MIB))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{bytes}: {error:?}");
        assert_eq!(fs::read_to_string(&there).unwrap(), "old there");
    }
    // Cut during a download, without recovery.
    fs::write(&there, content(4 * MIB)).unwrap();
    for bytes in [0, 100, 200_000] {
        proxy.links(move |n| match n {
            0 => Link::new().cut_after(bytes),
            _ => Link::new().cut_after(0),
        });
        let fresh = Client::builder(proxy.url()).session_api_key(server.session_api_key().clone());
        let fresh = Workspace::new(&fresh.build().unwrap(), workspace.working_dir());
        let error = fresh.download("kept").to_path(&here).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{bytes}: {error:?}");
        assert_eq!(fs::read_to_string(&here).unwrap(), "old here");
        assert_eq!(names(here.parent().unwrap()), ["here"], "{bytes}");
    }
    // Dropped during a transfer, in both directions.
    proxy.links(|_| {
        Link::new()
            .drip(1000, Duration::from_millis(20))
            .drip_sent(1000, Duration::from_millis(20))
    });
    let soon = Duration::from_millis(300);
    let down = workspace.download("kept").to_path(&here);
    assert!(tokio::time::timeout(soon, down).await.is_err());
    fs::write(&there, "old there").unwrap();
    let up = workspace.upload("kept").from_bytes(content(4 * MIB));
    assert!(tokio::time::timeout(soon, up).await.is_err());
    drop(proxy);
    tokio::time::sleep(soon).await;
    assert_eq!(fs::read_to_string(&there).unwrap(), "old there");
    assert_eq!(fs::read_to_string(&here).unwrap(), "old here");
    assert_eq!(names(here.parent().unwrap()), ["here"]);
}

pub(super) async fn a_transfer_that_stands_still_ends(server: &LocalServer) {
    let (proxy, workspace) = proxied(server).await;
    fs::write(server.workspace_dir().join("slow"), content(3 * MIB)).unwrap();
    let idle = Duration::from_millis(400);
    proxy.links(|_| Link::new().stall_after(1_000_000));
    let error = workspace
        .download("slow")
        .idle_timeout(idle)
        .bytes()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    proxy.links(|_| Link::new().stall_after_sent(1_000_000));
    let up = workspace.upload("slow").idle_timeout(idle);
    let error = up.from_bytes(content(30 * MIB)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    // A slow transfer is not a stalled one: this takes longer than the timeout and succeeds. A busy
    // machine must not stand still for as long as the timeout.
    let idle = Duration::from_secs(3);
    proxy.links(|_| Link::new().drip_sent(50_000, Duration::from_millis(100)));
    let up = workspace.upload("slow").idle_timeout(idle);
    assert_eq!(
        up.from_bytes(content(2 * MIB)).await.unwrap(),
        2 * MIB as u64
    );
    // A source that pauses once is not stalled either.
    proxy.links(|_| Link::new());
    struct Thinks(u32);
    impl std::io::Read for Thinks {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 > 1 {
                return Ok(0);
            }
            std::thread::sleep(Duration::from_millis(3_300));
            Ok(buffer.len())
        }
    }
    let up = workspace.upload("slow").idle_timeout(idle);
    assert!(up.from_reader(Thinks(0)).await.unwrap() > 0);
}
