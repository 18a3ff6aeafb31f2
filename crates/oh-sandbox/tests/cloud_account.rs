//! The account of a fake OpenHands Cloud: login, lookups, the server of one's own sandbox, and the
//! other calls of its API.

use std::time::Duration;

use http::Method;
use oh_protocol::calls::Any;
use oh_sandbox::{
    Cloud, CloudServer, DeviceLogin, ErrorKind, GitSearch, InsideSandbox, TokenStore,
    secrecy::SecretString,
};
use oh_testkit::{FakeServer, Fault, hosted::FakeCloud};
use serde_json::json;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const SOON: Duration = Duration::from_millis(5);
const TOKEN: &str = "/oauth/device/token";

fn api(cloud: &FakeCloud) -> Result<Cloud, oh_sandbox::Error> {
    Cloud::builder(cloud.api_key()).url(cloud.url()).build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_waits_for_its_user_and_its_token_is_a_key() -> Outcome {
    let cloud = FakeCloud::start().await?;
    cloud.login_answers(&[
        "authorization_pending",
        "slow_down",
        "authorization_pending",
    ]);
    let login = DeviceLogin::builder().url(cloud.url()).start().await?;
    assert_eq!(login.user_code(), "FAKE-CODE");
    assert!(login.verification_url().as_str().starts_with(&cloud.url()));
    let complete = login.complete_url().query().unwrap_or_default();
    assert_eq!(complete, "user_code=FAKE-CODE");
    assert!(login.valid_for() > Duration::from_secs(500));
    assert!(!format!("{login:?}").contains("fake-device-code"));

    // A service that is being restarted is asked again.
    cloud.inject(Fault::status(503).on(TOKEN).times(1));
    let token = tokio::spawn(login.wait()).await??;
    assert_eq!(cloud.requests_to("POST", TOKEN).len(), 5);
    assert!(!token.is_expired() && token.expires_at().is_some());

    let place = tempfile::tempdir()?;
    let store = TokenStore::at(place.path());
    store.save(login.service_url(), &token)?;
    let stored = store.load(&cloud.url())?.ok_or("the token is stored")?;
    let cloud = Cloud::builder(stored).url(cloud.url()).build()?;
    assert!(cloud.sandboxes().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_login_without_a_token_is_typed() -> Outcome {
    let cloud = FakeCloud::start().await?;
    let login = || DeviceLogin::builder().url(cloud.url()).start();
    for (answer, kind) in [
        ("expired_token", ErrorKind::LoginExpired),
        ("access_denied", ErrorKind::Forbidden),
        ("invalid_client", ErrorKind::Validation),
    ] {
        cloud.login_answers(&["authorization_pending", answer]);
        let error = login().await?.wait().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    // The first request would be after the end of the code, so none is sent.
    cloud.login_answers(&[]);
    cloud.login_interval(30.0);
    cloud.login_valid_for(20);
    let before = cloud.requests_to("POST", TOKEN).len();
    let error = login().await?.wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginExpired, "{error}");
    assert_eq!(cloud.requests_to("POST", TOKEN).len(), before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_lookups_and_no_value_comes_to_this_process() -> Outcome {
    let server = FakeServer::start().await?;
    let cloud = FakeCloud::start().await?;
    let key = server.session_api_key();
    cloud.supply(server.url(), key);
    cloud.set_secret("GITHUB TOKEN", "canary", "for pushes");
    cloud.set_account(json!({
        "llm_model": "openai/gpt-5", "llm_api_key": "canary-key", "llm_base_url": null,
        "llm_profiles": {"profiles": {"fast": {"model": "openai/mini", "api_key": "canary-2"}}},
        "mcp_config": {"shttp_servers": [{"url": "https://mcp.example.com/"}]},
    }));
    let builder = CloudServer::builder(cloud.api_key()).url(cloud.url());
    let server = builder.poll_every(SOON).start().await?;

    let secrets = server.secrets().await?;
    let base = format!(
        "{}/api/v1/sandboxes/sandbox-1/settings/secrets",
        cloud.url()
    );
    let expected = json!([["GITHUB TOKEN", {
        "kind": "LookupSecret",
        "url": format!("{base}/GITHUB%20TOKEN"),
        "headers": {"X-Session-API-Key": key},
        "description": "for pushes",
    }]]);
    assert_eq!(serde_json::to_value(&secrets)?, expected);
    let route = "/api/v1/sandboxes/{id}/settings/secrets/{name}";
    assert!(cloud.requests_to("GET", route).is_empty());

    let (llm, fast) = (server.llm().await?, server.llm_profile("fast").await?);
    assert!(!format!("{llm:?} {fast:?} {secrets:?}").contains("canary"));
    let expected = json!([
        {"model": "openai/gpt-5", "api_key": "canary-key"},
        {"model": "openai/mini", "api_key": "canary-2", "usage_id": "profile:fast"},
    ]);
    assert_eq!(json!([llm, fast]), expected);
    let error = server.llm_profile("none").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");

    let servers = server.mcp_servers().await?;
    assert_eq!(servers[0].0, "shttp_0");
    server.shutdown(Duration::ZERO).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_in_a_sandbox_uses_its_server_and_ends_nothing() -> Outcome {
    let server = FakeServer::start().await?;
    let cloud = FakeCloud::start().await?;
    cloud.supply(server.url(), server.session_api_key());
    cloud.set_secret("A", "canary", "");
    let builder = || {
        CloudServer::builder(cloud.api_key())
            .url(cloud.url())
            .poll_every(SOON)
    };
    let owner = builder().start().await?;

    let place = InsideSandbox::new(server.address().port(), server.session_api_key());
    let inside = builder()
        .attach_inside(place.clone().sandbox_id(owner.id()))
        .await?;
    assert_eq!(inside.id(), owner.id());
    assert_eq!(inside.url().port(), Some(server.address().port()));
    assert_eq!(inside.secrets().await?[0].0, "A");
    for error in [inside.pause().await, inside.resume().await] {
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    inside.remove().await?;

    // Without the id, the server works, and only the account's settings cannot be requested.
    let inside = builder().attach_inside(place).await?;
    assert!(inside.client().is_alive().await);
    let error = inside.secrets().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    drop(inside);

    assert_eq!(cloud.sandboxes()[0].status, "RUNNING");
    assert!(owner.client().is_alive().await);
    let wrong = InsideSandbox::new(server.address().port(), "another-key");
    let error = builder().attach_inside(wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    owner.shutdown(Duration::ZERO).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_and_secrets_of_the_account_are_changed() -> Outcome {
    let cloud = FakeCloud::start().await?;
    cloud.set_account(json!({"llm_model": "openai/gpt-5", "llm_api_key": "canary"}));
    let api = api(&cloud)?;
    api.save_settings(json!({"language": "de"})).await?;
    let settings = api.settings().await?;
    assert_eq!(settings.llm_model(), Some("openai/gpt-5"));
    assert!(settings.has_llm_api_key() && settings.llm_base_url().is_none());
    assert_eq!(settings.raw()["language"], "de");

    for number in 0..120 {
        cloud.set_secret(&format!("S{number}"), "canary", "");
    }
    api.create_secret("A/B", SecretString::from("canary-value"), "one")
        .await?;
    assert_eq!(cloud.secret("A/B").as_deref(), Some("canary-value"));
    let secrets = api.secrets().await?;
    assert_eq!(secrets.len(), 121);
    api.rename_secret("A/B", "C", "two").await?;
    assert_eq!(cloud.secret("C").as_deref(), Some("canary-value"));
    api.delete_secret("C").await?;
    let error = api.delete_secret("C").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = api
        .create_secret("S1", "canary-value", "")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repositories_organizations_and_any_other_route_are_reached() -> Outcome {
    let cloud = FakeCloud::start().await?;
    let api = api(&cloud)?;
    let search = GitSearch::new("github").limit(2);
    let first = api.repositories(search.clone()).await?;
    assert_eq!(first.items[0].full_name, "ada/engine");
    let next = first.next_page.ok_or("there is another page")?;
    let second = api.repositories(search.page(next)).await?;
    assert_eq!((second.items.len(), second.next_page), (1, None));
    let found = api
        .repositories(GitSearch::new("github").query("notes"))
        .await?;
    assert_eq!(
        (found.items.len(), &*found.items[0].main_branch),
        (1, "main")
    );
    let branches = api.branches("ada/engine", GitSearch::new("github")).await?;
    assert!(branches.items[0].is_protected);
    let organizations = api.organizations().await?;
    assert!(organizations[0].is_current && organizations[0].is_personal);

    let me = api.call(Any::get("/api/v1/users/me")).await?;
    assert!(me.to_value().is_object());
    let missing = Any::new(Method::PATCH, "/api/v1/nothing");
    let error = api.call(missing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = api.call(Any::get("nothing")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");

    cloud.expire_key();
    let error = api.settings().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    let shown = format!("{api:?} {error:?}");
    assert!(!shown.contains(cloud.api_key()), "{shown}");
    Ok(())
}
