//! Files on the real server. One server serves all scenarios: starting it is what takes long.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    future::poll_fn,
    io::Write as _,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_core::Stream;
use openhands::{
    Agent, Client, Conversation, LocalServer, Workspace, WorkspaceExt, WorkspaceHandle,
    protocol::{ConversationId, calls::files::ArchiveFormat, config::Llm},
    testkit::{Link, Proxy},
    workspace::ErrorKind,
};
use tempfile::TempDir;

const MIB: usize = 1024 * 1024;

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await
}

/// Bytes that say where they belong.
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
async fn files_on_the_real_server() {
    let home = openhands_tests::home();
    let server = openhands_tests::server(&home).start().await.unwrap();
    let workspace = server.workspace(server.workspace_dir());
    let local = tempfile::tempdir().unwrap();
    every_way_there_and_back_keeps_every_byte(&workspace, &local).await;
    bad_paths_are_told_apart(&workspace, &local).await;
    a_full_disk_is_told(&workspace).await;
    a_file_that_changes_meanwhile_is_not_copied(&workspace, &local).await;
    pitfall_20_memory_is_bounded_whatever_the_size(&server, &workspace).await;
    pitfall_20_transfers_survive_their_connection(&server, &local).await;
    pitfall_20_nothing_half_written_is_left(&server, &local).await;
    a_transfer_that_stands_still_ends(&server).await;
    directories_are_made_and_listed(&workspace).await;
    archives_hold_what_was_asked_for(&workspace, &local).await;
    a_conversation_has_files_of_its_own(&workspace, &local).await;
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

    // Replaced, and shorter; as text; made up as it is read.
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

    // Progress grows to the whole, in both directions.
    let told = Arc::new(Mutex::new(Vec::new()));
    let (up, down) = (Arc::clone(&told), Arc::clone(&told));
    let size = 2 * MIB as u64;
    let upload = workspace
        .upload("p")
        .progress(move |at| up.lock().unwrap().push(at));
    upload.from_bytes(content(2 * MIB)).await.unwrap();
    let download = workspace
        .download("p")
        .progress(move |at| down.lock().unwrap().push(at));
    assert_eq!(download.bytes().await.unwrap().len(), 2 * MIB);
    let told = told.lock().unwrap();
    assert!(told.len() > 4 && told.iter().all(|at| at.total == Some(size)));
    assert_eq!(told.iter().filter(|at| at.done == size).count(), 2);
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

async fn bad_paths_are_told_apart(workspace: &Workspace, local: &TempDir) {
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
    // Only a server can tell what may not be read or written there.
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

    // On this side.
    let missing = workspace
        .upload("x")
        .from_path(local.path().join("missing"))
        .await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::Local);
    let directory = workspace
        .upload("x")
        .from_path(local.path())
        .await
        .unwrap_err();
    assert_eq!(directory.kind(), ErrorKind::Local);
    let directory = workspace
        .download("file")
        .to_path(local.path())
        .await
        .unwrap_err();
    assert_eq!(directory.kind(), ErrorKind::Local);
    fs::write(local.path().join("in the way"), "").unwrap();
    let below = workspace
        .download("file")
        .to_path(local.path().join("in the way/x"))
        .await;
    assert_eq!(below.unwrap_err().kind(), ErrorKind::Local);
}

async fn a_full_disk_is_told(workspace: &Workspace) {
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

async fn a_file_that_changes_meanwhile_is_not_copied(workspace: &Workspace, local: &TempDir) {
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
    assert_eq!(error.kind(), ErrorKind::Local, "{error:?}");
    assert_eq!(workspace.download("copy").text().await.unwrap(), "before");
}

/// The same workspace through a proxy.
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

/// Mebibytes that this process held at most since `f` began, above what it held before.
async fn growth(f: impl Future<Output = ()>) -> u64 {
    let status = |field: &str| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    };
    // Makes the high-water mark begin anew.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    f.await;
    status("VmHWM:").saturating_sub(before)
}

