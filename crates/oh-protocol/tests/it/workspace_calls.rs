//! Tests for the requests of commands, files, git and VSCode.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use oh_protocol::{
    Answer, Call, ConversationId, ErrorKind, Repeat,
    calls::{
        Scope,
        bash::{self, BashEvent, ExecuteRequest},
        files::{self, ArchiveFormat, ArchiveInfo},
        git, vscode,
    },
};

const ID: &str = "11111111-2222-3333-4444-555555555555";

fn conversation() -> ConversationId {
    ID.parse().unwrap()
}

/// Returns the method, route and target of a call.
fn shape(call: &impl Call) -> (String, String) {
    let (operation, request) = (call.operation(), call.request().unwrap());
    assert_eq!(operation.method, request.method);
    (
        format!("{} {}", operation.method, operation.route),
        request.target,
    )
}

fn refused(call: &impl Call) {
    assert_eq!(call.request().unwrap_err().kind(), ErrorKind::InvalidInput);
}

fn answer(body: &str) -> Answer {
    Answer::new(StatusCode::OK, HeaderMap::new(), body.to_owned().into())
}

/// Asserts both forms of a scoped call: for the server and for a conversation.
macro_rules! both {
    ($call:expr, $method:literal, $route:literal, $target:expr) => {{
        let (route, target) = shape(&$call);
        assert_eq!(route, concat!($method, " /api", $route));
        assert_eq!(target, format!("/api{}", $target));
        let (route, target) = shape(&$call.scope(conversation()));
        let prefix = concat!(
            $method,
            " /api/conversations/{runtime_conversation_id}",
            $route
        );
        assert_eq!(route, prefix);
        assert_eq!(target, format!("/api/conversations/{ID}{}", $target));
    }};
}

