//! Models, connections and model profiles.

use openhands::{
    admin::ErrorKind,
    protocol::{
        calls::{
            connections::{CreateConnection, UpdateConnection},
            profiles::Validation,
            settings::Expose,
        },
        config::Llm,
    },
};

use super::stage::{CANARY, Stage};

pub(super) async fn the_catalogues_name_models(stage: &Stage) {
    let models = stage.admin.models();
    let providers = models.providers().await.unwrap();
    assert!(providers.iter().any(|name| name == "anthropic"));
    let verified = models.verified().await.unwrap();
    assert!(!verified["anthropic"].is_empty());
    let some = models.of_provider("anthropic").await.unwrap();
    let all = models.list().await.unwrap();
    assert!(!some.is_empty() && some.len() < all.len());
    assert!(some.iter().all(|name| all.contains(name)));
    let nobody = models.of_provider("no&body?").await.unwrap();
    assert!(nobody.is_empty());
}

pub(super) async fn a_connection_serves_profiles(stage: &Stage) {
    let (connections, profiles) = (stage.admin.connections(), stage.admin.profiles());
    let made = CreateConnection::new("Team", CANARY).base_url(stage.model.base_url());
    let made = connections.create(made).await.unwrap();
    assert_eq!((&*made.provider, made.api_key_set), ("custom", true));
    let listed = connections.list().await.unwrap();
    assert!(listed.contains(&made), "{listed:?}");

    // The profile has neither key nor URL; the connection has both.
    let llm = Llm::new("openai/scripted").provider_connection_id(&made.id);
    let checked = profiles.validate("shared", llm.clone()).await.unwrap();
    assert!(checked.is_valid(), "{checked:?}");
    profiles.save("shared", llm).await.unwrap();
    let list = profiles.list().await.unwrap().profiles;
    let shared = list.iter().find(|info| info.name == "shared").unwrap();
    assert_eq!(shared.provider_connection_id.as_deref(), Some(&*made.id));
    assert!(!shared.provider_connection_broken);
    let error = connections.delete(&made.id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("shared"), "{error}");

    let change = UpdateConnection::new(&made.id)
        .api_key(format!("{CANARY}-2"))
        .display_name("Team 2")
        .provider("openai")
        .base_url(None);
    let changed = connections.update(change).await.unwrap();
    assert_eq!(
        (&*changed.display_name, &changed.base_url),
        ("Team 2", &None)
    );
    let read = profiles.get("shared", Expose::Plain).await.unwrap();
    assert_eq!(read.config["api_key"], format!("{CANARY}-2"));

    profiles.delete("shared").await.unwrap();
    assert!(connections.delete(&made.id).await.unwrap());
    assert!(!connections.delete(&made.id).await.unwrap());
    let update = UpdateConnection::new(&made.id).provider("x");
    let error = connections.update(update).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let dangling = Llm::new("openai/m").provider_connection_id(&made.id);
    let error = profiles.validate("d", dangling).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
}

pub(super) async fn a_profile_lives(stage: &Stage) {
    let profiles = stage.admin.profiles();
    profiles.save("first.one", stage.llm()).await.unwrap();
    profiles
        .save("first.one", stage.llm().temperature(0.5))
        .await
        .unwrap();
    profiles.rename("first.one", "second").await.unwrap();
    let active = profiles.activate("second").await.unwrap();
    assert!(active.llm_applied && active.name == "second");
    let listed = profiles.list().await.unwrap();
    assert_eq!(listed.active_profile.as_deref(), Some("second"));
    profiles.rename("second", "third").await.unwrap();
    let listed = profiles.list().await.unwrap();
    assert_eq!(listed.active_profile.as_deref(), Some("third"));

    let masked = profiles.get("third", Expose::Masked).await.unwrap();
    assert!(masked.api_key_set && masked.config["api_key"].is_null());
    assert_eq!(masked.config["temperature"], 0.5);
    let plain = profiles.get("third", Expose::Plain).await.unwrap();
    assert_eq!(plain.config["api_key"], CANARY);
    assert!(!format!("{masked:?} {plain:?} {listed:?}").contains(CANARY));

    // An encrypted key can be sent back, and is the same key then.
    let sealed = profiles.get("third", Expose::Encrypted).await.unwrap();
    assert_ne!(sealed.config["api_key"], CANARY);
    let copy = Llm::from_json(sealed.config).unwrap();
    profiles.save("copy", copy).await.unwrap();
    let plain = profiles.get("copy", Expose::Plain).await.unwrap();
    assert_eq!(plain.config["api_key"], CANARY);

    let error = profiles.rename("copy", "third").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    for name in ["third", "copy"] {
        profiles.delete(name).await.unwrap();
        profiles.delete(name).await.unwrap();
        for error in [
            profiles.get(name, Expose::Masked).await.unwrap_err(),
            profiles.activate(name).await.unwrap_err(),
            profiles.rename(name, "other").await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
    }
    assert_eq!(profiles.list().await.unwrap().active_profile, None);
}

pub(super) async fn a_model_is_validated(stage: &Stage) {
    let profiles = stage.admin.profiles();
    let valid = profiles.validate("any", stage.llm()).await.unwrap();
    assert_eq!(valid, Validation::Valid);
    // Port 9 of this machine has no listener.
    let nowhere = stage.llm().base_url("http://127.0.0.1:9/v1");
    let Validation::Invalid { kind, message } = profiles.validate("any", nowhere).await.unwrap()
    else {
        panic!("a model without a server is valid")
    };
    assert!(!kind.is_empty() && !message.is_empty());
    assert!(!message.contains(CANARY), "{message}");
    let strange = Llm::new("no-such-provider/m").api_key(CANARY);
    let invalid = profiles.validate("any", strange).await.unwrap();
    assert!(!invalid.is_valid() && !format!("{invalid:?}").contains(CANARY));
}

pub(super) async fn values_are_rejected(stage: &Stage) {
    let (connections, profiles) = (stage.admin.connections(), stage.admin.profiles());
    // Rejected by the server.
    for error in [
        profiles.save("-", Llm::new("m")).await.unwrap_err(),
        profiles
            .save("x".repeat(65), Llm::new("m"))
            .await
            .unwrap_err(),
        profiles.save("a b", Llm::new("m")).await.unwrap_err(),
        profiles.save("a\u{e9}", Llm::new("m")).await.unwrap_err(),
        profiles
            .save("a", Llm::new("m").set("temperature", "hot"))
            .await
            .unwrap_err(),
        profiles.rename("a", "b c").await.unwrap_err(),
        connections
            .create(CreateConnection::new("", CANARY))
            .await
            .unwrap_err(),
        connections
            .create(CreateConnection::new("x".repeat(129), CANARY))
            .await
            .unwrap_err(),
        connections
            .create(CreateConnection::new("a", CANARY).provider(""))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
        assert!(!format!("{error} {error:?}").contains(CANARY));
    }
    // Rejected before anything is sent.
    let mask = "**********";
    for error in [
        profiles
            .save("a", Llm::new("m").api_key(mask))
            .await
            .unwrap_err(),
        profiles
            .validate("a", Llm::new("m").api_key(mask))
            .await
            .unwrap_err(),
        connections
            .create(CreateConnection::new("a", mask))
            .await
            .unwrap_err(),
        connections
            .update(UpdateConnection::new("a").api_key(mask))
            .await
            .unwrap_err(),
        profiles
            .get("../settings", Expose::Masked)
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}
