//! Files, archives, git and hooks of a project. Played on both servers.

use serde_json::{Value, json};

use super::{
    raw::{self, Raw},
    side::{Side, keys},
};

impl Side {
    async fn raw(&self, method: &str, target: &str, head: &str, body: &[u8]) -> Raw {
        let head = format!("X-Session-API-Key: {}\r\n{head}", self.key);
        raw::ask(&self.url, method, target, &head, body).await
    }

    /// Uploads a file and records the result.
    async fn upload(&mut self, base: &str, path: &str, content: &[u8]) {
        let mut body =
            b"--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\
            Content-Type: application/octet-stream\r\n\r\n"
                .to_vec();
        body.extend(content);
        body.extend(b"\r\n--xyz--\r\n");
        let head = "Content-Type: multipart/form-data; boundary=xyz\r\n";
        let target = format!("{base}/file/upload?path={path}");
        let answer = self.raw("POST", &target, head, &body).await;
        // Decoded, so that the order of the fields does not matter.
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let shown = format!("upload {path} -> {} {body}", answer.status);
        self.note(shown);
    }

    async fn download(&mut self, target: &str, head: &str) -> Raw {
        let answer = self.raw("GET", target, head, b"").await;
        let headers = [
            "content-type",
            "content-range",
            "accept-ranges",
            "content-disposition",
        ];
        let headers: Vec<_> = headers.iter().map(|name| answer.header(name)).collect();
        let body = match answer.status {
            416 => String::new(),
            _ => answer.text(),
        };
        let head = head.split("If-Range").next().unwrap().trim();
        let (_, path) = target.split_once("path=").unwrap();
        let shown = format!(
            "download {path} {head} -> {} {headers:?} etag={} {body}",
            answer.status,
            answer.header("etag").is_some()
        );
        self.note(shown);
        answer
    }
}