async fn pitfall_20_memory_is_bounded_whatever_the_size(
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

async fn pitfall_20_transfers_survive_their_connection(server: &LocalServer, local: &TempDir) {
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

    // Another file by then: neither the old nor the new, so an error.
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

async fn pitfall_20_nothing_half_written_is_left(server: &LocalServer, local: &TempDir) {
    let (proxy, workspace) = proxied(server).await;
    let (there, here) = (
        server.workspace_dir().join("kept"),
        local.path().join("kept/here"),
    );
    fs::create_dir(here.parent().unwrap()).unwrap();
    fs::write(&there, "old there").unwrap();
    fs::write(&here, "old here").unwrap();

    // Cut on the way up: the old one stays.
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
    // Cut on the way down, and never better again.
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
    // Dropped on the way, in both directions.
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

async fn a_transfer_that_stands_still_ends(server: &LocalServer) {
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
    // Slow is not still: this takes longer than the limit, and passes.
    proxy.links(|_| Link::new().drip_sent(100_000, Duration::from_millis(50)));
    let up = workspace.upload("slow").idle_timeout(idle);
    assert_eq!(
        up.from_bytes(content(2 * MIB)).await.unwrap(),
        2 * MIB as u64
    );
    // Nor is a source that thinks, once.
    proxy.links(|_| Link::new());
    struct Thinks(u32);
    impl std::io::Read for Thinks {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            std::thread::sleep(Duration::from_millis(700));
            let size = if self.0 == 1 { buffer.len() } else { 0 };
            Ok(size)
        }
    }
    let up = workspace.upload("slow").idle_timeout(idle);
    assert!(up.from_reader(Thinks(0)).await.unwrap() > 0);
}

async fn directories_are_made_and_listed(workspace: &Workspace) {
    for name in ["dirs/b/c", "dirs/A", "dirs/.hidden", "dirs/b"] {
        workspace.create_directory(name).await.unwrap();
    }
    workspace.write("dirs/file", "x").await.unwrap();
    let names = |found: Vec<openhands::protocol::calls::files::Subdirectory>| {
        found
            .into_iter()
            .map(|entry| entry.name)
            .collect::<Vec<_>>()
    };
    let found = workspace
        .subdirectories("dirs")
        .page_size(1)
        .all()
        .await
        .unwrap();
    assert_eq!(found[0].path, format!("{}/dirs/A", workspace.working_dir()));
    assert_eq!(names(found), ["A", "b"]);
    let found = workspace
        .subdirectories("dirs")
        .with_hidden()
        .all()
        .await
        .unwrap();
    assert_eq!(names(found), [".hidden", "A", "b"]);
    for (path, kind) in [
        ("dirs/none", ErrorKind::NotFound),
        ("dirs/file", ErrorKind::InvalidPath),
        ("", ErrorKind::InvalidInput),
    ] {
        let error = workspace.subdirectories(path).all().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{path}: {error:?}");
    }
    for path in ["dirs/file", "dirs/file/below"] {
        let error = workspace.create_directory(path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidPath, "{path}: {error:?}");
    }
    let denied = workspace
        .create_directory("/sys/kernel/denied")
        .await
        .unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied, "{denied:?}");
    let home = workspace.home().await.unwrap();
    assert!(home.home.starts_with('/') && home.locations[0].path == "/");
    let below = workspace
        .directory("dirs")
        .unwrap()
        .execute("pwd")
        .await
        .unwrap();
    assert!(below.stdout().ends_with("/dirs\n"));
}

async fn archives_hold_what_was_asked_for(workspace: &Workspace, local: &TempDir) {
    let line = "mkdir repo && cd repo && git init -q -b main && git config user.email a@b && \
                git config user.name n && echo one > f && git add f && git commit -qm one && \
                echo two > f && mkdir target && echo x > target/built && echo new > added";
    assert!(workspace.execute(line).await.unwrap().success());
    let patch = workspace
        .archive("repo", ArchiveFormat::GitDelta)
        .base_ref("HEAD")
        .download();
    let target = local.path().join("repo.patch");
    let got = patch.to_path(&target).await.unwrap();
    let text = fs::read_to_string(&target).unwrap();
    assert!(
        text.contains("+two") && text.contains("added") && !text.contains("built"),
        "{text}"
    );
    let info = got.archive();
    assert_eq!(info.branch.as_deref(), Some("main"));
    assert_eq!(info.base_ref.as_deref(), Some("HEAD"));
    assert!(info.repo_root.unwrap().ends_with("/repo"));

    let all = workspace
        .archive("repo", ArchiveFormat::TarGz)
        .with_everything()
        .exclude("added");
    all.download()
        .to_path(local.path().join("repo.tar.gz"))
        .await
        .unwrap();
    let listed = std::process::Command::new("tar")
        .args(["tzf", "repo.tar.gz"])
        .current_dir(local.path())
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains("repo/target/built") && !listed.contains("repo/added"),
        "{listed}"
    );

    for (path, base, kind) in [
        ("repo", "no-such-ref", ErrorKind::Git),
        ("repo", "--output=/x", ErrorKind::InvalidInput),
        ("none", "HEAD", ErrorKind::NotFound),
        ("repo/f", "HEAD", ErrorKind::InvalidPath),
        ("dirs", "HEAD", ErrorKind::Git),
    ] {
        let archive = workspace
            .archive(path, ArchiveFormat::GitDelta)
            .base_ref(base);
        let error = archive.download().bytes().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{path} {base}: {error:?}");
    }
}