#[test]
fn calls_for_commands_have_the_servers_form() {
    let request = || {
        ExecuteRequest::new("ls")
            .cwd("/w")
            .timeout(Duration::from_secs(3))
    };
    both!(
        bash::StartCommand::new(request()),
        "POST",
        "/bash/start_bash_command",
        "/bash/start_bash_command"
    );
    both!(
        bash::Execute::new(request()),
        "POST",
        "/bash/execute_bash_command",
        "/bash/execute_bash_command"
    );
    both!(
        bash::StopCommand::new("ab"),
        "POST",
        "/bash/bash_commands/{command_id}/stop",
        "/bash/bash_commands/ab/stop"
    );
    assert_eq!(
        bash::StartCommand::new(request()).operation().repeat,
        Repeat::Never
    );
    assert_eq!(
        bash::Execute::new(request()).operation().repeat,
        Repeat::Never
    );
    assert_eq!(
        bash::StopCommand::new("ab").operation().repeat,
        Repeat::Idempotent
    );
    let body = bash::StartCommand::new(request())
        .request()
        .unwrap()
        .body
        .unwrap();
    assert_eq!(body, r#"{"command":"ls","cwd":"/w","timeout":3}"#);
    refused(&bash::StartCommand::new(ExecuteRequest::new("a\0b")));
    refused(&bash::Execute::new(
        ExecuteRequest::new("a").timeout(Duration::ZERO),
    ));
}

#[test]
fn calls_for_the_history_have_the_servers_form() {
    both!(
        bash::SearchEvents::new(),
        "GET",
        "/bash/bash_events/search",
        "/bash/bash_events/search?limit=100&sort_order=TIMESTAMP"
    );
    let search = bash::SearchEvents::new()
        .kind("BashCommand")
        .command("ab")
        .since("2026-01-02T03:04:05+02:00")
        .until("2027")
        .page_id("p")
        .limit(7)
        .descending();
    assert_eq!(
        search.request().unwrap().target,
        "/api/bash/bash_events/search?limit=7&kind__eq=BashCommand&command_id__eq=ab\
         &timestamp__gte=2026-01-02T03%3A04%3A05%2B02%3A00&timestamp__lt=2027&page_id=p\
         &sort_order=TIMESTAMP_DESC"
    );
    refused(&bash::SearchEvents::new().limit(0));
    refused(&bash::SearchOutput::new("ab").limit(101));
    both!(
        bash::GetEvent::new("a/b"),
        "GET",
        "/bash/bash_events/{event_id}",
        "/bash/bash_events/a%2Fb"
    );
    both!(
        bash::BatchEvents::new(["a", "b"]),
        "GET",
        "/bash/bash_events/",
        "/bash/bash_events/"
    );
    both!(
        bash::ClearEvents::new(),
        "DELETE",
        "/bash/bash_events",
        "/bash/bash_events"
    );
    let body = bash::BatchEvents::new(["a", "b"]).request().unwrap().body;
    assert_eq!(body.unwrap(), r#"["a","b"]"#);
    let cleared = bash::ClearEvents::new().decode(answer(r#"{"cleared_count":4}"#));
    assert_eq!(cleared.unwrap(), 4);
}

#[test]
fn an_event_of_the_history_is_never_lost() {
    let page = r#"{"items":[
        {"kind":"BashCommand","id":"1","timestamp":"t","command":"ls","cwd":null,"timeout":9,"new":1},
        {"kind":"BashOutput","id":"2","command_id":"1","order":0,"exit_code":null,"stdout":"x"},
        {"kind":"BashOutput","id":"3"},
        {"kind":"BashPause","id":"4"},
        {"id":"5"}],"next_page_id":null}"#;
    let page = bash::SearchEvents::new().decode(answer(page)).unwrap();
    let kinds = page.items.iter().map(|event| match event {
        BashEvent::Command(command) => format!("command {}", command.command),
        BashEvent::Output(output) => format!("output {:?}", output.stdout),
        BashEvent::Unknown(value) => format!("unknown {}", value["id"]),
        other => format!("{other:?}"),
    });
    let kinds: Vec<_> = kinds.collect();
    let expected = [
        "command ls",
        "output Some(\"x\")",
        "unknown \"3\"",
        "unknown \"4\"",
        "unknown \"5\"",
    ];
    assert_eq!(kinds, expected);
    let batch = bash::BatchEvents::new(["1", "2"])
        .decode(answer(r#"[null,{"kind":"BashError","code":"c"}]"#));
    assert!(
        matches!(&batch.unwrap()[..], [None, Some(BashEvent::Error(error))] if error.code == "c")
    );
}

#[test]
fn calls_for_files_have_the_servers_form() {
    both!(
        files::Download::new("/a b&c"),
        "GET",
        "/file/download",
        "/file/download?path=%2Fa+b%26c"
    );
    both!(
        files::CreateDirectory::new(r"C:\a"),
        "POST",
        "/file/create_directory",
        "/file/create_directory?path=C%3A%5Ca"
    );
    let archive = || {
        files::Archive::new("/w", ArchiveFormat::TarGz)
            .base_ref("v1")
            .exclude("*.o")
            .exclude("x")
            .default_excludes(false)
    };
    both!(
        archive(),
        "GET",
        "/file/archive",
        "/file/archive?path=%2Fw&format=tar.gz&base_ref=v1&use_default_excludes=false&exclude=*.o&exclude=x"
    );
    both!(
        files::Trajectory::new(conversation()),
        "GET",
        "/file/download-trajectory/{conversation_id}",
        format!("/file/download-trajectory/{ID}")
    );
    let home = shape(&files::GetHome::new().include_hidden(true));
    assert_eq!(
        home,
        (
            "GET /api/file/home".into(),
            "/api/file/home?include_hidden=true".into()
        )
    );
    let search = files::SearchSubdirs::new("/w").page_id("p").limit(3);
    assert_eq!(
        shape(&search).1,
        "/api/file/search_subdirs?path=%2Fw&limit=3&page_id=p"
    );
    let file = files::StaticFile::new(conversation(), "/a/b c/ü.html");
    assert_eq!(
        shape(&file).1,
        format!("/api/conversations/{ID}/workspace/a/b%20c/%C3%BC.html")
    );
    refused(&files::StaticFile::new(conversation(), "a/../b"));
    refused(&files::Download::new(""));
    refused(&files::Download::new("/a\0"));
    refused(&files::CreateDirectory::new(""));
    refused(&files::Upload::new("", "x"));
    refused(&files::Archive::new("/w", ArchiveFormat::GitDelta).base_ref("--output=/x"));
    refused(&files::SearchSubdirs::new("/w").limit(101));
}

#[test]
fn an_upload_is_a_form_with_one_file() {
    both!(
        files::Upload::new("/f", "x"),
        "POST",
        "/file/upload",
        "/file/upload?path=%2Ff"
    );
    let upload = files::Upload::new("/f", "content");
    let (request, parts) = (upload.request().unwrap(), upload.parts().unwrap());
    let whole = [&parts.before[..], b"content", &parts.after].concat();
    assert_eq!(request.body.unwrap(), whole);
    let content_type = request.headers["content-type"].to_str().unwrap();
    let boundary = content_type
        .strip_prefix("multipart/form-data; boundary=")
        .unwrap();
    let text = String::from_utf8(whole).unwrap();
    assert!(text.starts_with(&format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\""
    )));
    assert!(text.ends_with(&format!("\r\n--{boundary}--\r\n")));
    assert_ne!(
        files::Upload::new("/f", "x").parts().unwrap().before,
        parts.before
    );
}

#[test]
fn a_download_resumes_at_its_position() {
    let request = files::Download::new("/f")
        .resume(10, "\"tag\"")
        .request()
        .unwrap();
    assert_eq!(request.headers["range"], "bytes=10-");
    assert_eq!(request.headers["if-range"], "\"tag\"");
    assert!(
        files::Download::new("/f")
            .request()
            .unwrap()
            .headers
            .is_empty()
    );
}

#[test]
fn headers_of_an_archive_are_decoded() {
    let mut headers = HeaderMap::new();
    headers.insert("x-archive-repo-root", "%2Fw%2Fa%2Bb%20c".parse().unwrap());
    headers.insert("x-archive-branch", "a+b".parse().unwrap());
    let info = ArchiveInfo::from_headers(&headers);
    assert_eq!(info.repo_root.as_deref(), Some("/w/a+b c"));
    assert_eq!(info.branch.as_deref(), Some("a+b"));
    assert_eq!(info.base_commit, None);
}

#[test]
fn calls_for_git_have_the_servers_form() {
    both!(
        git::Changes::new("/w").against("HEAD"),
        "GET",
        "/git/changes",
        "/git/changes?path=%2Fw&ref=HEAD"
    );
    both!(
        git::Diff::new("/w/f").commit("abcd"),
        "GET",
        "/git/diff",
        "/git/diff?path=%2Fw%2Ff&commit=abcd"
    );
    both!(
        git::Commits::new("/w"),
        "GET",
        "/git/commits",
        "/git/commits?path=%2Fw&limit=50"
    );
    both!(
        git::CommitChanges::new("/w", "abcd"),
        "GET",
        "/git/commits/{sha}/changes",
        "/git/commits/abcd/changes?path=%2Fw"
    );
    let search = git::SearchRepositories::new("github")
        .query("x")
        .page_id("2");
    assert_eq!(
        shape(&search).1,
        "/api/git/repositories/search?provider=github&limit=100&query=x&page_id=2"
    );
    refused(&git::Changes::new("/w").against("--output=x"));
    refused(&git::Changes::new("/w").against(""));
    refused(&git::Diff::new("/w").against("a").commit("abcd"));
    refused(&git::Diff::new("/w").commit("HEAD"));
    refused(&git::CommitChanges::new("/w", "../abcd"));
    refused(&git::Commits::new("/w").limit(201));
    let changes = git::Changes::new("/w")
        .decode(answer(
            r#"[{"status":"COPIED","path":"a"},{"status":"MOVED","path":"b"}]"#,
        ))
        .unwrap();
    assert_eq!(changes[0].status.as_str(), "COPIED");
    assert_eq!(changes[1].status, git::ChangeStatus::Moved);
}

#[test]
fn calls_for_vscode_have_the_servers_form() {
    both!(
        vscode::GetUrl::new()
            .base_url("https://x")
            .workspace_dir("/w"),
        "GET",
        "/vscode/url",
        "/vscode/url?base_url=https%3A%2F%2Fx&workspace_dir=%2Fw"
    );
    both!(
        vscode::GetStatus::new(),
        "GET",
        "/vscode/status",
        "/vscode/status"
    );
    let url = |body| vscode::GetUrl::new().decode(answer(body)).unwrap();
    assert!(url(r#"{"url":null}"#).is_none());
    let url = url(r#"{"url":"https://h/?tkn=canary"}"#);
    assert!(url.is_some() && !format!("{url:?}").contains("canary"));
    assert_eq!(
        Scope::from(conversation()).conversation(),
        Some(conversation())
    );
}

#[test]
fn a_download_distinguishes_the_rest_of_a_file_from_the_whole() {
    let call = files::Download::new("/a").resume(3, "\"e\"");
    let answer = |status| Answer::new(status, HeaderMap::new(), Bytes::from("canary"));
    let rest = call.decode(answer(StatusCode::PARTIAL_CONTENT)).unwrap();
    assert!(matches!(&rest, files::Downloaded::Rest(bytes) if bytes == "canary"));
    let whole = call.decode(answer(StatusCode::OK)).unwrap();
    assert!(matches!(&whole, files::Downloaded::Whole(bytes) if bytes == "canary"));
    assert_eq!(
        format!("{rest:?} {whole:?}"),
        "Rest(6 bytes) Whole(6 bytes)"
    );
}

#[test]
fn contents_and_command_lines_are_not_in_debug_output() {
    let request = || ExecuteRequest::new("echo canary");
    let command = r#"{"kind":"BashCommand","id":"1","command":"canary"}"#;
    let output =
        r#"{"kind":"BashOutput","id":"2","command_id":"1","stdout":"canary","stderr":"canary"}"#;
    let unknown = r#"{"kind":"BashNew","line":"canary"}"#;
    let events = [command, output, unknown].map(|json| BashEvent::from_json(json.as_bytes()));
    let shown = format!(
        "{:?} {:?} {:?} {:?} {events:?} {:?}",
        files::Upload::new("/a", "API_KEY=canary"),
        request(),
        bash::StartCommand::new(request()),
        bash::Execute::new(request()),
        oh_protocol::calls::skills::Install::new("https://u:canary@host/x"),
    );
    assert!(!shown.contains("canary"), "{shown}");
    // The original JSON is available when serialized.
    for (event, json) in events.into_iter().zip([command, output, unknown]) {
        let written: serde_json::Value = serde_json::to_value(event.unwrap()).unwrap();
        let came: serde_json::Value = serde_json::from_str(json).unwrap();
        for (key, value) in came.as_object().unwrap() {
            assert_eq!(written[key], *value, "{json}");
        }
    }
}

#[test]
fn percent_signs_and_ampersands_in_names_are_kept() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-archive-base-ref", "feature/a&b%41+c"),
        ("x-archive-branch", "feature/a%26b+c%2541"),
        ("x-archive-repo-remote", "100%"),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    let info = ArchiveInfo::from_headers(&headers);
    assert_eq!(info.base_ref.as_deref(), Some("feature/a&b%41+c"));
    assert_eq!(info.branch.as_deref(), Some("feature/a&b+c%41"));
    assert_eq!(info.repo_remote.as_deref(), Some("100%"));
}