pub(crate) async fn files(side: &mut Side) {
    let work = side.work.clone();
    let id = side.create(Value::Null).await;
    side.upload("/api", &format!("{work}/a/b.txt"), b"0123456789")
        .await;
    side.upload("/api", &format!("{work}/a/b.txt"), b"abcdefghij")
        .await;
    side.upload("/api", &format!("{work}/empty"), b"").await;
    side.upload("/api", &format!("{work}/a"), b"x").await;
    side.upload("/api", &format!("{work}/a/b.txt/c"), b"x")
        .await;
    side.upload("/api", "relative", b"x").await;
    side.check("POST", "/api/file/upload", Value::Null).await;
    let nothing = format!("/api/file/upload?path={work}/none");
    side.check("POST", &nothing, Value::Null).await;

    let file = format!("/api/file/download?path={work}/a/b.txt");
    let whole = side.download(&file, "").await;
    let etag = whole.header("etag").unwrap().to_owned();
    for range in ["2-4", "7-", "-3", "5-400"] {
        side.download(&file, &format!("Range: bytes={range}\r\n"))
            .await;
    }
    side.download(&file, "Range: bytes=10-\r\n").await;
    let same = format!("Range: bytes=8-\r\nIf-Range: {etag}\r\n");
    side.download(&file, &same).await;
    side.download(&file, "Range: bytes=8-\r\nIf-Range: \"other\"\r\n")
        .await;
    side.download(&format!("/api/file/download?path={work}/empty"), "")
        .await;
    for path in [
        format!("{work}/a"),
        format!("{work}/none"),
        "relative".to_owned(),
    ] {
        let target = format!("/api/file/download?path={path}");
        side.check("GET", &target, Value::Null).await;
    }
    side.check("GET", "/api/file/download", Value::Null).await;
    side.check("POST", &file, Value::Null).await;

    for path in [
        "d/e/f",
        "d/e",
        "d/.hidden",
        "d/Z",
        "d/y",
        "a/b.txt",
        "a/b.txt/x",
    ] {
        let target = format!("/api/file/create_directory?path={work}/{path}");
        side.check("POST", &target, Value::Null).await;
    }
    side.check("POST", "/api/file/create_directory?path=d", Value::Null)
        .await;
    let subdirs = format!("/api/file/search_subdirs?path={work}");
    for rest in [
        "/d",
        "/d&limit=2",
        "/d&page_id=y",
        "/d&include_hidden=true",
        "/none",
        "/a/b.txt",
    ] {
        let (status, page) = side
            .ask("GET", &format!("{subdirs}{rest}"), Value::Null)
            .await;
        side.note(format!("subdirs {rest} {status} {page}"));
    }
    for rest in ["path=/tmp&limit=101", "path=d", ""] {
        let target = format!("/api/file/search_subdirs?{rest}");
        side.check("GET", &target, Value::Null).await;
    }
    let (status, home) = side.ask("GET", "/api/file/home", Value::Null).await;
    side.note(format!(
        "home {status} {} {}",
        keys(&home),
        home["locations"]
    ));

    let archive = format!("/api/file/archive?path={work}");
    for rest in [
        "&format=zip",
        "",
        "/none&format=tar.gz",
        "/a/b.txt&format=tar.gz",
    ] {
        let target = format!("{archive}{rest}");
        let (status, answer) = side.ask("GET", &target, Value::Null).await;
        let kind = &answer["detail"][0]["type"];
        side.note(format!("archive {rest} {status} {kind}"));
    }
    let packed = side
        .raw("GET", &format!("{archive}/d&format=tar.gz"), "", b"")
        .await;
    let shown = format!(
        "archive {} {:?} {:?} gzip={}",
        packed.status,
        packed.header("content-type"),
        packed.header("content-disposition"),
        packed.body.starts_with(&[0x1f, 0x8b])
    );
    side.note(shown);
    let trajectory = side
        .raw(
            "GET",
            &format!("/api/file/download-trajectory/{id}"),
            "",
            b"",
        )
        .await;
    let shown = format!(
        "trajectory {} {:?} zip={}",
        trajectory.status,
        trajectory.header("content-type"),
        trajectory.body.starts_with(b"PK\x03\x04")
    );
    side.note(shown);
    let ghost = "00000000-0000-4000-8000-000000000000";
    for id in [ghost, "nope"] {
        let target = format!("/api/file/download-trajectory/{id}");
        side.check("GET", &target, Value::Null).await;
    }

    // The same within the workspace of a conversation.
    let own = format!("/api/conversations/{id}");
    side.upload(&own, &format!("{work}/own"), b"mine").await;
    side.upload(&own, "/elsewhere", b"x").await;
    side.download(&format!("{own}/file/download?path={work}/own"), "")
        .await;
    for (method, rest) in [
        ("GET", "file/download?path=/etc".to_owned()),
        ("GET", format!("file/download?path={work}/../own")),
        ("GET", format!("git/changes?path={work}/../own")),
        ("GET", "file/home".to_owned()),
        ("GET", format!("file/search_subdirs?path={work}")),
        ("GET", "vscode/status".to_owned()),
        ("GET", format!("file/download-trajectory/{ghost}")),
    ] {
        side.check(method, &format!("{own}/{rest}"), Value::Null)
            .await;
    }
    for id in [ghost, "nope"] {
        let target = format!("/api/conversations/{id}/file/download?path={work}/own");
        side.check("GET", &target, Value::Null).await;
    }

    // Hooks stored in a project.
    let hooks = json!({"hooks": {"Stop": [{"hooks": [{"command": "true"}]}]}});
    side.upload(
        "/api",
        &format!("{work}/.openhands/hooks.json"),
        hooks.to_string().as_bytes(),
    )
    .await;
    for project in [json!(work), json!(format!("{work}/none")), Value::Null] {
        let body = json!({"project_dir": project});
        let (status, answer) = side.ask("POST", "/api/hooks", body).await;
        let stop = &answer["hook_config"]["stop"][0]["hooks"][0]["command"];
        side.note(format!(
            "hooks {status} {} {stop}",
            keys(&answer["hook_config"])
        ));
    }
}

