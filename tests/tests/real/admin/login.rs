//! The login to a subscription, with the vendor played on loopback.

use openhands::{
    admin::ErrorKind,
    protocol::{calls::profiles::Validation, config::Llm},
};

use super::{
    stage::{CANARY, Stage},
    vendor::Vendor,
};

pub(super) async fn the_server_logs_in(stage: &Stage, vendor: &Vendor) {
    let subscription = stage.admin.subscription();
    assert!(!subscription.status().await.unwrap().connected);
    let models = subscription.models().await.unwrap();
    let llm = || Llm::new(format!("openai/{}", models[0])).subscription("openai");
    let checked = stage.admin.profiles().validate("any", llm()).await.unwrap();
    assert!(!checked.is_valid(), "{checked:?}");

    let login = subscription.login().await.unwrap();
    assert_eq!(login.code(), vendor.code());
    assert_eq!(login.url(), "https://auth.openai.com/codex/device");
    assert!(!format!("{login:?}").contains(login.code()));
    assert!(!login.poll().await.unwrap().connected);
    // A logout ends the login; another one can begin.
    subscription.logout().await.unwrap();
    let error = login.poll().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginExpired, "{error}");
    let login = subscription.login().await.unwrap();
    let waiting = tokio::spawn(login.wait().into_future());
    vendor.polled().await;
    vendor.approve();
    let status = waiting.await.unwrap().unwrap();
    assert!(status.connected && status.expires_at.is_some());
    assert!(login.poll().await.unwrap().connected);
    let now = subscription.status().await.unwrap();
    assert_eq!((now.connected, now.expires_at), (true, status.expires_at));

    // The model uses the token of the login. The vendor's model rejects it.
    let checked = stage.admin.profiles().validate("any", llm()).await.unwrap();
    let Validation::Invalid { message, .. } = &checked else {
        panic!("{checked:?}")
    };
    assert!(!message.contains(CANARY), "{message}");
    assert!(vendor.model_was_asked(), "{checked:?}");

    assert!(!subscription.logout().await.unwrap().connected);
    assert!(!subscription.status().await.unwrap().connected);
    let error = login.poll().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginExpired, "{error}");

    vendor.fail();
    let error = subscription.login().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
}
