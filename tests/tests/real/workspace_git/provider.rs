//! Repositories of a provider: a GitHub stand-in on loopback, behind the proxy that the server is
//! configured with.

use openhands::{
    LocalServer, Workspace,
    protocol::{Request, calls::git::SearchRepositories},
    transport::Body,
    workspace::ErrorKind,
};
use openhands_tests::{Answer, StandIn, header};
use serde_json::json;
use tempfile::TempDir;

const TOKEN: &str = "canary-of-the-provider";

/// Starts the part of GitHub that the server uses, for requests with the token.
pub(super) async fn start(home: &TempDir) -> StandIn {
    StandIn::start(home, &["api.github.com"], answer).await
}

/// Returns three repositories on two pages, if the request has the token.
fn answer(head: &str) -> Answer {
    let authorized = header(head, "authorization") == Some(&*format!("Bearer {TOKEN}"));
    if !authorized || !head.starts_with("GET /user/repos?") {
        return Answer::new("401 Unauthorized", json!({"message": "Bad credentials"}));
    }
    let one = |id: u32, name: &str, private: bool| {
        json!({"id": id, "full_name": name, "private": private, "stargazers_count": 7,
               "pushed_at": "2026-01-02T03:04:05Z", "default_branch": "main"})
    };
    if head.contains("&page=2&") {
        return Answer::new("200 OK", json!([one(3, "ada/engine", true)]));
    }
    let first = json!([one(1, "ada/notes", false), one(2, "ada/letters", false)]);
    Answer::new("200 OK", first)
        .header("Link: <https://api.github.com/user/repos?page=2>; rel=\"next\"")
}

async fn keep(server: &LocalServer, token: &str) {
    let mut kept = Request::new(http::Method::PUT, "/api/settings/secrets")
        .json(&json!({"name": "GITHUB_TOKEN", "value": token}))
        .unwrap();
    let json = http::HeaderValue::from_static("application/json");
    kept.headers.insert(http::header::CONTENT_TYPE, json);
    let body = Body::from(kept.body.take().unwrap());
    let answer = server.client().stream(kept, body).await.unwrap();
    server.client().accepted(answer).await.unwrap();
}

pub(super) async fn repositories_are_searched(server: &LocalServer, workspace: &Workspace) {
    let search = || SearchRepositories::new("github");
    let none = workspace.search_repositories(search()).await.unwrap();
    assert!(none.missing_token && none.items.is_empty(), "{none:?}");

    keep(server, "canary-of-another").await;
    let refused = workspace.search_repositories(search()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused:?}");

    keep(server, TOKEN).await;
    let first = workspace.search_repositories(search()).await.unwrap();
    let [notes, letters] = &first.items[..] else {
        panic!("{first:?}")
    };
    assert_eq!((&*notes.full_name, &*notes.id), ("ada/notes", "1"));
    assert_eq!(letters.main_branch.as_deref(), Some("main"));
    assert_eq!((notes.is_public, notes.stargazers_count), (true, Some(7)));
    assert_eq!(notes.git_provider, "github");
    assert!(notes.pushed_at.is_some() && !first.missing_token);
    let next = first.next_page_id.unwrap();
    let last = search().page_id(next);
    let last = workspace.search_repositories(last).await.unwrap();
    assert_eq!(last.items[0].full_name, "ada/engine");
    assert_eq!((last.items.len(), last.next_page_id), (1, None));
    // A page with a different size ends within one of the provider's pages.
    let one = workspace.search_repositories(search().limit(1)).await;
    let second = search()
        .limit(1)
        .page_id(one.unwrap().next_page_id.unwrap());
    let second = workspace.search_repositories(second).await.unwrap();
    assert_eq!(second.items[0].full_name, "ada/letters");
    // The searched repository may be on any page.
    let named = workspace
        .search_repositories(search().query("ENGINE"))
        .await;
    assert_eq!(named.unwrap().items[0].full_name, "ada/engine");

    for wrong in [
        search().page_id("junk"),
        SearchRepositories::new("bitbucket"),
        SearchRepositories::new("junk"),
        search().limit(0),
    ] {
        let error = workspace.search_repositories(wrong).await.unwrap_err();
        let kinds = [ErrorKind::InvalidInput, ErrorKind::Validation];
        assert!(kinds.contains(&error.kind()), "{error:?}");
        assert!(!format!("{error:?}").contains("canary"));
    }
}
