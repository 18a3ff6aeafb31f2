//! Directories, archives, and the files of a conversation.

use std::fs;

use openhands::{
    Agent, Conversation, Workspace, WorkspaceHandle,
    protocol::{ConversationId, calls::files::ArchiveFormat, config::Llm},
    workspace::ErrorKind,
};
use tempfile::TempDir;

/// Checks names with a special meaning in URLs, shells or other systems.
pub(super) async fn unusual_names_there_and_back(workspace: &Workspace, local: &TempDir) {
    let names = [
        "a b",
        " lead",
        "trail ",
        "100%",
        "%41",
        "a+b",
        "a&b=c",
        "#x",
        "?y",
        "x#y?z",
        "größe",
        "日本語",
        "e\u{301}",
        "new\nline",
        "tab\tx",
        "back\\slash",
        "quo\"te",
        "it's",
        "-dash",
        "~",
        "*",
        "$HOME",
        "`id`",
        "semi;colon",
        "pipe|x",
        ".hidden",
        "...",
        "C:\\x",
        "\u{1f600}",
        "filename=\"x\"",
    ];
    let below = workspace.directory("unusual").unwrap();
    for name in names {
        below.write(format!("./{name}"), name).await.unwrap();
        let text = below.download(format!("./{name}")).text().await.unwrap();
        assert_eq!(text, name);
        let deep = format!("./{name}.d/{name}");
        below.create_directory(format!("./{name}.d")).await.unwrap();
        let from = local.path().join("unusual");
        fs::write(&from, name).unwrap();
        below.upload(&deep).from_path(&from).await.unwrap();
        below.download(&deep).to_path(&from).await.unwrap();
        assert_eq!(fs::read_to_string(&from).unwrap(), name);
    }
    let root = std::path::Path::new(workspace.working_dir()).join("unusual");
    let mut there: Vec<_> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".d"))
        .collect();
    let mut expected = names.map(str::to_owned);
    there.sort();
    expected.sort();
    assert_eq!(there, expected);
    let mut found: Vec<_> = below.subdirectories(".").with_hidden().all().await.unwrap();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let found: Vec<_> = found.into_iter().map(|one| one.name).collect();
    let mut expected = names.map(|name| format!("{name}.d"));
    expected.sort();
    assert_eq!(found, expected);
    // A Windows path is passed on unchanged. Only the server can detect that it is invalid there.
    for path in ["C:\\x", r"\\host\share\x"] {
        let error = below.write(path, "x").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.path()),
            (ErrorKind::InvalidPath, Some(path))
        );
    }
}

pub(super) async fn directories_are_made_and_listed(workspace: &Workspace) {
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

pub(super) async fn archives_hold_what_was_asked_for(workspace: &Workspace, local: &TempDir) {
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

pub(super) async fn a_conversation_has_files_of_its_own(workspace: &Workspace, local: &TempDir) {
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
    // The server's web server does not support names with a line break.
    for name in ["100%", "%41", "a+b", "x#y?z", "größe", "it's", "C:\\x"] {
        own.write(format!("site/{name}"), name).await.unwrap();
        let text = own
            .static_file(format!("site/{name}"))
            .text()
            .await
            .unwrap();
        assert_eq!(text, name);
    }
    // In the conversation's scope, git and VSCode use its workspace.
    assert!(own.git().commits(1).await.is_ok() || !own.git().is_repository().await.unwrap());
    let outside = own
        .directory("/tmp")
        .unwrap()
        .git()
        .changes()
        .await
        .unwrap_err();
    assert_eq!(outside.kind(), ErrorKind::OutsideWorkspace, "{outside:?}");
    let vscode = own.vscode_url(None).await.unwrap_err();
    assert_eq!(vscode.kind(), ErrorKind::Unsupported, "{vscode:?}");
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