async fn a_conversation_has_files_of_its_own(workspace: &Workspace, local: &TempDir) {
    let llm = Llm::new("openai/none")
        .base_url("http://127.0.0.1:9")
        .api_key("canary-of-the-llm");
    let agent = Agent::default_preset(llm).cli_mode(true);
    let conversation = Conversation::builder(workspace, agent)
        .start()
        .await
        .unwrap();
    let own = workspace.in_conversation(conversation.id());
    own.write("site/index.html", "<p>home</p>").await.unwrap();
    own.write("site/a b.txt", "text").await.unwrap();
    assert_eq!(own.static_file("site").text().await.unwrap(), "<p>home</p>");
    assert_eq!(
        own.static_file("site/a b.txt").text().await.unwrap(),
        "text"
    );
    assert_eq!(own.download("site/a b.txt").text().await.unwrap(), "text");
    own.create_directory("site/more").await.unwrap();
    let kinds = [
        own.static_file("none").bytes().await.unwrap_err().kind(),
        own.static_file("../x").bytes().await.unwrap_err().kind(),
        workspace
            .static_file("site")
            .bytes()
            .await
            .unwrap_err()
            .kind(),
        own.download("/etc/hostname")
            .bytes()
            .await
            .unwrap_err()
            .kind(),
        own.write("/tmp/outside", "x").await.unwrap_err().kind(),
        own.create_directory("/tmp/outside")
            .await
            .unwrap_err()
            .kind(),
    ];
    let expected = [
        ErrorKind::NotFound,
        ErrorKind::InvalidInput,
        ErrorKind::InvalidInput,
        ErrorKind::OutsideWorkspace,
        ErrorKind::OutsideWorkspace,
        ErrorKind::OutsideWorkspace,
    ];
    assert_eq!(kinds, expected);

    for scope in [workspace, &own] {
        let target = local.path().join("trajectory.zip");
        scope
            .trajectory(conversation.id())
            .to_path(&target)
            .await
            .unwrap();
        let zip = fs::read(&target).unwrap();
        assert!(zip.starts_with(b"PK") && zip.windows(9).any(|part| part == b"meta.json"));
        assert!(!zip.windows(17).any(|part| part == b"canary-of-the-llm"));
    }
    let unknown = workspace
        .trajectory(ConversationId::random())
        .bytes()
        .await
        .unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    conversation.close().await.unwrap();
}
