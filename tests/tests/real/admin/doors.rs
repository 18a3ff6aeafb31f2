//! The gateway for clients of OpenAI's API, and cookies for workspace pages.

use openhands::{
    Agent, Client, Conversation, LocalServer, WorkspaceExt as _,
    protocol::calls::{Any, files::StaticFile, settings::GetSettings},
    transport::ErrorKind,
};
use serde_json::json;
use tempfile::TempDir;

use super::stage::Stage;

pub(super) async fn a_client_of_openai_runs_an_agent(stage: &Stage) {
    let name = "of-gateway";
    stage
        .admin
        .profiles()
        .save(name, stage.llm())
        .await
        .unwrap();
    let gateway = stage.admin.gateway().await.unwrap();
    // The header with the key is the one that this client sends.
    let key = gateway.key().unwrap().clone();
    let client = Client::builder(gateway.base_url().as_str()).session_api_key(key);
    let client = client.build().unwrap();
    let models = client.call(&Any::get("/models")).await.unwrap().to_value();
    let id = format!("openhands_{name}");
    let listed = models["data"].as_array().unwrap();
    assert!(listed.iter().any(|model| model["id"] == *id), "{models}");

    // A client as foreign programs have one: it only has the URL and the bearer token.
    let foreign = |bearer: &str| {
        let client = Client::builder(gateway.base_url().as_str());
        client.header("authorization", bearer).build().unwrap()
    };
    let client = foreign(gateway.bearer().unwrap().to_str().unwrap());
    let ask = |model: &str| {
        let message = json!({"role": "user", "content": "Hello?"});
        let body = json!({"model": model, "messages": [message]});
        Any::post("/chat/completions").body(&body).unwrap()
    };
    let answer = client.call(&ask(&id)).await.unwrap().to_value();
    let said = &answer["choices"][0]["message"]["content"];
    assert_eq!(said, "Hello.", "{answer}");
    let error = client.call(&ask("none")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let wrong = foreign("Bearer wrong");
    let error = wrong.call(&Any::get("/models")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    stage.admin.profiles().delete(name).await.unwrap();
}

pub(super) async fn a_browser_loads_a_page(stage: &Stage, server: &LocalServer, home: &TempDir) {
    let directory = home.path().join("of-pages");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("page.html"), "<p>A page.</p>").unwrap();
    let workspace = server.workspace(directory.display().to_string());
    let conversation = Conversation::builder(&workspace, Agent::new(stage.llm()))
        .start()
        .await
        .unwrap();
    let page = StaticFile::new(conversation.id(), "page.html");

    let pages = stage.admin.workspace_pages();
    let cookie = pages.open().await.unwrap();
    let attributes = cookie.set_cookie().to_str().unwrap();
    assert!(attributes.contains("HttpOnly"), "no `HttpOnly`");
    let browser = |cookie: http::HeaderValue| {
        let client = Client::builder(server.url().as_str());
        let client = client.header("cookie", cookie.to_str().unwrap());
        client.build().unwrap()
    };
    let client = browser(cookie.cookie());
    let loaded = client.call(&page).await.unwrap();
    assert_eq!(&loaded[..], b"<p>A page.</p>");
    // The cookie is for pages only.
    let error = client.call(&GetSettings::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");

    let empty = pages.close().await.unwrap();
    let expired = empty.set_cookie().to_str().unwrap();
    assert!(expired.contains("Max-Age=0"), "the cookie does not expire");
    let error = browser(empty.cookie()).call(&page).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    conversation.delete().await.unwrap();
}
