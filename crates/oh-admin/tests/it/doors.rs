//! The gateway for clients of OpenAI's API, and cookies for workspace pages.

use oh_admin::{Admin, ErrorKind, Gateway};
use oh_protocol::calls::{files::StaticFile, settings::GetSettings};
use oh_testkit::Mock;
use oh_transport::Client;
use secrecy::{ExposeSecret as _, SecretString};

#[tokio::test]
async fn the_gateway_has_the_key_and_url_of_the_client() {
    let key = SecretString::from("canary");
    let client = Client::builder("http://host:1/prefix/").session_api_key(key);
    let admin = Admin::of(&client.build().unwrap());
    let gateway = admin.gateway().await.unwrap();
    assert_eq!(gateway.base_url().path(), "/prefix/v1");
    assert_eq!(gateway.key().unwrap().expose_secret(), "canary");
    let (bearer, key) = (gateway.bearer().unwrap(), gateway.key_header().unwrap());
    assert_eq!(
        (&bearer, &key),
        (
            &"Bearer canary".parse().unwrap(),
            &"canary".parse().unwrap()
        )
    );
    assert_eq!(Gateway::KEY_HEADER, "x-session-api-key");
    let shown = format!("{gateway:?} {bearer:?} {key:?}");
    assert!(!shown.contains("canary"), "{shown}");

    let open = Client::builder("http://host").build().unwrap();
    let gateway = Admin::of(&open).gateway().await.unwrap();
    assert_eq!(gateway.base_url().as_str(), "http://host/v1");
    assert!(gateway.key().is_none() && gateway.bearer().is_none());
}

#[tokio::test]
async fn a_response_without_a_cookie_is_an_error() {
    let mock = Mock::new();
    let pages = Admin::of(&mock.client()).workspace_pages();
    mock.expect("POST", "/api/auth/workspace-session")
        .answer(204, serde_json::Value::Null);
    let error = pages.open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    mock.verify().unwrap();
}

#[tokio::test]
async fn a_browser_loads_pages_with_the_cookie_only() {
    let (server, admin) = crate::server().await;
    let conversation = server.create();
    server
        .write_file("/fake/page.html", "<p>A page.</p>")
        .unwrap();
    let page = StaticFile::new(conversation.id(), "page.html");
    let browser = |cookie: http::HeaderValue| {
        let client = Client::builder(server.url()).header("cookie", cookie.to_str().unwrap());
        client.build().unwrap()
    };
    let pages = admin.workspace_pages();
    let client = browser(pages.open().await.unwrap().cookie());
    assert_eq!(&client.call(&page).await.unwrap()[..], b"<p>A page.</p>");
    let refused = client.call(&GetSettings::default()).await.unwrap_err();
    assert_eq!(refused.kind(), oh_transport::ErrorKind::Unauthorized);
    let empty = pages.close().await.unwrap().cookie();
    let refused = browser(empty).call(&page).await.unwrap_err();
    assert_eq!(refused.kind(), oh_transport::ErrorKind::Unauthorized);
}