/// Checks a repository in `work` with two commits and later changes.
pub(crate) async fn git(side: &mut Side) {
    let work = side.work.clone();
    let changes = |rest: &str| format!("/api/git/changes?path={work}{rest}");
    for rest in ["&ref=HEAD", "/../nowhere"] {
        let (status, mut changes) = side.ask("GET", &changes(rest), Value::Null).await;
        if let Some(list) = changes.as_array_mut() {
            list.sort_by_key(|change| change["path"].as_str().unwrap().to_owned());
        }
        side.note(format!("changes {status} {changes}"));
    }
    for file in ["kept.txt", "changed.txt", "new.txt", "gone.txt"] {
        let target = format!("/api/git/diff?path={work}/{file}&ref=HEAD");
        let (status, diff) = side.ask("GET", &target, Value::Null).await;
        // The real server rejects a missing file; other details differ.
        side.note(format!(
            "diff {file} {status} {} {}",
            diff["original"], diff["modified"]
        ));
    }
    let target = format!("/api/git/commits?path={work}");
    let (status, page) = side.ask("GET", &target, Value::Null).await;
    for commit in page["commits"].as_array().unwrap() {
        side.note(format!(
            "commit {} {} {}",
            commit["subject"],
            commit["author"],
            keys(commit)
        ));
    }
    side.note(format!("{status} {}", page["has_more"]));
    let (_, page) = side
        .ask("GET", &format!("{target}&limit=1"), Value::Null)
        .await;
    side.note(format!(
        "{} {}",
        page["commits"].as_array().unwrap().len(),
        page["has_more"]
    ));
    let sha = page["commits"][0]["sha"].as_str().unwrap().to_owned();
    let of = |sha: &str| format!("/api/git/commits/{sha}/changes?path={work}");
    let (status, changes) = side.ask("GET", &of(&sha), Value::Null).await;
    side.note(format!("of a commit {status} {changes}"));
    let (status, _) = side.ask("GET", &of("deadbeef"), Value::Null).await;
    side.note(format!("of none {status}"));
    let nowhere = format!("/api/git/commits/{sha}/changes?path={work}/../nowhere");
    let (status, changes) = side.ask("GET", &nowhere, Value::Null).await;
    side.note(format!("of nowhere {status} {changes}"));
    // The same for a conversation's workspace.
    let id = side.create(Value::Null).await;
    let own = format!("/api/conversations/{id}");
    for rest in [
        format!("git/commits/{sha}/changes?path={work}"),
        format!("git/commits?path={work}&limit=1"),
        format!("git/diff?path={work}/changed.txt&ref=HEAD"),
    ] {
        let (status, answer) = side.ask("GET", &format!("{own}/{rest}"), Value::Null).await;
        let sole = answer["commits"][0]["subject"].as_str();
        side.note(format!(
            "own {status} {}",
            sole.map_or(answer.to_string(), str::to_owned)
        ));
    }
    let delta = side
        .raw("GET", &format!("{own}/file/archive?path={work}"), "", b"")
        .await;
    let head =
        ["x-archive-repo-root", "x-archive-head-commit"].map(|name| delta.header(name).is_some());
    side.note(format!(
        "own archive {} {:?} {head:?}",
        delta.status,
        delta.header("content-type")
    ));
    for directory in [format!("{work}/made"), "/elsewhere".to_owned()] {
        let target = format!("{own}/file/create_directory?path={directory}");
        side.check("POST", &target, Value::Null).await;
    }
    for id in [id.as_str(), "00000000-0000-4000-8000-000000000000"] {
        let target = format!("/api/conversations/{id}/runtime/reprovision");
        side.check("POST", &target, Value::Null).await;
    }

    let both = format!("/api/git/diff?path={work}/kept.txt&ref=HEAD&commit={sha}");
    let (status, refusal) = side.ask("GET", &both, Value::Null).await;
    side.note(format!("both {status} {refusal}"));
    for rest in [
        "git/commits?path=/x&limit=0",
        "git/commits?path=/x&limit=201",
        "git/changes",
        "git/diff",
        "git/diff?path=/x&commit=xyz",
        "git/commits/xyz/changes?path=/x",
    ] {
        side.check("GET", &format!("/api/{rest}"), Value::Null)
            .await;
    }
}
