//! Models and keys on the fake server.

use oh_admin::{Admin, ErrorKind};
use oh_protocol::{
    calls::{
        connections::{CreateConnection, UpdateConnection},
        settings::Expose,
    },
    config::Llm,
};
use oh_testkit::{Fault, Mock};
use serde_json::json;

use crate::{MASK, server};

#[tokio::test]
async fn a_connection_is_shared_by_profiles_until_nothing_refers_to_it() {
    let (_server, admin) = server().await;
    let connections = admin.connections();
    let made = CreateConnection::new("Team", "canary").base_url("http://model/v1");
    let made = connections.create(made).await.unwrap();
    assert!(made.api_key_set && made.provider == "custom" && made.created_at > 0);
    let change = UpdateConnection::new(&made.id)
        .base_url(None)
        .display_name("Team 2");
    let changed = connections.update(change).await.unwrap();
    assert_eq!((&*changed.display_name, changed.base_url), ("Team 2", None));

    let llm = Llm::new("m").provider_connection_id(&made.id);
    admin.profiles().save("fast", llm.clone()).await.unwrap();
    let listed = admin.profiles().list().await.unwrap();
    assert!(listed.profiles[0].api_key_set && !listed.profiles[0].provider_connection_broken);
    let error = connections.delete(&made.id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("fast"), "{error}");
    admin.profiles().delete("fast").await.unwrap();
    assert!(connections.delete(&made.id).await.unwrap());
    assert!(!connections.delete(&made.id).await.unwrap());
    assert!(connections.list().await.unwrap().is_empty());

    let error = admin.profiles().validate("fast", llm).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
}

#[tokio::test]
async fn a_profile_is_saved_renamed_activated_and_deleted() {
    let (_server, admin) = server().await;
    let profiles = admin.profiles();
    let llm = Llm::new("m").api_key("canary");
    assert!(
        profiles
            .validate("a", llm.clone())
            .await
            .unwrap()
            .is_valid()
    );
    profiles.save("a", llm).await.unwrap();
    profiles.rename("a", "b").await.unwrap();
    assert!(profiles.activate("b").await.unwrap().llm_applied);
    let listed = profiles.list().await.unwrap();
    assert_eq!(listed.active_profile.as_deref(), Some("b"));
    let read = profiles.get("b", Expose::Masked).await.unwrap();
    assert!(read.api_key_set && read.config["api_key"].is_null());
    for error in [
        profiles.rename("a", "c").await.unwrap_err(),
        profiles.activate("a").await.unwrap_err(),
        profiles.get("a", Expose::Plain).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("`a`"), "{error}");
    }
    profiles.save("c", Llm::new("m")).await.unwrap();
    let error = profiles.rename("c", "b").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    profiles.delete("b").await.unwrap();
    profiles.delete("b").await.unwrap();
    assert_eq!(profiles.list().await.unwrap().active_profile, None);
}

#[tokio::test]
async fn invalid_values_and_masks_are_never_sent() {
    let (server, admin) = server().await;
    let (connections, profiles) = (admin.connections(), admin.profiles());
    let masked = || Llm::new("m").api_key(MASK);
    let create = |key: &str| connections.create(CreateConnection::new("a", key));
    let update = |key: &str| connections.update(UpdateConnection::new("a").api_key(key));
    for error in [
        create(MASK).await.unwrap_err(),
        create(" ").await.unwrap_err(),
        update(MASK).await.unwrap_err(),
        update("").await.unwrap_err(),
        connections
            .update(UpdateConnection::new("a"))
            .await
            .unwrap_err(),
        connections
            .update(UpdateConnection::new("..").provider("p"))
            .await
            .unwrap_err(),
        connections.delete("a/b").await.unwrap_err(),
        profiles.save("a", masked()).await.unwrap_err(),
        profiles.validate("a", masked()).await.unwrap_err(),
        profiles.save("", Llm::new("m")).await.unwrap_err(),
        profiles
            .save("a", Llm::new("m").set("future_key", MASK))
            .await
            .unwrap_err(),
        profiles.get("..", Expose::Masked).await.unwrap_err(),
        profiles.rename("a/b", "c").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert!(server.requests().is_empty(), "{:?}", server.requests());
}

#[tokio::test]
async fn no_key_is_shown() {
    let key = || CreateConnection::new("a", "canary").base_url("http://u:canary@h/");
    let change = UpdateConnection::new("a")
        .api_key("canary")
        .base_url("http://u:canary@h/");
    assert!(!format!("{:?} {change:?}", key()).contains("canary"));
    let (server, admin) = server().await;
    server.refuse();
    let error = admin.connections().create(key()).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"));
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_connection_is_created_at_most_once() {
    let (server, admin) = server().await;
    server.inject(Fault::lost_answer());
    let made = admin
        .connections()
        .create(CreateConnection::new("a", "key"));
    let error = made.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    server.heal();
    assert_eq!(admin.connections().list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn futures_can_be_moved_into_tasks() {
    let (_server, admin) = server().await;
    let listed = tokio::spawn(admin.models().providers()).await.unwrap();
    assert!(listed.unwrap().contains(&"anthropic".to_owned()));
    let some = admin.models().of_provider("openai").await.unwrap();
    let all = admin.models().list().await.unwrap();
    assert!(some.iter().all(|model| all.contains(model)) && some.len() < all.len());
    assert!(
        admin
            .models()
            .of_provider("nobody")
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        admin
            .models()
            .verified()
            .await
            .unwrap()
            .contains_key("openai")
    );
}

#[tokio::test]
async fn a_missing_operation_differs_from_a_missing_name() {
    let mock = Mock::new();
    let admin = Admin::of(&mock.client());
    for (status, detail, kind) in [
        (404, "Not Found", ErrorKind::Unsupported),
        (405, "Method Not Allowed", ErrorKind::Unsupported),
        (404, "Profile 'a' not found", ErrorKind::NotFound),
        (409, "Profile limit reached", ErrorKind::Conflict),
        (422, "Secret value must not be empty", ErrorKind::Validation),
    ] {
        let expected = mock.expect("POST", "/api/profiles/a/rename");
        expected.answer(status, json!({"detail": detail}));
        let error = admin.profiles().rename("a", "b").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let message = error.to_string();
        assert!(
            message.starts_with("cannot rename the profile `a`: "),
            "{message}"
        );
        assert!(message.contains(detail), "{message}");
    }
    mock.verify().unwrap();
}
